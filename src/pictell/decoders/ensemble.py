"""Several decoders as one: the mean of their probabilities at each word.

    decoder = EnsembleDecoder([attention, rnn], parts=[(64, 1408)], reads=[0, 0])

It is a decoder like any other, so that search takes it as it takes one. Its features are those of
all encoders behind one another; members with the same encoder read the same part.

The mean is that of probabilities, not of logarithms: a word that one member rules out can still be
written. Hansen and Salamon (1990), "Neural network ensembles", IEEE PAMI 12.

Axes: see base.py; E members, W = sum of C D over the encoders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pictell.decoders.base import Decoder, State, Step, TeacherForced


def pack_features(parts: Sequence[Tensor]) -> Tensor:
    """Cells of several encoders, (B, C, D) each, behind one another: (B, 1, W)."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)[:, None]


class EnsembleDecoder(Decoder):
    """Decoders of one vocabulary that write together.

    Args:
        members: The decoders.
        parts: Cells and width (C, D) of each encoder, in the order of the packed features.
        reads: For each member the encoder that it reads.
        share_maps: Whether all members look at the same part of the picture, so that their
            attention can be averaged.
    """

    def __init__(
        self,
        members: Sequence[Decoder],
        *,
        parts: Sequence[tuple[int, int]],
        reads: Sequence[int],
        share_maps: bool = True,
    ) -> None:
        nn.Module.__init__(self)  # the members have widths and grids of their own
        assert len({member.vocab_size for member in members}) == 1
        self.members = nn.ModuleList(members)
        self.vocab_size, self.grid = members[0].vocab_size, members[0].grid
        self._parts, self._reads = list(parts), list(reads)
        self._share_maps = share_maps and all(member.grid == self.grid for member in members)
        self._tensors: list[tuple[int, int]] = []  # of each member's state: of images, of beams

    @property
    def _decoders(self) -> list[Decoder]:
        return list(self.members)  # type: ignore[arg-type]

    def compile_loops(self) -> bool:
        compiled = [member.compile_loops() for member in self._decoders]  # all of them
        return any(compiled)

    def unpacked(self, packed: Tensor) -> list[Tensor]:
        """The cells of each encoder, (B, C, D), of packed (B, 1, W)."""
        sizes = [cells * width for cells, width in self._parts]
        split = packed[:, 0].split(sizes, dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(split, self._parts, strict=True)]

    def _features(self, packed: Tensor) -> list[Tensor]:
        """What each member reads, (B, C, D), of packed (B, 1, W)."""
        parts = self.unpacked(packed)
        return [parts[index] for index in self._reads]

    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        logits = [
            member.teacher_forced(part, words, lengths, owners).logits
            for member, part in zip(self._decoders, self._features(features), strict=True)
        ]
        return TeacherForced(_mean_probability(logits), None)  # (N, V)

    def start(self, features: Tensor) -> State:
        states = [
            member.start(part)
            for member, part in zip(self._decoders, self._features(features), strict=True)
        ]
        self._tensors = [(len(state.images), len(state.beams)) for state in states]
        return _joined(states)

    def step(self, state: State, words: Tensor) -> Step:
        steps = [
            member.step(own, words)
            for member, own in zip(self._decoders, self._own_states(state), strict=True)
        ]
        logits = _mean_probability([step.logits for step in steps])  # (B, K, V)
        return Step(logits, _joined([step.state for step in steps]), self._attention(steps))

    def _own_states(self, state: State) -> list[State]:
        images, beams = iter(state.images), iter(state.beams)
        return [
            State(tuple(next(images) for _ in range(i)), tuple(next(beams) for _ in range(b)))
            for i, b in self._tensors
        ]

    def _attention(self, steps: Sequence[Step]) -> Tensor | None:
        """The mean map (B, K, L) of members that all have one and look at the same regions."""
        maps = [step.attention for step in steps if step.attention is not None]
        if len(maps) < len(steps) or not self._share_maps:
            return None
        return torch.stack(maps).mean(dim=0)


def _joined(states: Sequence[State]) -> State:
    return State(
        tuple(tensor for state in states for tensor in state.images),
        tuple(tensor for state in states for tensor in state.beams),
    )


def _mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of the members' probabilities, (..., V)."""
    log_probs = torch.stack([each.float().log_softmax(dim=-1) for each in logits])  # (E, ..., V)
    return log_probs.logsumexp(dim=0) - math.log(len(logits))
