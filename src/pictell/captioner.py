"""The public object: a trained model that captions pictures.

    captioner = Captioner.load("runs/flickr8k_attention")
    for caption in captioner.caption(["photo.jpg"]):
        print(caption.text, caption.log_probability)

Axes: B images, C cells, D feature width, T words of a caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pictell.config import SearchConfig
from pictell.data.images import Box, picture_size
from pictell.data.text import Tokenizer, Vocabulary, get_tokenizer
from pictell.decoders.base import Decoder
from pictell.decoders.search import Hypothesis, beam_search, follow
from pictell.encoders.encoder import Encoder
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder

ImageSource = str | Path | bytes | Image.Image


@dataclass(frozen=True, eq=False)
class Written:
    """A caption for given features.

    Attributes:
        text: To read.
        words: One by one, as scores see them.
        log_probability: Sum over the words, and the end if the caption ended by itself.
        word_log_probabilities: Of each word.
        attention: (T, rows, columns), one map per word that sums to one, or None for a decoder
            without attention.
        ended: False if the caption was cut at the maximal length.
    """

    text: str
    words: list[str]
    log_probability: float
    word_log_probabilities: list[float]
    attention: np.ndarray | None
    ended: bool


@dataclass(frozen=True, eq=False)
class Caption(Written):
    """A caption of a picture.

    Attributes:
        image_size: Width and height of the upright picture, in pixels.
        seen_box: Left, top, right, bottom of what the encoder saw of it; the attention maps cover
            exactly this.
    """

    image_size: tuple[int, int]
    seen_box: Box


class Captioner:
    """Encoder, decoder and words of one model.

    Use `Captioner.load`; the constructor is for those who have the parts.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        vocabulary: Vocabulary,
        tokenizer: Tokenizer,
        search: SearchConfig,
        device: torch.device,
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.decoder = decoder.to(device).eval()
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self.search, self.device = search, device

    @classmethod
    def load(
        cls, run: str | Path | RunFolder, *, weights: str = "", device: str | None = None
    ) -> Captioner:
        """Load the best epoch of a run.

        Args:
            run: The run folder.
            weights: Where the frozen encoder's weights are, if not where the config says.
            device: As torch names it; a GPU if there is one.

        Raises:
            InputError: The folder holds no usable run, or the encoder's weights are not found.
        """
        folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        config = folder.config
        return cls(
            folder.load_encoder(weights),
            folder.load_decoder(),
            folder.vocabulary,
            get_tokenizer(config.data.language),
            config.search,
            chosen,
        )

    def caption(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> list[Caption]:
        """Caption pictures.

        Args:
            images: Files, their bytes, or decoded pictures; or a single one of these.
            beam: Captions kept in parallel; the config's if None.
            length_penalty: Exponent of the length in the ranking; the config's if None.
            max_length: Longest caption in words; the config's if None.
            batch_size: Pictures that are worked on together.

        Raises:
            InputError: A picture cannot be read.
        """
        if isinstance(images, (str, Path, bytes, Image.Image)):
            images = [images]
        search = self._search(beam, length_penalty, max_length)
        captions: list[Caption] = []
        for batch in _chunks(images, batch_size):
            captions += self._caption_batch(batch, search)
        return captions

    def explain_words(self, image: ImageSource, words: Sequence[str]) -> Caption:
        """What the model thinks of a given caption: each word's probability and attention.

        Args:
            image: A picture.
            words: The caption's words, as `Caption.words` has them.

        Raises:
            InputError: The picture cannot be read, there is no word, or a word is unknown.
        """
        unknown = [word for word in words if word not in self.vocabulary.ids]
        if unknown or not words:
            raise InputError(
                f"the model cannot say {unknown[0]!r}" if unknown else "no words given"
            )
        features, size = self._encode([image])
        given = Hypothesis(self.vocabulary.encode(words), float("nan"), float("nan"), False)
        written = self.explain(features, [given])[0]
        total = sum(written.word_log_probabilities)
        return self._placed(replace(written, log_probability=total), size[0])

    def _search(
        self, beam: int | None, length_penalty: float | None, max_length: int | None
    ) -> SearchConfig:
        given = {"beam": beam, "length_penalty": length_penalty, "max_length": max_length}
        return replace(self.search, **{k: v for k, v in given.items() if v is not None})

    def _caption_batch(self, sources: Sequence[ImageSource], search: SearchConfig) -> list[Caption]:
        features, sizes = self._encode(sources)
        written = self.write(features, search)
        return [self._placed(w, size) for w, size in zip(written, sizes, strict=True)]

    @torch.inference_mode()
    def _encode(self, sources: Sequence[ImageSource]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Features (B, C, D) and the pictures' upright sizes."""
        transform = self.encoder.transform
        # Decoded as for the feature store: a picture has one caption, wherever it comes from.
        pixels = torch.from_numpy(np.stack([transform.read(source) for source in sources]))
        return self.encoder(pixels.to(self.device)), [picture_size(source) for source in sources]

    def _placed(self, written: Written, size: tuple[int, int]) -> Caption:
        box = self.encoder.transform.seen_box(*size)
        return Caption(**vars(written), image_size=size, seen_box=box)

    @torch.inference_mode()
    def hypotheses(self, features: Tensor, search: SearchConfig) -> list[list[Hypothesis]]:
        """Beam search on features (B, C, D): for each picture its hypotheses, best first."""
        return beam_search(
            self.decoder.step,
            self.decoder.start(features),
            len(features),
            beam=search.beam,
            max_length=search.max_length,
            length_penalty=search.length_penalty,
            device=self.device,
        )

    def write(self, features: Tensor, search: SearchConfig) -> list[Written]:
        """The best caption of each picture, from features (B, C, D) on the model's device."""
        return self.explain(features, [h[0] for h in self.hypotheses(features, search)])

    @torch.inference_mode()
    def explain(self, features: Tensor, chosen: Sequence[Hypothesis]) -> list[Written]:
        """Words, log-probabilities and attention of one hypothesis per picture."""
        log_probs, maps = follow(
            self.decoder.step,
            self.decoder.start(features),
            [h.words for h in chosen],
            device=self.device,
        )
        captions = []
        for hypothesis, values, attention in zip(chosen, log_probs, maps, strict=True):
            words = self.vocabulary.decode(hypothesis.words)
            grid = None
            if attention is not None:
                grid = attention.reshape(-1, *self.decoder.grid).float().cpu().numpy()
            captions.append(
                Written(
                    text=self.tokenizer.join(words),
                    words=words,
                    log_probability=hypothesis.log_probability,
                    word_log_probabilities=values,
                    attention=grid,
                    ended=hypothesis.ended,
                )
            )
        return captions


def _chunks(items: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
