"""The tasks by their `task.kind`."""

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus
from trainer.tasks import (
    causal_lm,
    image_text,
    joint_model,
    joint_relations,
    kg_completion,
    kg_model,
    masked_lm,
    multi_model,
    multi_task,
    pooled,
    relations,
    rerank,
    seq2seq,
    tag_model,
    token_labels,
)
from trainer.tasks.objective import Objective, Predict

TASKS: dict[str, Callable[[Recipe, PreTrainedTokenizerBase, Corpus], Objective]] = {
    "causal_lm": causal_lm.objective,
    "classify": pooled.objective,
    "seq2seq": seq2seq.objective,
    "image_text": image_text.objective,
    "joint_relations": joint_relations.objective,
    "kg_completion": kg_completion.objective,
    "masked_lm": masked_lm.objective,
    "multi_task": multi_task.objective,
    "relations": relations.objective,
    "rerank": rerank.objective,
    "token_labels": token_labels.objective,
}
PREDICTORS: dict[str, Callable[[Recipe, Path, PreTrainedTokenizerBase, PreTrainedModel], Predict]] = {
    "classify": pooled.predictor,
    "image_text": image_text.predictor,
    "joint_relations": joint_model.predictor,
    "kg_completion": kg_model.predictor,
    "masked_lm": masked_lm.predictor,
    "multi_task": multi_model.predictor,
    "relations": relations.predictor,
    "rerank": rerank.predictor,
    "seq2seq": seq2seq.predictor,
    "token_labels": tag_model.predictor,
}
"""What finished runs say to rows; a language model answers by `data/answers.py`."""
