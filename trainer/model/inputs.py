"""What the forward of a model takes besides tokens."""

from inspect import signature

from transformers import PreTrainedModel


def takes_types(model: PreTrainedModel) -> bool:
    """Whether the model, like BERT, tells several texts of a row apart.

    GPT-2 and its kin have such an input too, and add the embedding of the word with that number.
    """
    kinds = getattr(model.config, "type_vocab_size", None) or 0
    return kinds > 1 and "token_type_ids" in signature(model.base_model.forward).parameters
