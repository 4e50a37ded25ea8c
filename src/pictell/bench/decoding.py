"""Beam search with given features, scores, validation, and one picture from file to caption."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pictell.bench.arithmetic import Shapes, beam_search_terms
from pictell.bench.case import PICTELL, Case, Term, textbook
from pictell.bench.inputs import caption_lengths
from pictell.bench.training import CELLS, GRID, TrainingStep, as_textbook
from pictell.data.text import END
from pictell.decoders.base import Decoder, State, Step
from pictell.decoders.search import StepFunction, beam_search
from pictell.metrics import score_captions

LENGTH_PENALTY, MAX_LENGTH = 0.7, 30
STEPS = 60  # to learn by heart


class BeamSearch(Case):
    """Captions of pictures whose features are given.

    Without training, no decoder ends its captions; this one has learnt captions of real lengths,
    though of random words, by heart.

    Args:
        decoder: `rnn` or `attention`.
        shapes: Extents; `captions` is the number of pictures.
        beam: Width.
    """

    unit = "pictures"

    def __init__(self, decoder: str, shapes: Shapes, *, beam: int = 5) -> None:
        self.name = f"{decoder}, beam {beam}"
        self.step = TrainingStep(decoder, shapes)
        self.amount, self.beam = shapes.captions, beam
        self._built: tuple[Decoder, Tensor] | None = None

    def build(self) -> tuple[Decoder, Tensor]:
        """A decoder that writes and ends captions, and features (B, C, D)."""
        if self._built is None:
            self._built = self._learn()
        return self._built

    def _learn(self) -> tuple[Decoder, Tensor]:
        step, decoder, features = self.step, self.step.build().train(), self.step.features()
        words = torch.randint(4, min(200, step.shapes.vocabulary), step.words.shape)
        for row, length in enumerate(step.lengths.tolist()):
            step.targets[row, :length] = words[row, :length]
            step.targets[row, length - 1] = END
            step.words[row, 1:length] = words[row, : length - 1]
        adam = torch.optim.Adam(decoder.parameters(), lr=4e-3)
        for _ in range(STEPS):
            adam.zero_grad()
            step.loss(decoder, features).backward()
            adam.step()
        return decoder.eval(), features

    def prepare(self, way: str) -> Callable[[], list[list[int]]]:
        decoder, features = self.build()
        if way == PICTELL:
            decoder.compile_loops()
            return torch.inference_mode()(lambda: self.ours(decoder, features))
        plain = as_textbook(decoder).eval()
        pool, search = textbook("decoders").pool_regions, textbook("search").beam_search
        return lambda: [
            search(
                plain,
                pool(picture[None], CELLS, GRID)[0],
                beam=self.beam,
                max_length=MAX_LENGTH,
                length_penalty=LENGTH_PENALTY,
            )
            for picture in features
        ]

    def ours(
        self, decoder: Decoder, features: Tensor, *, step: StepFunction | None = None
    ) -> list[list[int]]:
        """The best caption of each picture."""
        found = beam_search(
            step or decoder.step,
            decoder.start(features),
            len(features),
            beam=self.beam,
            max_length=MAX_LENGTH,
            length_penalty=LENGTH_PENALTY,
            device=features.device,
        )
        return [hypotheses[0].words for hypotheses in found]

    def arithmetic(self) -> list[Term]:
        """Of the steps that the search really makes."""
        decoder, features = self.build()
        rows: list[int] = []
        step = decoder.step

        def counted(state: State, words: Tensor) -> Step:
            rows.append(words.numel())
            return step(state, words)

        with torch.inference_mode():
            self.ours(decoder, features, step=counted)
        attention = decoder.config.name == "attention"
        return beam_search_terms(self.step.shapes, rows, beam=self.beam, attention=attention)

    def check(self) -> None:
        """The same captions, of sensible length."""
        ours, theirs = self.prepare(PICTELL)(), self.prepare("textbook")()
        assert ours == theirs
        assert 2 < np.mean([len(words) for words in ours]) < MAX_LENGTH


class Scoring(Case):
    """BLEU, ROUGE-L and CIDEr-D of captions with five references each; there is no textbook."""

    name = "CIDEr-D, BLEU and ROUGE-L"
    unit = "pictures"
    ways = (PICTELL,)

    def __init__(self, pictures: int = 1000) -> None:
        self.amount = pictures
        generator = np.random.default_rng(0)
        chances = 1 / np.arange(2, 2502)  # words as frequent as Zipf's law has them
        words = np.array([f"w{i}" for i in range(2500)])
        lengths = caption_lengths()

        def sentence() -> list[str]:
            length = max(1, int(generator.choice(lengths)) - 1)
            return generator.choice(words, length, p=chances / chances.sum()).tolist()

        self.references = [[sentence() for _ in range(5)] for _ in range(pictures)]
        self.captions = [list(references[0][:8]) for references in self.references]

    def prepare(self, way: str) -> Callable[[], object]:
        return lambda: score_captions(self.captions, self.references)

    def check(self) -> None:
        """A whole reference scores one; every picture has a score."""
        scores = score_captions(self.captions, self.references)
        assert all(len(metric.per_image) == self.amount for metric in scores.values())
        whole = [references[0] for references in self.references]
        assert score_captions(whole, self.references)["BLEU-4"].corpus == 1


class OnePicture(Case):
    """One picture, warm, from its file to its caption; the parts are kept in `parts`.

    Args:
        run: The run folder of a trained model.
        picture: A picture file.
        beam: Width.
    """

    unit = "pictures"
    amount = 1
    ways = (PICTELL,)

    def __init__(self, run: Path, picture: Path, *, beam: int = 5) -> None:
        from pictell.captioner import Captioner

        self.name = f"one picture, file to caption, beam {beam} ({run.name})"
        self.captioner, self.picture, self.beam = Captioner.load(run), picture, beam
        self.parts: dict[str, list[float]] = {"decode the file": [], "encode": [], "search": []}

    def prepare(self, way: str) -> Callable[[], object]:
        return lambda: self.captioner.caption(self.picture, beam=self.beam)

    @torch.inference_mode()
    def time_parts(self, repeats: int) -> dict[str, float]:
        """Median milliseconds of each part."""
        captioner = self.captioner
        search = replace(captioner.search, beam=self.beam)
        for _ in range(repeats):
            times = [time.perf_counter()]
            pixels = captioner.encoder.transform.read(self.picture)
            times.append(time.perf_counter())
            features = captioner.encoder(torch.from_numpy(pixels[None]).to(captioner.device))
            times.append(time.perf_counter())
            captioner.write(features, search)
            times.append(time.perf_counter())
            for values, start, end in zip(self.parts.values(), times, times[1:], strict=False):
                values.append(end - start)
        return {name: 1000 * float(np.median(values)) for name, values in self.parts.items()}

    def check(self) -> None:
        """The same caption each time."""
        texts = {self.captioner.caption(self.picture, beam=self.beam)[0].text for _ in range(3)}
        assert len(texts) == 1
