"""The tokenizer of a run: one that exists, or a byte-level BPE trained on the training rows."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from trainer.config.model import NewTokenizer
from trainer.config.recipe import Recipe
from trainer.config.relations import MARKERS
from trainer.data import templates
from trainer.data.findings import Findings
from trainer.data.formats import Example, check_fields, only_images
from trainer.data.rank_zero import once_a_node
from trainer.data.reading import read_all
from trainer.data.sources import name_of, train_sources
from trainer.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

SPECIAL = (templates.END_OF_TEXT, templates.START, templates.END)
MASK = "<|mask|>"
_SETTINGS = "trained.json"
_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


def load(recipe: Recipe, folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer that the recipe names; a new one is trained once and kept in `folder/tokenizer`.

    Its chat template is the one that the rows are written with. Every rank calls this; rank 0 goes first.
    """
    settings = recipe.model.tokenizer
    if only_images(recipe.data):
        return no_words()
    if isinstance(settings, NewTokenizer):
        place = folder / "tokenizer"
        once_a_node(lambda: _train_unless_there(recipe, settings, place), folder)
        tokenizer = _from_folder(place)
    else:
        # The others find what the first of their node has downloaded.
        first = once_a_node(lambda: _pretrained(recipe), None)
        tokenizer = _pretrained(recipe) if first is None else first
    _add_tokens(recipe, tokenizer)
    if templates.writes_conversations(recipe):
        tokenizer.chat_template = templates.choose(recipe, tokenizer)
    return tokenizer


def of_result(recipe: Recipe, result: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a finished run."""
    from transformers import AutoTokenizer

    if only_images(recipe.data):
        return no_words()
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(result)
    return tokenizer


def no_words() -> "PreTrainedTokenizerBase":
    """A tokenizer with one token, for models that read nothing."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"[IMAGE]": 0}, unk_token="[IMAGE]"))
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[IMAGE]")
    return tokenizer


def padding_of(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that fills rows up; one without a padding token fills them with its end-of-text token."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(number) for number in known if number is not None), 0)


def new_tokens(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase") -> range:
    """The ids of `model.add_tokens`, which follow one another."""
    ids = [int(tokenizer.convert_tokens_to_ids(token)) for token in recipe.model.add_tokens]
    if not ids:
        return range(0)
    assert ids == list(range(ids[0], ids[0] + len(ids))), "a tokenizer numbers new tokens in their order"
    return range(ids[0], ids[0] + len(ids))


def _add_tokens(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase") -> None:
    known = tokenizer.get_vocab() if recipe.model.add_tokens else {}
    held = [
        Problem(f"model.add_tokens.{index}", f"{token!r} is a token of this tokenizer already; leave it out")
        for index, token in enumerate(recipe.model.add_tokens)
        if token in known and token not in MARKERS
    ]
    if held:
        raise RecipeError(held)
    tokenizer.add_tokens(list(recipe.model.add_tokens))


def _pretrained(recipe: Recipe) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or hub id; RecipeError where it does not load."""
    from transformers import AutoTokenizer

    model = recipe.model
    key = "model.name" if model.tokenizer is None else "model.tokenizer"
    name = model.tokenizer if isinstance(model.tokenizer, str) else model.name
    assert name is not None, "the rules ask for one of the two"
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in _FILES):
            raise RecipeError(
                [Problem(key, f"the folder {name} holds no tokenizer (tokenizer.json); name one that does")]
            )
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise RecipeError([Problem(key, f"{name}: no such folder; name a transformers folder or a hub id")])
    # What is downloaded already needs no network, whose retries take a minute where there is none.
    failure: Exception | None = None
    attempts = [True] if path.is_dir() or not _hub_answers() else [True, False]
    for local in attempts:
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                str(path) if path.is_dir() else name,
                revision=model.revision if key == "model.name" else None,
                trust_remote_code=model.trust_remote_code,
                local_files_only=local,
            )
        except (OSError, ValueError, KeyError) as error:
            failure = error
        else:
            return tokenizer
    lines = str(failure).strip().splitlines()
    reason = lines[0].rstrip(".") if lines else type(failure).__name__
    way_out = "name a folder that holds tokenizer.json, or a hub id that this machine can reach"
    raise RecipeError([Problem(key, f"{name}: no tokenizer could be loaded ({reason}); {way_out}")]) from failure


def _hub_answers() -> bool:
    """Whether the model hub can be reached; a proxy is taken at its word."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _from_folder(place: Path) -> "PreTrainedTokenizerBase":
    from transformers import PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(str(place))
    return tokenizer


def _train_unless_there(recipe: Recipe, settings: NewTokenizer, place: Path) -> None:
    """Keeps a trained one also when files have changed since: checkpoints of the run know its tokens only."""
    wanted: dict[str, Any] = {
        "vocab_size": settings.vocab_size,
        "sources": [source.model_dump(mode="json") for source in recipe.data.train],
    }
    described = place / _SETTINGS
    if recipe.task.kind == "masked_lm":
        wanted["mask"] = MASK
    if described.is_file() and json.loads(described.read_text(encoding="utf-8")) == wanted:
        return
    tokenizer = _train(recipe, settings)
    unfinished = place.with_name(place.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    tokenizer.save_pretrained(unfinished)
    (unfinished / _SETTINGS).write_text(json.dumps(wanted), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    unfinished.rename(place)


def _train(recipe: Recipe, settings: NewTokenizer) -> "PreTrainedTokenizerBase":
    """A byte-level BPE (Sennrich 2016, with the bytes of Radford 2019) with ChatML's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    mask = {"mask_token": MASK} if recipe.task.kind == "masked_lm" else {}
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=[*SPECIAL, *mask.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    check_fields(recipe.data)
    findings = Findings(recipe.data.max_bad_rows)
    backend.train_from_iterator(_texts(recipe, findings), trainer)
    findings.raise_if_any()
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=templates.END,
        pad_token=templates.END_OF_TEXT,
        additional_special_tokens=[templates.START],
        **mask,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = templates.CHATML
    return tokenizer


def _texts(recipe: Recipe, findings: Findings) -> Iterator[str]:
    """What all training rows say."""
    for key, source in train_sources(recipe.data):
        for seen, example in enumerate(read_all(recipe.task, key, source), start=1):
            if isinstance(example, Example):
                yield from example.texts()
            else:
                findings.add(name_of(source), example)
            if findings.enough(name_of(source), seen):
                break
