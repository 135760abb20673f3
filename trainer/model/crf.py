"""A linear-chain conditional random field (Lafferty, McCallum and Pereira 2001) over the tags of words.

B rows, W words, L tags. Rows are filled up on the right.
"""

from collections.abc import Sequence

import torch
from torch import nn

FORBIDDEN = -1e4
"""What a step that may not be taken adds to the score of a path."""


class Crf(nn.Module):
    """Scores of the first tag, of each tag after another, and of the last one; all of them 0 at first."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(tags))
        self.after = nn.Parameter(torch.zeros(tags, tags))
        """[i, j]: of tag j after tag i."""
        self.last = nn.Parameter(torch.zeros(tags))

    def loss(self, scores: torch.Tensor, tags: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """The negative log-likelihood of the tags, summed over rows; a row without a word adds 0.

        `scores` [B, W, L] of each tag by itself, `tags` [B, W], `there` [B, W] whether a word stands there.
        """
        scores, first, after, last = (one.float() for one in (scores, self.first, self.after, self.last))
        reached = first + scores[:, 0]
        tags = tags.where(there, 0)
        path = first[tags[:, 0]] + _of(scores[:, 0], tags[:, 0])
        for word in range(1, scores.shape[1]):
            more = torch.logsumexp(reached[:, :, None] + after, dim=1) + scores[:, word]
            reached = torch.where(there[:, word, None], more, reached)
            step = after[tags[:, word - 1], tags[:, word]] + _of(scores[:, word], tags[:, word])
            path = path + step * there[:, word]
        ends = (there.sum(dim=1) - 1).clamp(min=0)
        path = path + last[tags.gather(1, ends[:, None])[:, 0]]
        each = torch.logsumexp(reached + last, dim=1) - path
        # Rows of one word have no steps; DDP waits for a gradient of them all the same.
        return (each * there[:, 0]).sum() + 0.0 * after.sum()

    @torch.no_grad()
    def best(
        self, scores: torch.Tensor, there: torch.Tensor, allowed: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The tags of the best path [B, W] (Viterbi); what stands where no word is means nothing.

        `allowed`: which tags may be the first [L], and which may follow which [L, L].
        """
        scores, first, after, last = (one.float() for one in (scores, self.first, self.after, self.last))
        if allowed is not None:
            first = first + FORBIDDEN * ~allowed[0].to(first.device)
            after = after + FORBIDDEN * ~allowed[1].to(after.device)
        reached, before = first + scores[:, 0], []
        own = torch.arange(len(first), device=scores.device).expand_as(reached)
        for word in range(1, scores.shape[1]):
            best, came = (reached[:, :, None] + after).max(dim=1)
            # Past the end each tag comes from itself, and nothing is added.
            reached = torch.where(there[:, word, None], best + scores[:, word], reached)
            before.append(torch.where(there[:, word, None], came, own))
        tag = (reached + last).argmax(dim=1)
        path = [tag]
        for came in reversed(before):
            tag = came.gather(1, tag[:, None])[:, 0]
            path.append(tag)
        return torch.stack(path[::-1], dim=1)


def allowed_in_bio(tags: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which BIO tags may be the first [L], and which may follow which [L, L]."""
    first = torch.tensor([not tag.startswith("I-") for tag in tags])
    follows = torch.ones(len(tags), len(tags), dtype=torch.bool)
    for number, tag in enumerate(tags):
        if tag.startswith("I-"):
            follows[:, number] = torch.tensor([before in (tag, f"B-{tag[2:]}") for before in tags])
    return first, follows


def _of(scores: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """The score of one tag in each row: [B, L] by [B] to [B]."""
    return scores.gather(1, tags[:, None])[:, 0]
