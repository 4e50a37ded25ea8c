"""Sampling: frequencies, ends and probabilities, by tables and by brute force."""

import itertools
import math
from collections import Counter

import pytest
import torch

from pictell.config import DecoderConfig
from pictell.data.text import END, PAD, START, UNKNOWN
from pictell.decoders.base import DECODERS, State, Step, build_decoder
from pictell.decoders.sampling import caption_log_probabilities, sample_captions

CPU = torch.device("cpu")
A, B = 4, 5


class Chain:
    """The next word's logits depend on the picture and the last word; counts the rows stepped."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits, self.rows = logits, []  # (pictures, words, words)

    def start(self) -> State:
        pictures = torch.arange(len(self.logits))[:, None]
        return State((pictures,), (torch.zeros(len(self.logits), 1),))

    def step(self, state: State, words: torch.Tensor) -> Step:
        self.rows.append(len(words))
        return Step(self.logits[state.images[0], words], State(state.images, state.beams), None)

    def sample(self, samples: int, max_length: int = 6):
        torch.manual_seed(0)
        return sample_captions(
            self.step,
            self.start(),
            len(self.logits),
            samples=samples,
            max_length=max_length,
            device=CPU,
        )


def test_frequencies_are_the_probabilities_of_the_words_that_may_be_written():
    torch.manual_seed(1)
    chain = Chain(torch.randn(2, 6, 6))
    words, lengths = chain.sample(4000, max_length=2)
    first = chain.logits[:, START, [A, B]].softmax(-1)  # no end, no special word
    for picture in range(2):
        share = (words[picture, :, 0] == A).float().mean().item()
        assert share == pytest.approx(first[picture, 0].item(), abs=0.03)
        after_a = words[picture, :, 1][words[picture, :, 0] == A]
        second = chain.logits[picture, A, [END, A, B]].softmax(-1)
        for word, chance in zip((END, A, B), second.tolist(), strict=True):
            assert (after_a == word).float().mean().item() == pytest.approx(chance, abs=0.04)
    assert not torch.isin(words, torch.tensor([START, UNKNOWN])).any()
    assert (lengths == 2).all()


def test_captions_end_once_and_are_padded():
    torch.manual_seed(2)
    words, lengths = Chain(torch.randn(3, 6, 6)).sample(50, max_length=8)
    assert words.shape == (3, 50, int(lengths.max()))
    for row, length in zip(words.flatten(0, 1), lengths.flatten().tolist(), strict=True):
        assert (row[length:] == PAD).all()
        assert not torch.isin(row[: length - 1], torch.tensor([END, PAD])).any()
        assert row[length - 1] == END or length == 8
        assert length >= 2 or row[0] != END


def test_pictures_whose_captions_have_ended_leave():
    logits = torch.zeros(4, 6, 6)
    logits[:3, :, END] = 50.0  # three pictures end at once, one hardly ever
    logits[3, :, END] = -50.0
    chain = Chain(logits)
    _, lengths = chain.sample(5, max_length=7)
    assert lengths.tolist() == [[2] * 5] * 3 + [[7] * 5]
    assert chain.rows == [4, 4, 1, 1, 1, 1, 1]


def tiny(name: str):
    torch.manual_seed(3)
    config = DecoderConfig(name=name, embedding_size=4, hidden_size=6, attention_size=3, heads=2)
    decoder = build_decoder(config, vocab_size=6, feature_size=4, cells=(2, 2), pooled_grid=0)
    return decoder.double().eval(), torch.randn(2, 4, 4, dtype=torch.float64)


def every_caption(longest: int) -> list[list[int]]:
    """All that sampling can give: ended ones, and those that are cut."""
    ended = [
        [*words, END]
        for length in range(1, longest)
        for words in itertools.product((A, B), repeat=length)
    ]
    return ended + [list(words) for words in itertools.product((A, B), repeat=longest)]


def as_tensors(captions: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    captions = sorted(captions, key=len, reverse=True)
    lengths = torch.tensor([len(c) for c in captions])
    words = torch.full((len(captions), int(lengths[0])), PAD)
    for row, caption in enumerate(captions):
        words[row, : len(caption)] = torch.tensor(caption)
    return words, lengths


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_the_probabilities_of_all_captions_add_up_to_one(name):
    decoder, features = tiny(name)
    words, lengths = as_tensors(every_caption(4))
    for picture in range(2):
        owners = torch.full((len(words),), picture)
        log_probs = caption_log_probabilities(decoder, features, words, lengths, owners)
        assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_what_is_drawn_is_as_frequent_as_it_is_probable(name):
    decoder, features = tiny(name)
    captions = every_caption(3)
    words, lengths = as_tensors(captions)
    owners = torch.zeros(len(words), dtype=torch.long)
    chances = caption_log_probabilities(decoder, features, words, lengths, owners).exp().tolist()
    torch.manual_seed(0)
    drawn, drawn_lengths = sample_captions(
        decoder.step, decoder.start(features[:1]), 1, samples=5000, max_length=3, device=CPU
    )
    counts = Counter(
        tuple(row[:n]) for row, n in zip(drawn[0].tolist(), drawn_lengths[0].tolist(), strict=True)
    )
    for row, length, chance in zip(words.tolist(), lengths.tolist(), chances, strict=True):
        spread = math.sqrt(chance * (1 - chance) / 5000)
        assert abs(counts[tuple(row[:length])] / 5000 - chance) < 4 * spread + 1e-3
