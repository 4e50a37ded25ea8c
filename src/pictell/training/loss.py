"""What training minimises, with its two terms apart.

    loss = cross-entropy per real word  +  alpha_c * mean over regions of (target - attention sum)^2

Xu et al. 2015, equation 14. With 196 regions and about 12 words the second term cannot fall below
about 0.88: losses of models with and without attention must never be compared, cross-entropies may.

Axes: B captions, N real words, L regions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pictell.decoders.base import TeacherForced


@dataclass
class Tally:
    """Sums over words and captions, from which means are made at the end.

    Attributes:
        cross_entropy: Sum over real words, in nats.
        top5: Real words that were among the five most probable.
        words: Real words, `<end>` included.
        regularisation: Sum over captions of the attention term, before alpha_c.
        captions: Captions.
        smoothing: What label smoothing and teachers add to the sum of cross-entropy.
    """

    cross_entropy: float = 0.0
    top5: float = 0.0
    words: float = 0.0
    regularisation: float = 0.0
    captions: float = 0.0
    smoothing: float = 0.0

    def __iadd__(self, other: Tally) -> Tally:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def means(self, alpha_c: float) -> dict[str, float]:
        """`loss`, `cross_entropy` (per word), `regularisation` (per caption), `top5` (share)."""
        words, captions = max(self.words, 1), max(self.captions, 1)
        mean = self.cross_entropy / words
        regularisation = self.regularisation / captions
        return {
            "loss": mean + alpha_c * regularisation + self.smoothing / words,
            "cross_entropy": mean,
            "regularisation": regularisation,
            "top5": self.top5 / words,
        }


def attention_term(sums: Tensor, lengths: Tensor, target: str) -> Tensor:
    """For each caption, the mean over regions of (target - attention sum)^2: (B,).

    Args:
        sums: (B, L) attention that each region got over a caption's real words.
        lengths: (B,) real words.
        target: `one`, or `mean`: words / regions, which attention can reach everywhere at once.
    """
    wanted: float | Tensor = 1.0
    if target == "mean":
        wanted = (lengths.to(sums) / sums.shape[1])[:, None]
    return ((wanted - sums) ** 2).mean(dim=1)


def attention_regularisation(sums: Tensor, lengths: Tensor, target: str) -> Tensor:
    """The sum of `attention_term` over the captions."""
    return attention_term(sums, lengths, target).sum()


def loss_sums(
    output: TeacherForced, targets: Tensor, lengths: Tensor, alpha_target: str
) -> tuple[Tensor, Tensor]:
    """Sums over a batch: cross-entropy over its words, regularisation over its captions."""
    entropy = cross_entropy(output.logits.float(), targets, reduction="sum")
    if output.attention_sums is None:
        return entropy, torch.zeros_like(entropy)
    sums = output.attention_sums.float()
    return entropy, attention_regularisation(sums, lengths, alpha_target)


def smoothing_sum(logits: Tensor, targets: Tensor, share: float) -> Tensor:
    """What label smoothing adds to a batch's cross-entropy, summed over its words.

    The share of each target's probability is spread over all words alike (Szegedy et al. 2016,
    section 7). It is kept apart, so that cross-entropies compare with and without it.

    Args:
        logits: (N, V).
        targets: (N,).
        share: 0 to 1.
    """
    log_probs = logits.float().log_softmax(dim=1)
    own = log_probs.gather(1, targets[:, None])[:, 0]
    return share * (own - log_probs.mean(dim=1)).sum()


@torch.no_grad()
def is_top5(logits: Tensor, targets: Tensor) -> Tensor:
    """Which targets are among the five most probable words: logits (N, V), targets (N,) -> (N,)."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return (best == targets[:, None]).any(dim=1)


def top5_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """How many targets are among the five most probable words."""
    return is_top5(logits, targets).sum()
