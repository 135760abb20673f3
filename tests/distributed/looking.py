"""One optimizer step of a model that sees on this rank, and its gradient by a plain loop."""

import io
from typing import Any

import numpy as np
import torch
from a_model import END, _tokenizer
from distributed import steps
from PIL import Image as Pictures
from torch.nn import functional
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from trainer.data.batches import Layout
from trainer.data.encoded import Encoded
from trainer.data.images import Image
from trainer.tasks import image_text
from trainer.tasks.eyes import Eyes

SIZE, PATCH = 8, 4
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}"
    "{{ p['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def processor() -> Any:
    """A processor of LLaVA for images of 8 x 8 pixels, 2 x 2 patches and the class token."""
    tokenizer = _tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    pixels = CLIPImageProcessor(size={"height": SIZE, "width": SIZE}, do_center_crop=False)
    return LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def model(dtype: torch.dtype = torch.float32) -> Any:
    """A small LLaVA, equal wherever it is made."""
    words = processor().tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    seen = CLIPVisionConfig(**sizes, image_size=SIZE, patch_size=PATCH)
    special = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256}
    said = LlamaConfig(**sizes, **special, vocab_size=len(words), num_key_value_heads=2, max_position_embeddings=128)
    torch.manual_seed(7)
    config = LlavaConfig(
        vision_config=seen,
        text_config=said,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return LlavaForConditionalGeneration(config).to(dtype)


def rows_of(count: int) -> tuple[list[tuple[str, str]], list[tuple[Image, ...]]]:
    """Questions and answers of unlike length about none, one or two images."""
    generator, texts, images = np.random.default_rng(2), [], []
    for row in range(count):
        seen = tuple(_picture(generator) for _ in range(row % 3))
        question = "<image>" * len(seen) + "what?" * int(generator.integers(1, 5))
        texts.append((question, "an answer"[: int(generator.integers(1, 9))]))
        images.append(seen)
    return texts, images


def _picture(generator: Any) -> Image:
    file, (height, width) = io.BytesIO(), generator.integers(5, 20, 2)
    Pictures.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return Image("drawn", file.getvalue())


def gradient(kind: str, zero: int, micro: int, rows: int, global_: int, step: int) -> dict[str, np.ndarray]:
    """The full gradient of optimizer step `step` in steps of `global_` examples."""
    (texts, images), seeing = rows_of(rows), processor()
    words, found = seeing.tokenizer, []
    for question, answer in texts:
        asked, said = (words(text)["input_ids"] for text in (question, answer + END))
        tokens = np.array(asked + said, dtype=np.int32)
        found.append(Encoded(tokens, np.arange(len(tokens)) >= len(asked)))
    objective = image_text.AnswersAboutImages(Eyes(seeing, words), {"train": images.__getitem__}, None)
    layout = Layout(global_=global_, micro=micro, packing=False, micro_tokens=1000, pad=256)
    made: dict[str, np.ndarray] = steps.step_of(objective, model(), steps.Rows(found), layout, kind, zero, step)[
        "gradients"
    ]
    return made


def reference(rows: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The same in float64: one example at a time, as the processor itself puts it together; one division."""
    (texts, images), seeing, plain = rows_of(rows), processor(), model(torch.float64)
    answers = [len(seeing.tokenizer(answer + END)["input_ids"]) for _, answer in texts]
    total = sum(answers[first : first + count])
    for row in range(first, first + count):
        question, answer = texts[row]
        pictures = [Pictures.open(io.BytesIO(image.content)).convert("RGB") for image in images[row]]
        taken = seeing(text=[question + answer + END], images=[pictures] if pictures else None, return_tensors="pt")
        if pictures:
            taken["pixel_values"] = taken["pixel_values"].double()
        logits = plain(**taken).logits[0]
        learned = answers[row]
        summed = functional.cross_entropy(logits[-learned - 1 : -1], taken["input_ids"][0, -learned:], reduction="sum")
        (summed / total).backward()
    parameters = plain.named_parameters()
    return {f"model.{name}": np.zeros(one.shape) if one.grad is None else one.grad.numpy() for name, one in parameters}
