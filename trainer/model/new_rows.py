"""Rows for tokens that are added to a model's vocabulary.

Shapes: B rows of a batch, S tokens, H hidden size, V vocabulary, N new tokens.
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from trainer.errors import Problem, RecipeError


def make_room(model: PreTrainedModel, vocabulary: int) -> None:
    """Embeddings and head with `vocabulary` rows; a new one is the mean of the old ones.

    A plain mean and no draw, so that every rank has the same; rows that a model has to spare stay as they are.
    """
    before = model.get_input_embeddings().num_embeddings
    if vocabulary <= before:
        return
    # Under ZeRO-3 transformers leaves the larger matrices whole on every rank until the engine shares them out.
    model.resize_token_embeddings(vocabulary, mean_resizing=False)
    head = model.get_output_embeddings()
    with torch.no_grad():
        of_head = () if head is None else (head.weight, head.bias)
        for grown in (model.get_input_embeddings().weight, *of_head):
            if grown is not None:
                grown[before:] = grown[:before].float().mean(dim=0).to(grown.dtype)


def let_train(model: PreTrainedModel, first: int, count: int) -> list[str]:
    """Lets the rows of `count` tokens from id `first` train where all others are frozen; their modules' names.

    The new rows are parameters of their own, so that gradients and optimizer know nothing of the others. A head that
    shares its weights with the embeddings shares the new rows too, and is not named.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and head.bias is not None:
        message = "beside an adapter they need a head without a bias, and this model's head has one"
        raise RecipeError([Problem("model.add_tokens", message)])
    names = {module: name for name, module in model.named_modules()}
    rows = nn.Parameter(embedding.weight[first : first + count].detach().clone())
    model.set_input_embeddings(NewEmbeddings(embedding, rows, first))
    if head is None:
        return [names[embedding]]
    tied = head.weight is embedding.weight
    own = rows if tied else nn.Parameter(head.weight[first : first + count].detach().clone())
    model.set_output_embeddings(NewOutputs(head, own, first))
    return [names[embedding]] if tied else [names[embedding], names[head]]


class NewEmbeddings(nn.Module):
    """A frozen embedding with new rows that train."""

    def __init__(self, base: nn.Embedding, rows: nn.Parameter, first: int) -> None:
        """`rows` [N, H] stand for the tokens from id `first`."""
        super().__init__()
        self.base, self.rows, self.first = base, rows, first
        self.num_embeddings = base.num_embeddings
        # Gemma's embeddings are scaled.
        self.scale = getattr(base, "embed_scale", None)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix [V, H], which transformers asks for its type and device."""
        return self.base.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Hidden states [B, S, H] of tokens [B, S]."""
        hidden: torch.Tensor = self.base(tokens)
        place = tokens - self.first
        new = (place >= 0) & (place < len(self.rows))
        own = functional.embedding(place.clamp(0, len(self.rows) - 1), self.rows)
        if self.scale is not None:
            own = own * self.scale.to(own.dtype)
        return torch.where(new[..., None], own, hidden)


class NewOutputs(nn.Module):
    """A frozen head with new rows that train."""

    def __init__(self, base: nn.Linear, rows: nn.Parameter, first: int) -> None:
        """`rows` [N, H] stand for the tokens from id `first`."""
        super().__init__()
        self.base, self.rows, self.first = base, rows, first

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix [V, H], which transformers asks for its type and device."""
        return self.base.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., V] of hidden states [..., H]."""
        logits = self.base(hidden)
        own = functional.linear(hidden, self.rows)
        return torch.cat([logits[..., : self.first], own, logits[..., self.first + len(self.rows) :]], dim=-1)
