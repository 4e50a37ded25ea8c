"""The public object: a trained model that captions pictures.

    captioner = Captioner.load("runs/flickr8k_attention")
    for caption in captioner.caption(["photo.jpg"]):
        print(caption.text, caption.log_probability)

Axes: B images, C cells, D feature width, T words of a caption, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pictell.config import SearchConfig
from pictell.data.images import Box, picture_size
from pictell.data.text import PAD, START, UNKNOWN, Tokenizer, Vocabulary, get_tokenizer
from pictell.decoders.base import Decoder, State, Step
from pictell.decoders.ensemble import EnsembleDecoder
from pictell.decoders.search import Hypothesis, beam_search, follow
from pictell.encoders.encoder import Encoder
from pictell.ensemble import EnsembleEncoder, compose, one_run_each, open_members
from pictell.errors import InputError
from pictell.occlusion import grey_patches
from pictell.training.checkpoint import RunFolder

if TYPE_CHECKING:
    from pictell.neighbours import Neighbours

ImageSource = str | Path | bytes | Image.Image
COMPILE_FROM = 20_000  # beams of all pictures; fewer save less time than compiling takes
NEVER_SAID = [PAD, START, UNKNOWN]  # search does not write them
RUNNERS_UP = 4


@dataclass(frozen=True)
class Alternative:
    """A word that the model might have said instead; `<end>` means to end there."""

    word: str
    log_probability: float


@dataclass(frozen=True, eq=False, kw_only=True)
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
        alternatives: For each word its runners-up, the most probable first; empty lists if none
            were asked for.
    """

    text: str
    words: list[str]
    log_probability: float
    word_log_probabilities: list[float]
    attention: np.ndarray | None
    ended: bool
    alternatives: list[list[Alternative]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Caption(Written):
    """A caption of a picture.

    Attributes:
        image_size: Width and height of the upright picture, in pixels.
        seen_box: Left, top, right, bottom of what the encoder saw of it; the attention maps cover
            exactly this, and so do the occlusion maps.
        occlusion: (T, rows, columns), how much each word's log-probability falls when a patch is
            greyed, in nats, or None if `Captioner.occlude` was not asked.
    """

    image_size: tuple[int, int]
    seen_box: Box
    occlusion: np.ndarray | None = None


class Captioner:
    """Encoder, decoder and words of one model.

    Use `Captioner.load`; the constructor is for those who have the parts. `runs` are the run
    folders that they come from, which `search.neighbours` needs.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        vocabulary: Vocabulary,
        tokenizer: Tokenizer,
        search: SearchConfig,
        device: torch.device,
        runs: Sequence[RunFolder] = (),
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.decoder = decoder.to(device).eval()
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self.search, self.device = search, device
        self.runs = list(runs)

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
            [folder],
        )

    @classmethod
    def load_ensemble(
        cls,
        runs: Sequence[str | Path | RunFolder],
        *,
        weights: str = "",
        device: str | None = None,
    ) -> Captioner:
        """Load several runs that write together: the mean of their probabilities at each word.

        Args:
            runs: Run folders with the same words; search options are the first one's.
            weights: As for `load`.
            device: As for `load`.

        Raises:
            InputError: A folder holds no usable run, or the runs' words are not the same.
        """
        members = open_members(runs)
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        encoder, decoder = compose(members, weights=weights)
        config = members[0].config
        return cls(
            encoder,
            decoder,
            members[0].vocabulary,
            get_tokenizer(config.data.language),
            config.search,
            chosen,
            members,
        )

    def expect(self, beams: int) -> None:
        """Prepare for writing: on a CPU the decoder's loops are compiled where that will repay its
        ten seconds.

        Args:
            beams: Beams of all pictures that will be captioned, such as 5 for each with a beam
                of 5.
        """
        if self.device.type == "cpu" and beams >= COMPILE_FROM:
            self.decoder.compile_loops()

    def prepare(self, search: SearchConfig) -> None:
        """Have at hand what this search needs beside the model, so that no caption waits for it.

        Raises:
            InputError: It is not there.
        """
        if search.asks_neighbours:
            _ = self._neighbours

    def caption(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        block_repeats: int | None = None,
        neighbours: int | None = None,
        batch_size: int = 32,
        alternatives: int = RUNNERS_UP,
    ) -> list[Caption]:
        """Caption pictures.

        Args:
            images: Files, their bytes, or decoded pictures; or a single one of these.
            beam: Captions kept in parallel; the config's if None.
            length_penalty: Exponent of the length in the ranking; the config's if None.
            max_length: Longest caption in words; the config's if None.
            block_repeats: Words in a row that no caption holds twice, 0 for any; the config's if
                None.
            neighbours: Training pictures that have a say; the config's if None.
            batch_size: Pictures that are worked on together.
            alternatives: How many runners-up to tell of each word.

        Raises:
            InputError: A picture cannot be read, or what neighbours need is not there.
        """
        search = self.search.with_given(
            beam=beam,
            length_penalty=length_penalty,
            max_length=max_length,
            block_repeats=block_repeats,
            neighbours=neighbours,
        )
        captions: list[Caption] = []
        for batch in _chunks(_several(images), batch_size):
            captions += self._caption_batch(batch, search, alternatives)
        return captions

    def occlude(
        self,
        images: ImageSource | Iterable[ImageSource],
        captions: Sequence[Caption],
        *,
        grid: tuple[int, int] = (7, 7),
        batch_size: int = 32,
    ) -> list[Caption]:
        """Find out what each word rests on, by greying one patch of the picture after the other.

        This asks nothing of the decoder, so that models with and without attention can be looked at
        alike. It is an encoder pass for each patch: 49 a picture with the default grid. After
        Zeiler and Fergus 2014, section 4.2.

        Args:
            images: The pictures.
            captions: A caption of each, from `caption` or `explain_words`.
            grid: Rows and columns of patches.
            batch_size: Greyed pictures that are encoded together.

        Returns:
            The captions with `occlusion`.

        Raises:
            InputError: A picture cannot be read, there are not as many captions as pictures, or the
                grid has more patches than pixels along a side.
        """
        sources = list(_several(images))
        if len(sources) != len(captions):
            raise InputError(f"{len(sources)} pictures but {len(captions)} captions; give one each")
        return [
            replace(caption, occlusion=self._occlusion(source, caption, grid, batch_size))
            for source, caption in zip(sources, captions, strict=True)
        ]

    def _occlusion(
        self, source: ImageSource, caption: Caption, grid: tuple[int, int], batch_size: int
    ) -> np.ndarray:
        pixels = self.encoder.transform.read(source)
        if pixels.ndim != 3:
            raise InputError("runs that see pictures in different sizes share no occlusion")
        greyed = grey_patches(pixels, grid, self.encoder.mean.flatten().cpu().numpy())
        pictures = np.concatenate([pixels[None], greyed])  # (1 + rows * columns, 3, S, S)
        log_probs = self.word_log_probabilities(
            pictures, [caption.words] * len(pictures), batch_size=batch_size
        )
        table = np.asarray(log_probs)  # (1 + rows * columns, T)
        return (table[:1] - table[1:]).T.reshape(-1, *grid)

    @torch.inference_mode()
    def word_log_probabilities(
        self, pixels: np.ndarray, captions: Sequence[Sequence[str]], *, batch_size: int = 32
    ) -> list[list[float]]:
        """Log-probability of each word of given captions.

        Args:
            pixels: (B, 3, S, S) uint8, as `encoder.transform` makes them.
            captions: For each picture the words of a caption.
            batch_size: Pictures that are encoded together.
        """
        values: list[list[float]] = []
        for start in range(0, len(captions), batch_size):
            chunk = slice(start, start + batch_size)
            features = self.encoder(torch.from_numpy(pixels[chunk]).to(self.device))
            written = self.explain(features, [self._given(words) for words in captions[chunk]])
            values += [caption.word_log_probabilities for caption in written]
        return values

    def explain_words(
        self, image: ImageSource, words: Sequence[str], *, alternatives: int = RUNNERS_UP
    ) -> Caption:
        """What the model thinks of a given caption: each word's probability and attention.

        Args:
            image: A picture.
            words: The caption's words, as `Caption.words` has them.
            alternatives: How many runners-up to tell of each word.

        Raises:
            InputError: The picture cannot be read, there is no word, or a word is unknown.
        """
        given = self._given(words)
        features, size = self._encode([image])
        written = self.explain(features, [given], alternatives)[0]
        total = sum(written.word_log_probabilities)
        return self._placed(replace(written, log_probability=total), size[0])

    def _given(self, words: Sequence[str]) -> Hypothesis:
        """A caption that search did not find; its total is not known."""
        unknown = [word for word in words if word not in self.vocabulary.ids]
        if unknown or not words:
            raise InputError(
                f"the model cannot say {unknown[0]!r}" if unknown else "no words given"
            )
        return Hypothesis(self.vocabulary.encode(words), float("nan"), float("nan"), False)

    def _caption_batch(
        self, sources: Sequence[ImageSource], search: SearchConfig, alternatives: int
    ) -> list[Caption]:
        features, sizes = self._encode(sources)
        written = self.write(features, search, alternatives)
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
        """Beam search on features (B, C, D): for each picture its hypotheses, best first.

        Raises:
            InputError: `search.neighbours` is asked for, and what it needs is not there.
        """
        found = beam_search(
            self.decoder.step,
            self.decoder.start(features),
            len(features),
            beam=search.beam,
            max_length=search.max_length,
            length_penalty=search.length_penalty,
            device=self.device,
            repeats=search.block_repeats,
            enough=search.enough,
        )
        if not search.asks_neighbours:
            return found
        decoder = self.decoder
        parts = decoder.unpacked(features) if isinstance(decoder, EnsembleDecoder) else [features]
        return self._neighbours.rerank(
            found,
            parts,
            count=search.neighbours,
            weight=search.neighbour_weight,
            by=search.neighbours_by,
        )

    @cached_property
    def _neighbours(self) -> Neighbours:
        from pictell.neighbours import Neighbours  # scores are not loaded for a plain caption

        if not self.runs:
            raise InputError("search.neighbours needs the run folder: use Captioner.load")
        if isinstance(self.encoder, EnsembleEncoder):
            encoders = self.encoder.encoders
            return Neighbours.of_runs(one_run_each(self.runs), encoders, self.device)
        return Neighbours.of_runs(self.runs, [self.encoder], self.device)

    def write(self, features: Tensor, search: SearchConfig, alternatives: int = 0) -> list[Written]:
        """The best caption of each picture, from features (B, C, D) on the model's device."""
        best = [found[0] for found in self.hypotheses(features, search)]
        return self.explain(features, best, alternatives)

    @torch.inference_mode()
    def explain(
        self, features: Tensor, chosen: Sequence[Hypothesis], alternatives: int = 0
    ) -> list[Written]:
        """Words, log-probabilities, attention and runners-up of one hypothesis per picture."""
        watched = _RunnersUp(self.decoder.step, alternatives)
        log_probs, maps = follow(
            watched.step if alternatives else self.decoder.step,
            self.decoder.start(features),
            [h.words for h in chosen],
            device=self.device,
        )
        captions = []
        for row, (hypothesis, values, attention) in enumerate(
            zip(chosen, log_probs, maps, strict=True)
        ):
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
                    alternatives=self._alternatives(watched, row, hypothesis.words),
                )
            )
        return captions

    def _alternatives(
        self, watched: _RunnersUp, row: int, words: Sequence[int]
    ) -> list[list[Alternative]]:
        if not watched.count:
            return [[] for _ in words]
        return [
            [
                Alternative(self.vocabulary.words[other], value)
                for other, value in watched.of(row, t)
                if other != word
            ][: watched.count]
            for t, word in enumerate(words)
        ]


class _RunnersUp:
    """A step that also notes the most probable words of each step, of one beam a picture."""

    def __init__(self, step: Callable[[State, Tensor], Step], count: int) -> None:
        self._step, self.count = step, count
        self._best: list[tuple[list[list[int]], list[list[float]]]] = []

    def step(self, state: State, words: Tensor) -> Step:
        output = self._step(state, words)
        log_probs = output.logits[:, 0].float().log_softmax(dim=-1)  # (B, V)
        log_probs[:, NEVER_SAID] = -torch.inf
        most = min(self.count + 1, log_probs.shape[1] - len(NEVER_SAID))  # one may be the word said
        values, numbers = log_probs.topk(most, dim=-1)
        self._best.append((numbers.tolist(), values.tolist()))
        return output

    def of(self, row: int, t: int) -> list[tuple[int, float]]:
        """Words and log-probabilities of a picture at a step, the most probable first."""
        numbers, values = self._best[t]
        return list(zip(numbers[row], values[row], strict=True))


def _several(images: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    return [images] if isinstance(images, (str, Path, bytes, Image.Image)) else images


def _chunks(items: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
