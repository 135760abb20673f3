"""A job becomes the file that its launcher takes, by a Jinja template in launchers/ or the user's own.

Every `{{ value }}` is quoted for the shell or the YAML that it stands in. Filters: `plain` leaves text as it is,
`option` quotes for a line of Slurm's, `words` makes a text of shell words for scripts inside YAML, and
`block` a readable block of YAML.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
)

from trainer import assets
from trainer.errors import Problem, RecipeError
from trainer.launch.job import Job, Target
from trainer.launch.quoting import Plain, Unquotable, as_block, as_option, for_shell, for_yaml


def render(job: Job, target: Target) -> str:
    """The whole file; RecipeError where the template or a value does not go."""
    own = job.launch.template
    ours = assets.folder("launchers")
    place = Path(own).expanduser() if own else ours / target.template
    if not place.is_file():
        raise RecipeError([Problem("launch.template", f"there is no file {place}; name one, or leave it out for ours")])
    shell = target.syntax == "shell"
    environment = Environment(
        loader=FileSystemLoader([place.parent, ours]),
        finalize=partial(_quoted, for_shell if shell else for_yaml),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(plain=Plain, option=as_option, words=for_shell, block=as_block)
    try:
        return environment.get_template(place.name).render(
            job=job,
            launch=job.launch,
            **{"settle": [*job.inside(), *job.module("trainer.launch.settle")], **target.facts(job)},
        )
    except Unquotable as error:
        raise RecipeError([Problem("launch", f"{error}; name another")]) from None
    except TemplateSyntaxError as error:
        raise RecipeError([Problem(f"{error.filename or place}:{error.lineno}", f"{error.message}")]) from None
    except (TemplateNotFound, UnicodeDecodeError) as error:
        raise RecipeError([Problem("launch.template", f"{place} cannot be read: {error}")]) from None
    except (TemplateError, TypeError, ValueError, AttributeError) as error:
        raise RecipeError([Problem(f"{place}:{_line(error, place)}", f"{error}")]) from None


def _quoted(quote: Callable[[Any], str], value: Any) -> str:
    """What stands for a value; nothing for an `if` without an `else`, and an error for a name that is not known."""
    return str(value) if isinstance(value, Undefined) else quote(value)


def _line(error: Exception, place: Path) -> int:
    """The line of a template at which an error arose."""
    trace, line = error.__traceback__, 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(place):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def problems(job: Job, target: Target) -> list[Problem]:
    """Keys of `launch` that are set and that a launcher has no use for, and what it lacks."""
    kind, launch = job.launch.kind, job.launch
    found = [
        Problem(f"launch.{key}", f"says nothing with launch.kind {kind}: {why}; leave it out")
        for key, why in target.no_use.items()
        if getattr(launch, key) not in (None, (), {})
    ]
    if launch.mounts and launch.container is None and not target.elsewhere and "mounts" not in target.no_use:
        found.append(Problem("launch.mounts", "are seen in a container; set launch.container, or leave them out"))
    return found
