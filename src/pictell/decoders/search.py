"""Write captions by stepping a decoder: greedy and beam search.

Search knows no model. It takes a start state and a `step` function, so that it can be tested with
tables worked out by hand. Special words other than `<end>` are never written, and `<end>` is never
the first word: a caption is never empty and never holds `<unk>`.

Axes: B images, K beams, V vocabulary, T words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pictell.data.text import END, PAD, START, UNKNOWN
from pictell.decoders.base import State, Step
from pictell.decoders.repeats import block_repeats

StepFunction = Callable[[State, Tensor], Step]
_NEVER = (PAD, START, UNKNOWN)
_RUN = 64  # words, of those that are looked at together when the best are selected


@dataclass(frozen=True)
class Hypothesis:
    """A caption that search found.

    Attributes:
        words: Numbers of the words, without `<start>` and `<end>`.
        log_probability: Sum over the words, and `<end>` if the caption ended by itself.
        score: What hypotheses are ranked by: log-probability / length ** length_penalty, where the
            length counts `<end>`.
        ended: Whether `<end>` was predicted before the maximal length.
    """

    words: list[int]
    log_probability: float
    score: float
    ended: bool


def greedy_search(
    step: StepFunction,
    state: State,
    images: int,
    *,
    max_length: int,
    device: torch.device,
    repeats: int = 0,
) -> list[list[int]]:
    """The most probable word each time: one list of word numbers per picture.

    Args: As for `beam_search`.
    """
    words = torch.full((images, 1), START, device=device)
    written = []
    ended = torch.zeros(images, dtype=torch.bool, device=device)
    for t in range(max_length):
        output = step(state, words)
        state = output.state
        scores = output.logits + forbidden(output.logits, first=t == 0)
        if repeats and written:
            block_repeats(scores, torch.stack(written, dim=1)[:, None], repeats)
        words = scores.argmax(dim=-1)  # (B, 1)
        written.append(words[:, 0])
        ended |= words[:, 0] == END
        if ended.all():
            break
    rows = torch.stack(written, dim=1).tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


def forbidden(scores: Tensor, *, first: bool) -> Tensor:
    """What to add to scores (..., V): -inf for words that must not be written now, else 0."""
    added = scores.new_zeros(scores.shape[-1])
    added[_not_now(first)] = -torch.inf
    return added


def _not_now(first: bool) -> list[int]:
    """Words that must not be written now."""
    return [*_NEVER, END] if first else list(_NEVER)


@dataclass
class _Beams:
    """The unfinished captions of the pictures that are still being written."""

    state: State
    words: Tensor  # (B, K, T) written so far, <start> left out
    log_probability: Tensor  # (B, K)
    pictures: list[int]  # which picture each row is


@dataclass
class _Found:
    """The captions of one picture that have ended."""

    hypotheses: list[Hypothesis] = field(default_factory=list)


@dataclass(frozen=True)
class _Rule:
    """Options of a search, as for `beam_search`."""

    beam: int
    enough: int
    penalty: float
    repeats: int


def beam_search(
    step: StepFunction,
    state: State,
    images: int,
    *,
    beam: int,
    max_length: int,
    length_penalty: float,
    device: torch.device,
    repeats: int = 0,
    enough: int | None = None,
) -> list[list[Hypothesis]]:
    """Beam search for several pictures at once.

    Each round looks at the 2K best continuations of a picture's K captions. Those among the first K
    that end are set aside, the K best that do not end are carried on. A picture is done when enough
    captions were set aside, or at the maximal length.

    Args:
        step: Reads one word a beam and predicts the next.
        state: The decoder before the first word, with one beam a picture.
        images: How many pictures, B.
        beam: K.
        max_length: Longest caption in words.
        length_penalty: Exponent of the length in the ranking.
        device: Where the state lives.
        repeats: Never write so many words in a row twice in a caption; 0 blocks nothing.
        enough: How many captions are enough, K if None. More go on where the search would have
            stopped (the patience factor of Kasai et al. 2024, "A call for clarity in beam search:
            how it works and when it stops", is enough / K).

    Returns:
        For each picture its hypotheses, best first; at least one and at most `enough`. Captions
        that ended come before captions cut at the maximal length.
    """
    rule = _Rule(beam, beam if enough is None else enough, length_penalty, repeats)
    found = [_Found() for _ in range(images)]
    beams = _Beams(
        state,
        torch.empty(images, 1, 0, dtype=torch.long, device=device),
        torch.zeros(images, 1, device=device),
        list(range(images)),
    )
    last = torch.full((images, 1), START, device=device)
    for t in range(max_length):
        output = step(beams.state, last)
        beams.state = output.state
        last = _advance(beams, output.logits, found, rule, first=t == 0)
        keep = [i for i, p in enumerate(beams.pictures) if len(found[p].hypotheses) < rule.enough]
        if not keep:
            break
        # Dropping pictures copies their keys: worth it only when many are done.
        if len(keep) <= len(beams.pictures) // 2:
            last = _keep_pictures(beams, last, keep)
    _cut(beams, found, length_penalty)
    return [
        sorted(f.hypotheses, key=lambda h: (h.ended, h.score), reverse=True)[: rule.enough]
        for f in found
    ]


def _advance(
    beams: _Beams,
    logits: Tensor,
    found: list[_Found],
    rule: _Rule,
    *,
    first: bool,
) -> Tensor:
    """Extend all captions by one word; returns the words to read next, (B, K)."""
    runs = _Runs.of(logits.float())
    offset = beams.log_probability - runs.log_sum_exp()  # (B, K)
    runs.forbid(_not_now(first))
    if rule.repeats:
        block_repeats(runs.words, beams.words, rule.repeats)
        runs.look_again()
    best, parent, word = runs.largest(offset, 2 * rule.beam)  # (B, 2K) each, falling
    is_end = word == END
    _set_aside(beams, found, rule, best, parent, is_end)
    # The first K that do not end, in order: a stable sort moves the ended ones to the back.
    order = is_end.int().argsort(dim=1, stable=True)[:, : rule.beam]
    parent, word = parent.gather(1, order), word.gather(1, order)
    beams.log_probability = best.gather(1, order).masked_fill(word == END, -torch.inf)
    beams.state = beams.state.select_beams(parent)
    rows = torch.arange(len(word), device=word.device)[:, None]
    beams.words = torch.cat([beams.words[rows, parent], word[:, :, None]], dim=2)
    return word


class _Runs:
    """Logits of all words, as runs of 64 words with the maximum of each.

    Selecting among the K * V continuations of a picture costs more than a decoder's step. The n
    largest lie in the n runs whose own maxima are largest, and those are quickly found.
    """

    def __init__(self, values: Tensor, vocab_size: int) -> None:
        self._values = values  # (B, K, R, 64), -inf after the last word
        self._vocab_size = vocab_size
        self._maxima = values.amax(dim=-1)  # (B, K, R)

    @classmethod
    def of(cls, logits: Tensor) -> _Runs:
        """A copy of logits (B, K, V)."""
        vocab_size = logits.shape[2]
        count = -(-vocab_size // _RUN)
        filled = logits.new_empty(*logits.shape[:2], count * _RUN)
        filled[:, :, :vocab_size] = logits
        filled[:, :, vocab_size:] = -torch.inf
        return cls(filled.unflatten(2, (count, _RUN)), vocab_size)

    @property
    def words(self) -> Tensor:
        """(B, K, V) of the same memory."""
        return self._values.flatten(2)[:, :, : self._vocab_size]

    def look_again(self) -> None:
        """To be called after `words` were changed."""
        self._maxima = self._values.amax(dim=-1)

    def forbid(self, words: list[int]) -> None:
        """Set words of the first run to -inf."""
        assert max(words) < _RUN
        self._values[:, :, 0, words] = -torch.inf
        self._maxima[:, :, 0] = self._values[:, :, 0].amax(dim=-1)

    def log_sum_exp(self) -> Tensor:
        """Over all words: (B, K)."""
        # torch's own looks for the maxima again, in passes that cost as much as the exponentials.
        greatest = self._maxima.amax(dim=-1).clamp_(min=torch.finfo(self._maxima.dtype).min)
        shifted = self._values.flatten(2) - greatest[:, :, None]
        return shifted.exp_().sum(dim=-1).log_().add_(greatest)

    def largest(self, offset: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The largest of logits + offset (B, K), falling: values, beams and words (B, count)."""
        beams, runs = self._maxima.shape[1:]
        maxima = (self._maxima + offset[:, :, None]).flatten(1)  # (B, K * R)
        run = maxima.topk(min(count, maxima.shape[1]), dim=1).indices
        chosen = run[:, :, None].expand(-1, -1, _RUN)
        inside = self._values.flatten(1, 2).gather(1, chosen)  # (B, count, 64)
        inside = inside.add_(offset.gather(1, run // runs)[:, :, None]).flatten(1)
        count = min(count, beams * self._vocab_size, inside.shape[1])
        best, place = inside.topk(count, dim=1)
        run = run.gather(1, place // _RUN)
        word = run % runs * _RUN + place % _RUN
        # Where fewer words than asked may be written, the rest are -inf, and may be filling.
        return best, run // runs, word.clamp_(max=self._vocab_size - 1)


def _set_aside(
    beams: _Beams,
    found: list[_Found],
    rule: _Rule,
    best: Tensor,
    parent: Tensor,
    is_end: Tensor,
) -> None:
    length = beams.words.shape[2] + 1  # <end> counts
    ending = is_end[:, : rule.beam] & best[:, : rule.beam].isfinite()
    rows, ranks = ending.nonzero(as_tuple=True)
    written = beams.words[rows, parent[rows, ranks]].tolist()
    totals = best[rows, ranks].tolist()
    for row, words, total in zip(rows.tolist(), written, totals, strict=True):
        hypotheses = found[beams.pictures[row]].hypotheses
        if len(hypotheses) < rule.enough:  # else it is done, and its row only waits to be dropped
            hypotheses.append(Hypothesis(words, total, total / length**rule.penalty, True))


def _keep_pictures(beams: _Beams, last: Tensor, keep: list[int]) -> Tensor:
    index = torch.tensor(keep, device=last.device)
    beams.state = beams.state.select_images(index)
    beams.words = beams.words[index]
    beams.log_probability = beams.log_probability[index]
    beams.pictures = [beams.pictures[i] for i in keep]
    return last[index]


def _cut(beams: _Beams, found: list[_Found], penalty: float) -> None:
    """Give the captions that reached the maximal length to pictures where none has ended."""
    length = beams.words.shape[2]
    for row, picture in enumerate(beams.pictures):
        if found[picture].hypotheses:
            continue
        for words, total in zip(
            beams.words[row].tolist(), beams.log_probability[row].tolist(), strict=True
        ):
            if total > -torch.inf:
                found[picture].hypotheses.append(
                    Hypothesis(words, total, total / length**penalty, False)
                )


def follow(
    step: StepFunction, state: State, captions: list[list[int]], *, device: torch.device
) -> tuple[list[list[float]], list[Tensor | None]]:
    """Step along given captions: what the decoder thought of each word, and where it looked.

    Args:
        step: As for `beam_search`.
        state: The decoder before the first word, with one beam a picture.
        captions: Word numbers of one caption per picture.
        device: Where the state lives.

    Returns:
        For each caption the log-probability of each of its words, and the attention of each word,
        (T, L), or None for a decoder without attention.
    """
    longest = max(map(len, captions))
    words = torch.full((len(captions), longest), PAD, device=device)
    for row, caption in enumerate(captions):
        words[row, : len(caption)] = torch.tensor(caption, device=device)
    read = torch.full_like(words[:, :1], START)
    log_probs, attention = [], []
    for t in range(longest):
        output = step(state, read)
        state, read = output.state, words[:, t : t + 1]
        log_prob = output.logits[:, 0].float().log_softmax(dim=-1)
        log_probs.append(log_prob.gather(1, read)[:, 0])
        if output.attention is not None:
            attention.append(output.attention[:, 0])
    table = torch.stack(log_probs, dim=1).tolist()
    maps = torch.stack(attention, dim=1) if attention else None  # (B, T, L)
    return (
        [row[: len(c)] for row, c in zip(table, captions, strict=True)],
        [None if maps is None else maps[i, : len(c)] for i, c in enumerate(captions)],
    )
