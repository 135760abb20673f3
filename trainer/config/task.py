"""`task:` what is learned; the settings of each `kind` stand in the file of its name."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.config.causal_lm import CausalLM
from trainer.config.classify import Classify
from trainer.config.image_text import ImageText
from trainer.config.joint_relations import JointRelations
from trainer.config.kg_completion import KgCompletion
from trainer.config.masked_lm import MaskedLM
from trainer.config.multi_task import MultiTask
from trainer.config.relations import Relations
from trainer.config.rerank import Rerank
from trainer.config.seq2seq import Seq2Seq
from trainer.config.token_labels import TokenLabels

FALLING = ("loss", "perplexity", "rmse", "mae")
"""The metrics of which less is better."""
Task = Annotated[
    CausalLM
    | Seq2Seq
    | MaskedLM
    | Classify
    | TokenLabels
    | Relations
    | JointRelations
    | KgCompletion
    | Rerank
    | ImageText
    | MultiTask,
    Field(discriminator="kind"),
]
BY_KIND = {kind.model_fields["kind"].annotation.__args__[0]: kind for kind in get_args(get_args(Task)[0])}
"""The settings of each `task.kind`."""
DEFAULT = "causal_lm"
