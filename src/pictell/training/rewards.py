"""What a sampled caption is worth: CIDEr-D, and BLEU-4 if asked for, against the training captions.

    rewards = CaptionRewards(references, vocabulary)
    values = rewards([[17, 4, 203, END]], images=[8])      # (1,)

Captions are numbers of words and end in `<end>`, references too: the end is a word of the reward.
Without it an unfinished "a man with a" matches all that it has of the references and is never told
that it should not stop there. Document frequencies are counted on the training references alone.
All counts of the references are made once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pictell.data.text import END, Vocabulary
from pictell.metrics import CiderD
from pictell.metrics.bleu import picture_statistics, sentence_bleu


class CaptionRewards:
    """Rewards against the references of the training pictures.

    Args:
        references: For each picture its captions in words.
        vocabulary: Numbers of the words that the model can write.
        bleu: Weight of BLEU-4, smoothed as for single captions, beside CIDEr-D (0 to 10).
    """

    def __init__(
        self,
        references: Sequence[Sequence[Sequence[str]]],
        vocabulary: Vocabulary,
        *,
        bleu: float = 0.0,
    ) -> None:
        numbers = dict(vocabulary.ids)
        # Words that the model cannot write match nothing, but they are words of the references.
        self._references = [
            [[*(numbers.setdefault(w, len(numbers)) for w in words), END] for words in captions]
            for captions in references
        ]
        self._cider, self._bleu = CiderD(self._references), bleu

    def __call__(self, captions: Sequence[Sequence[int]], images: Sequence[int]) -> np.ndarray:
        """The reward of each caption (M,), which belongs to the picture at its position."""
        rewards = self._cider.score(captions, images)
        if self._bleu:
            rows = [
                picture_statistics(caption, self._references[image])
                for caption, image in zip(captions, images, strict=True)
            ]
            rewards = rewards + self._bleu * sentence_bleu(np.array(rows, np.float64), order=4)
        return rewards
