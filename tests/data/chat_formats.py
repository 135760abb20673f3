"""Chat formats as their makers publish them, written out without Jinja; what is learned stands between ⟦ and ⟧."""

# ruff: noqa: RUF001 (DeepSeek's bars are wide ones)

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

Talk = Sequence[dict[str, Any]]

QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SMOL = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def turns(
    talk: Talk,
    opening: Callable[[str], str],
    end: str,
    trim: Callable[[str], str] = lambda text: text,
    after: str = "",
) -> str:
    """Every message between an opening, which names its role, and an end; `after` belongs to neither."""
    return "".join(
        f"{opening(message['role'])}⟦{trim(message['content'])}{end}⟧{after}"
        if message["role"] == "assistant"
        else f"{opening(message['role'])}{trim(message['content'])}{end}{after}"
        for message in talk
    )


def chatml(talk: Talk) -> str:
    return turns(talk, lambda role: f"<|im_start|>{role}\n", "<|im_end|>\n")


def with_system(talk: Talk, content: str) -> Talk:
    return talk if talk[0]["role"] == "system" else [{"role": "system", "content": content}, *talk]


def llama3(talk: Talk) -> str:
    header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    return "<|begin_of_text|>" + turns(talk, header, "<|eot_id|>", str.strip)


def qwen3(talk: Talk) -> str:
    """The last answer follows an empty thought, which is learned with it; earlier ones do not."""
    text = chatml(talk)
    if talk[-1]["role"] != "assistant":
        return text
    before, _, last = text.rpartition("⟦")
    return f"{before}⟦<think>\n\n</think>\n\n{last.lstrip(chr(10))}"


def mistral(talk: Talk) -> str:
    """The system prompt stands in the last question."""
    system = f"{talk[0]['content']}\n\n" if talk[0]["role"] == "system" else ""
    talk = talk[1:] if system else talk
    last = max(number for number, message in enumerate(talk) if message["role"] == "user")
    return "<s>" + "".join(
        f"[INST] {system if number == last else ''}{message['content']}[/INST]"
        if message["role"] == "user"
        else f"⟦ {message['content'].strip()}</s>⟧"
        for number, message in enumerate(talk)
    )


def gemma(talk: Talk) -> str:
    roles = {"user": "user", "assistant": "model"}
    return "<bos>" + turns(talk, lambda role: f"<start_of_turn>{roles[role]}\n", "<end_of_turn>\n", str.strip)


def phi(talk: Talk) -> str:
    """Whatever stands last is followed by the end of the text."""
    text = turns(talk, "<|{}|>\n".format, "<|end|>\n")
    return f"{text[:-1]}<|endoftext|>⟧" if text.endswith("⟧") else f"{text}<|endoftext|>"


def zephyr(talk: Talk) -> str:
    return turns(talk, "<|{}|>\n".format, "</s>\n")


def deepseek(talk: Talk) -> str:
    """The system prompt stands bare at the start; questions have no end."""
    written = {"system": "{}", "user": "<｜User｜>{}", "assistant": "<｜Assistant｜>⟦{}<｜end▁of▁sentence｜>⟧"}
    said = (written[message["role"]].format(message["content"]) for message in talk)
    return "<｜begin▁of▁sentence｜>" + "".join(said)


def command_r(talk: Talk) -> str:
    tokens = {"system": "SYSTEM", "user": "USER", "assistant": "CHATBOT"}
    start = "<BOS_TOKEN>"
    if talk[0]["role"] == "system":
        start += f"<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{talk[0]['content']}<|END_OF_TURN_TOKEN|>"
        talk = talk[1:]
    opening = lambda role: f"<|START_OF_TURN_TOKEN|><|{tokens[role]}_TOKEN|>"  # noqa: E731
    return start + turns(talk, opening, "<|END_OF_TURN_TOKEN|>", str.strip)


@dataclass(frozen=True)
class Format:
    """One published format, and the special tokens of its tokenizer; the first is that of the end of a turn."""

    written: Callable[[Talk], str]
    special: tuple[str, ...]
    bos: str | None = None
    eos: str | None = None
    has_system: bool = True


IM = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
FORMATS = {
    "llama3": Format(
        llama3,
        ("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"),
        bos="<|begin_of_text|>",
    ),
    "qwen25": Format(lambda talk: chatml(with_system(talk, QWEN)), IM),
    "qwen3": Format(qwen3, IM),
    "mistral": Format(
        mistral, ("</s>", "<s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"), bos="<s>"
    ),
    "gemma": Format(gemma, ("<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>"), bos="<bos>", has_system=False),
    "phi": Format(phi, ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"), eos="<|endoftext|>"),
    "chatml": Format(chatml, IM),
    "zephyr": Format(zephyr, ("</s>", "<s>", "<unk>")),
    "deepseek": Format(
        deepseek,
        ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        bos="<｜begin▁of▁sentence｜>",
    ),
    "smollm2": Format(lambda talk: chatml(with_system(talk, SMOL)), IM),
    "command_r": Format(
        command_r,
        (
            "<|END_OF_TURN_TOKEN|>",
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
        ),
        bos="<BOS_TOKEN>",
    ),
}
"""By the stem of the template in `chat_templates/`."""


def template(name: str) -> str:
    """A template with the generation markers that it may have."""
    return (Path(__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def unmarked(text: str) -> str:
    return re.sub(r"\{% (end)?generation %\}", "", text)


def tokenizer(form: Format) -> PreTrainedTokenizerFast:
    """One token for each byte, besides the special tokens of the format."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(form.special))
    names = {"bos_token": form.bos} if form.bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=form.eos or form.special[0], **names)


def spans(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and where they stood."""
    borders, position, parts = [], 0, re.split("[⟦⟧]", marked)
    for part in parts[:-1]:
        position += len(part)
        borders.append(position)
    return "".join(parts), list(zip(borders[::2], borders[1::2], strict=True))
