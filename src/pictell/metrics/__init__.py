"""Scores of captions: tokens in, statistics per picture and a corpus score out.

    from pictell.metrics import paired_bootstrap, score_captions

    scores = score_captions(hypotheses, references)
    print({name: round(metric.corpus, 4) for name, metric in scores.items()})

Nothing here knows a model, a tokeniser or torch. References are never cut to a vocabulary, so that
`<unk>` in a hypothesis matches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pictell.metrics.base import Metric, Tokens
from pictell.metrics.bleu import bleu, bleu_of
from pictell.metrics.cider import CiderD, DocumentFrequencies, cider_d
from pictell.metrics.rouge import rouge_l
from pictell.metrics.significance import (
    Interval,
    PairedBootstrap,
    RunsBootstrap,
    Spread,
    bootstrap_interval,
    bootstrap_over_runs,
    holm,
    paired_bootstrap,
    pooled_spread,
)
from pictell.metrics.students_t import runs_needed

__all__ = [
    "CiderD",
    "DocumentFrequencies",
    "Interval",
    "Metric",
    "PairedBootstrap",
    "RunsBootstrap",
    "Spread",
    "bleu",
    "bleu_of",
    "bootstrap_interval",
    "bootstrap_over_runs",
    "cider_d",
    "holm",
    "paired_bootstrap",
    "pooled_spread",
    "rouge_l",
    "runs_needed",
    "score_captions",
]


def score_captions(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    document_frequencies: DocumentFrequencies | None = None,
) -> dict[str, Metric]:
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D, in this order, as COCO's evaluation gives them.

    Args:
        hypotheses: one tokenised caption per picture (N); an empty one scores 0.
        references: the tokenised references of each picture (N, one or more each).
        document_frequencies: for CIDEr-D; those of `references` if not given.
    """
    return {
        **bleu(hypotheses, references),
        "ROUGE-L": rouge_l(hypotheses, references),
        "CIDEr-D": cider_d(hypotheses, references, document_frequencies=document_frequencies),
    }
