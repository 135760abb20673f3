"""No adapter: the model itself trains."""

from transformers import PreTrainedModel


def apply(model: PreTrainedModel) -> PreTrainedModel:
    """The model as it is."""
    return model
