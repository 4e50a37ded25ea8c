"""Draw captions from a decoder's own distribution, and say how probable given ones are under it.

    words, lengths = sample_captions(decoder.step, decoder.start(features), 6, samples=5,
                                     max_length=30, device=device)
    log_probability = caption_log_probabilities(decoder, features, words, lengths, owners)

Both speak of the same distribution: the decoder's, without the words that search never writes, so
that the second is the exact log-probability of what the first drew.

Axes: B images, K samples of a picture, M captions, T words, N real words, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pictell.data.text import END, PAD, START
from pictell.decoders.base import Decoder, State, counts_of, pack, targets_of
from pictell.decoders.search import StepFunction, forbidden


@torch.no_grad()
def sample_captions(
    step: StepFunction,
    state: State,
    images: int,
    *,
    samples: int,
    max_length: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Draw captions word by word.

    Args:
        step: Reads one word a beam and predicts the next.
        state: The decoder before the first word, with one beam a picture.
        images: How many pictures, B.
        samples: Captions of each, K; they share what belongs to the picture.
        max_length: A caption that has not ended is cut at this many words.
        device: Where the state lives.

    Returns:
        Words (B, K, T), `<end>` last where the caption ended by itself, then padded, and their
        lengths (B, K), `<end>` included.
    """
    written = torch.full((images, samples, max_length), PAD, device=device)
    lengths = torch.zeros(images, samples, dtype=torch.long, device=device)
    going = torch.ones(images, samples, dtype=torch.bool, device=device)
    rows = torch.arange(images, device=device)  # pictures that are still stepped
    state = state.select_beams(torch.zeros(images, samples, dtype=torch.long, device=device))
    words = torch.full((images, samples), START, device=device)
    for t in range(max_length):
        output = step(state, words)
        state, words = output.state, _draw(output.logits.float(), first=t == 0)
        alive = going[rows]  # (B', K)
        written[rows, :, t] = torch.where(alive, words, PAD)
        lengths[rows] += alive
        going[rows] = alive & (words != END)
        unfinished = going[rows].any(dim=1)
        if not unfinished.any():
            break
        # Dropping pictures copies their keys: worth it only when many are done.
        if unfinished.sum() <= len(rows) // 2:
            index = unfinished.nonzero()[:, 0]
            state, words, rows = state.select_images(index), words[index], rows[index]
    return written[:, :, : int(lengths.max())], lengths


def _draw(logits: Tensor, *, first: bool) -> Tensor:
    """A word for each row: (B, K, V) -> (B, K)."""
    chances = (logits + forbidden(logits, first=first)).softmax(dim=-1)
    return torch.multinomial(chances.flatten(0, 1), 1).view(logits.shape[:2])


def caption_log_probabilities(
    decoder: Decoder, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor
) -> Tensor:
    """Log-probability of each caption, `<end>` included, with gradients.

    Args:
        decoder: In eval mode, if it is to be the distribution that search writes from.
        features: (B, C, D) cells of the pictures.
        words: (M, T) as `sample_captions` gives them, in order of falling length.
        lengths: (M,) on the CPU.
        owners: (M,) which picture each caption belongs to.

    Returns:
        (M,).
    """
    start = torch.full_like(words[:, :1], START)
    read = torch.cat([start, words[:, :-1]], dim=1)
    logits = decoder.teacher_forced(features, read, lengths, owners).logits  # (N, V)
    allowed = logits.to(torch.promote_types(logits.dtype, torch.float32))
    allowed = allowed + forbidden(allowed, first=False)
    allowed[: counts_of(lengths)[0], END] = -torch.inf  # the first words stand first
    log_probs = allowed.log_softmax(dim=1)
    chosen = log_probs.gather(1, targets_of(words, lengths)[:, None])[:, 0]
    captions = torch.arange(len(words), device=words.device)[:, None].expand_as(words)
    return chosen.new_zeros(len(words)).index_add(0, pack(captions, lengths), chosen)
