"""A recipe goes to a launcher: rendered, looked at, handed over. Nothing here imports torch."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer import prepare
from trainer.errors import Problem, RecipeError
from trainer.launch.job import FOLDER, Job, Sent, Target, array_settings, make
from trainer.launch.rendering import problems, render
from trainer.launch.targets import TARGETS
from trainer.plan import plan as plans
from trainer.plan.files import write_text


class Rendered:
    """What a launcher would get."""

    def __init__(self, path: Path, settings: Sequence[str], kind: str | None) -> None:
        """RecipeError with all that is wrong with the recipe, or with the way to this launcher."""
        chosen = [*settings, *([f"launch.kind={kind}"] if kind else [])]
        self.recipe = prepare.read(path, chosen)
        plans.check_batch(self.recipe)
        self.target: Target = TARGETS[self.recipe.launch.kind]
        for own in array_settings(self.recipe):
            prepare.read(path, [*chosen, *own])
        self.job: Job = make(self.recipe, path, settings, elsewhere=self.target.elsewhere)
        if found := problems(self.job, self.target):
            raise RecipeError(found)
        self.text = render(self.job, self.target)

    def send(self, say: Callable[[str], None]) -> Sent:
        """Hands it over; RecipeError where something is still to be filled in, or its launcher is not here."""
        kind = self.recipe.launch.kind
        found = [Problem(key, f"is needed to hand a run over to {kind}; --print shows where") for key in self.job.open]
        if shutil.which(self.target.program) is None:
            message = f"{kind} needs the program {self.target.program}, which is not on this machine"
            found.append(Problem("launch.kind", f"{message}; run the command where it is, or add --print"))
        if found:
            raise RecipeError(found)
        if self.target.elsewhere:  # its rows and its run folder need not be here
            file = Path(f"{self.job.name}.{self.target.template}")
        else:
            say("Checking the rows ...")
            prepare.plan_of(self.recipe)
            file = Path(self.recipe.output) / FOLDER / self.target.template
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, self.text)
        except OSError as error:
            message = f"{file} cannot be written: {error.strerror}; choose another folder"
            raise RecipeError([Problem("output", message)]) from None
        return self.target.hand_over(self.job, file)
