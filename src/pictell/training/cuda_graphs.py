"""Parts of a training step as CUDA graphs: one launch for all their kernels, forward and backward.

    graphs = ReadingGraphs(decoder, accelerator.autocast)
    output = graphs(features, words, lengths, owners)     # None: read the batch in the usual way
    graphs = EncodingGraphs(encoder, accelerator.autocast)
    features = graphs(pixels)                             # None: encode them in the usual way

A decoder that reads word by word is hundreds of small kernels, and a CNN that is trained a
thousand; each is done in less time than the processor takes to launch it, unless the batch is
large. A graph records them once, for one shape, and is launched as a whole (Nguyen et al. 2021,
"Accelerating PyTorch with CUDA Graphs"). A decoder's shape includes how many captions have each
word, so that only batches with captions of one length are read by a graph; buckets by length make
about four in five batches so (see data/batches.py).

Axes: B captions, P pictures, S side, C cells, D feature width, T words, N = B T, V vocabulary,
L regions.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pictell.decoders.base import Decoder, TeacherForced, per_caption
from pictell.encoders.encoder import Encoder
from pictell.errors import InputError

# Processes that share a GPU by NVIDIA's Multi-Process Service cannot record (torch 2.11, CUDA 13).
_SHARING = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control"

RECORDED_AFTER = 3  # batches of a shape; recording reads one four times
_MOST = 48  # shapes of reading that are recorded
_MOST_ENCODED = 4  # numbers of pictures: each keeps gradients of all the CNN's weights

Autocast = Callable[[], AbstractContextManager[Any]]


def can_record(device: torch.device) -> bool:
    """Whether graphs can be recorded on a device."""
    return device.type == "cuda" and not _SHARING.exists()


class _Graphs:
    """Records a module for the shapes that come often.

    Args:
        trained: What holds the weights.
        most: How many shapes.
    """

    def __init__(self, trained: nn.Module, most: int) -> None:
        self._trained, self._most = trained, most
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._recorded: dict[tuple[object, ...], nn.Module] = {}
        # Graphs of one pool write to the same memory: none of them may be launched between another
        # one's forward and backward pass.
        self._pool = torch.cuda.graph_pool_handle()

    def of(
        self, shape: tuple[object, ...], module: Callable[[], nn.Module], given: Sequence[Tensor]
    ) -> nn.Module | None:
        """The recorded module for inputs like those given; None if they did not come often.

        Raises:
            InputError: A graph could not be recorded.
        """
        if shape not in self._recorded:
            self._seen[shape] += 1
            if self._seen[shape] < RECORDED_AFTER or len(self._recorded) >= self._most:
                return None
            try:
                self._recorded[shape] = self._record(module(), given)
            except RuntimeError as error:  # after it, torch's random numbers of the GPU are broken
                reason = str(error).strip().split("\n")[0]
                raise InputError(
                    f"CUDA graphs cannot be recorded here ({reason}); train without them: "
                    "--train.compile false"
                ) from error
        return self._recorded[shape]

    def _record(self, module: nn.Module, given: Sequence[Tensor]) -> nn.Module:
        if not self._recorded:
            # A graph writes gradients to the same memory each time, and autograd takes what it gets
            # as a parameter's .grad where there is none: the next batch would overwrite it.
            for parameter in self._trained.parameters():
                if parameter.requires_grad:
                    parameter.register_hook(torch.clone)
            # Recording has a stream of its own, of which autograd would warn: it waits for it.
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        samples = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in given)
        device = given[0].device
        gc.collect()  # what lies about of earlier batches must not be freed while it records
        # Recording draws random numbers: dropout goes on as if it had not.
        random = torch.cuda.get_rng_state(device)
        torch.cuda.make_graphed_callables(module, samples, allow_unused_input=True, pool=self._pool)
        torch.cuda.set_rng_state(random, device)
        return module


class ReadingGraphs:
    """`decoder.teacher_forced` in training, recorded for the shapes that come often.

    Args:
        decoder: On a GPU. Its `teacher_forced` must be free of copies from the CPU.
        autocast: Makes the context of mixed precision in which the decoder reads.
    """

    def __init__(self, decoder: Decoder, autocast: Autocast) -> None:
        self._decoder, self._autocast = decoder, autocast
        self._graphs = _Graphs(decoder, _MOST)

    def __call__(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced | None:
        """As `Decoder.teacher_forced`; None where the batch has no graph.

        Raises:
            InputError: A graph could not be recorded.

        To be called outside of autocast: what it keeps of a weight would not outlive a recording.
        """
        ready = self._decoder.training and torch.is_grad_enabled()
        if not ready or int(lengths[-1]) != words.shape[1]:  # the last caption is the shortest
            return None
        features = per_caption(features, owners)
        reading = self._graphs.of(
            (*features.shape, words.shape[1], features.requires_grad),
            lambda: _Reading(self._decoder, lengths, self._autocast),
            (features, words),
        )
        return TeacherForced(*reading(features, words)) if reading else None


class EncodingGraphs:
    """A trained encoder, recorded for the numbers of pictures that come often.

    Args:
        encoder: On a GPU, with trained weights.
        autocast: Makes the context of mixed precision in which it encodes.
    """

    def __init__(self, encoder: Encoder, autocast: Autocast) -> None:
        self._encoder, self._autocast = encoder, autocast
        self._graphs = _Graphs(encoder, _MOST_ENCODED)

    def __call__(self, pixels: Tensor) -> Tensor | None:
        """As `Encoder.forward`, (P, 3, S, S) uint8 -> (P, C, D), which the next call overwrites;
        None where so many pictures have no graph.

        Raises:
            InputError: A graph could not be recorded.

        To be called outside of autocast.
        """
        if not (self._encoder.training and torch.is_grad_enabled()):
            return None
        encoding = self._graphs.of(
            tuple(pixels.shape), lambda: _Encoding(self._encoder, self._autocast), (pixels,)
        )
        return encoding(pixels) if encoding else None


class _Reading(nn.Module):
    """Reads captions of given lengths: features (B, C, D), words (B, T) -> (N, V), (B, L)."""

    def __init__(self, decoder: Decoder, lengths: Tensor, autocast: Autocast) -> None:
        super().__init__()
        self.decoder, self.lengths, self.autocast = decoder, lengths, autocast

    def forward(self, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            output = self.decoder.teacher_forced(features, words, self.lengths)
        assert output.attention_sums is not None
        return output.logits, output.attention_sums


class _Encoding(nn.Module):
    """Encodes pictures: (P, 3, S, S) -> (P, C, D)."""

    def __init__(self, encoder: Encoder, autocast: Autocast) -> None:
        super().__init__()
        self.encoder, self.autocast = encoder, autocast

    def forward(self, pixels: Tensor) -> Tensor:
        with self.autocast():
            return self.encoder(pixels)
