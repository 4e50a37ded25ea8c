"""How good a decoder is on a split: free-running captions scored as the test is, and, named as
such, what it does under teacher forcing.

    words = write_greedy(decoder, split, encoder, device, max_length=30)
    scores = score_captions([vocabulary.decode(w) for w in words], split.references)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pictell.config import TrainConfig
from pictell.data.batches import load_batches, picture_batches
from pictell.decoders.base import Decoder, pack, targets_of
from pictell.decoders.search import greedy_search
from pictell.encoders.encoder import Encoder
from pictell.training.loss import Tally, attention_term, is_top5
from pictell.training.task import SplitData, all_positions

PICTURES_AT_ONCE = 64
CAPTIONS_AT_ONCE = 160


def region_features(pictures: Tensor, encoder: Encoder, device: torch.device) -> Tensor:
    """Stored features as they are, pixels through the encoder: (B, C, D) in full precision."""
    pictures = pictures.to(device, non_blocking=True)
    return encoder(pictures) if pictures.dtype == torch.uint8 else pictures.float()


def to_device(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    """A tensor that may be missing."""
    return None if tensor is None else tensor.to(device, non_blocking=True)


@torch.inference_mode()
def write_greedy(
    decoder: Decoder,
    split: SplitData,
    encoder: Encoder,
    device: torch.device,
    *,
    max_length: int,
    repeats: int = 0,
) -> list[list[int]]:
    """Greedy captions of all pictures of a split, as word numbers."""
    decoder.eval()
    encoder.eval()
    captions: list[list[int]] = []
    for positions in all_positions(split, PICTURES_AT_ONCE):
        features = region_features(split.pictures(positions), encoder, device)
        captions += greedy_search(
            decoder.step,
            decoder.start(features),
            len(positions),
            max_length=max_length,
            device=device,
            repeats=repeats,
        )
    return captions


@dataclass(frozen=True)
class TeacherForcedCaptions:
    """What teacher forcing gives for each caption of a split, in the order of `split.captions`.

    Attributes:
        cross_entropy: (captions,) sum over the caption's words, in nats.
        top5: (captions,) words that were among the five most probable.
        words: (captions,) words, `<end>` included.
        regularisation: (captions,) the attention term, before alpha_c.
    """

    cross_entropy: np.ndarray
    top5: np.ndarray
    words: np.ndarray
    regularisation: np.ndarray

    def tally(self) -> Tally:
        """Sums over all captions."""
        sums = {name: float(values.sum()) for name, values in vars(self).items()}
        return Tally(**sums, captions=len(self.words))

    def per_picture(self, images: np.ndarray, pictures: int) -> dict[str, np.ndarray]:
        """Sums over each picture's captions, (pictures,) each: for statistics over pictures.

        Args:
            images: (captions,) position of each caption's picture.
            pictures: How many there are.
        """
        return {
            name: np.bincount(images, weights=values, minlength=pictures)
            for name, values in vars(self).items()
        }


@torch.inference_mode()
def teacher_forced_captions(
    decoder: Decoder, split: SplitData, encoder: Encoder, device: torch.device, config: TrainConfig
) -> TeacherForcedCaptions:
    """Cross-entropy, top-5 hits and attention term of each caption of a split."""
    decoder.eval()
    encoder.eval()
    sums = np.zeros((4, len(split.captions.words)))
    in_order = np.arange(len(split.examples))
    batches = picture_batches(split.captions, in_order, CAPTIONS_AT_ONCE)
    loaded = load_batches(split.captions, split.pictures, batches, workers=config.workers)
    for positions, batch in zip(batches, loaded, strict=True):
        features = region_features(batch.pictures, encoder, device)
        output = decoder.teacher_forced(
            features, batch.inputs.to(device), batch.lengths, to_device(batch.owners, device)
        )
        rows = torch.arange(len(positions))[:, None].expand_as(batch.targets)
        owner = pack(rows, batch.lengths).numpy()  # which caption each real word belongs to
        targets = targets_of(batch.targets, batch.lengths).to(device)
        entropy = cross_entropy(output.logits.float(), targets, reduction="none")
        for row, values in enumerate((entropy, is_top5(output.logits, targets))):
            sums[row, positions] = np.bincount(owner, values.double().cpu().numpy())
        sums[2, positions] = batch.lengths
        if output.attention_sums is not None:
            term = attention_term(output.attention_sums, batch.lengths, config.alpha_target)
            sums[3, positions] = term.double().cpu().numpy()
    return TeacherForcedCaptions(*sums)
