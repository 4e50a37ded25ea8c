"""Scheduled sampling: in training the decoder reads some words of its own, as it will later.

    words = mix_own_words(decoder, features, words, lengths, owners, probability=0.25)

Bengio et al. 2015, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks": a
coin is thrown for each word. There the decoder goes word by word, and what it reads may follow
words of its own. Here two passes are made (Mihaylova and Martins 2019, "Scheduled Sampling for
Transformers"): one without gradients over the caption as it is, from whose predictions words are
drawn, and one over the mixture. So a drawn word follows the caption's words, not drawn ones; in
return the loops over words keep reading whole captions, and decoders that have no loop are trained
in the same way. Each step has one forward pass more.

Axes: see decoders/base.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pictell.data.text import END, PAD, START, UNKNOWN
from pictell.decoders.base import Decoder, pack

_NEVER_READ = [PAD, START, END, UNKNOWN]  # search writes none of them and reads on


@torch.no_grad()
def mix_own_words(
    decoder: Decoder,
    features: Tensor,
    words: Tensor,
    lengths: Tensor,
    owners: Tensor | None,
    probability: float,
) -> Tensor:
    """Replace words that are read by words that the decoder predicts there.

    Args:
        decoder: It predicts without dropout, as it writes.
        features: (P, C, D) cells of the pictures.
        words: (B, T) words that are read, `<start>` first; that one stays.
        lengths: (B,) real words, falling.
        owners: (B,) which picture a caption belongs to, or None.
        probability: Of each word to be replaced.

    Returns:
        (B, T), a new tensor.
    """
    place = torch.arange(words.numel(), device=words.device).view_as(words)
    has_next = torch.arange(words.shape[1]) < lengths[:, None] - 1  # (B, T): a word is read after
    chosen = torch.rand(words.shape) < probability
    chosen = pack(chosen & has_next, lengths).to(words.device)  # (N,), in the order of the logits
    was_training = decoder.training
    decoder.eval()
    logits = decoder.teacher_forced(features, words, lengths, owners).logits[chosen].float()
    decoder.train(was_training)
    mixed = words.clone()
    if len(logits):
        logits[:, _NEVER_READ] = -torch.inf
        drawn = torch.multinomial(logits.softmax(dim=-1), 1)[:, 0]
        mixed.view(-1)[pack(place, lengths)[chosen] + 1] = drawn
    return mixed
