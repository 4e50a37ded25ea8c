"""Search by tables of probabilities: no model, and every answer worked out by hand or by force."""

import itertools
import math
from dataclasses import dataclass, field

import pytest
import torch

from pictell.config import DecoderConfig
from pictell.data.text import END, PAD, START, UNKNOWN
from pictell.decoders.base import DECODERS, Decoder, State, Step, build_decoder
from pictell.decoders.search import Hypothesis, _Runs, beam_search, follow, greedy_search

CPU = torch.device("cpu")
A, B, C, D = 4, 5, 6, 7  # the ordinary words
WORDS = 8


@dataclass
class Tables:
    """A step function that looks up logits by picture and by all words written so far.

    `logits[p]` maps a tuple of words to the next word's logits. Counts the rows that it is asked
    to step, so that a test can see finished pictures leave.
    """

    logits: list
    rows: list[int] = field(default_factory=list)

    def start(self) -> State:
        pictures = torch.arange(len(self.logits))[:, None]
        return State((pictures,), (torch.zeros(len(self.logits), 1, 0, dtype=torch.long),))

    def step(self, state: State, words: torch.Tensor) -> Step:
        written = torch.cat([state.beams[0], words[:, :, None]], dim=2)  # <start> first
        self.rows.append(len(words))
        logits = [
            [self.logits[picture](tuple(words[1:])) for words in beams]
            for (picture,), beams in zip(state.images[0].tolist(), written.tolist(), strict=True)
        ]
        return Step(
            torch.tensor(logits, dtype=torch.float64), State(state.images, (written,)), None
        )

    def greedy(self, max_length: int = 6, repeats: int = 0) -> list[list[int]]:
        return greedy_search(
            self.step,
            self.start(),
            len(self.logits),
            max_length=max_length,
            device=CPU,
            repeats=repeats,
        )

    def beam(
        self,
        beam: int,
        max_length: int = 6,
        penalty: float = 0.0,
        repeats: int = 0,
        enough: int | None = None,
    ) -> list[list[Hypothesis]]:
        return beam_search(
            self.step,
            self.start(),
            len(self.logits),
            beam=beam,
            max_length=max_length,
            length_penalty=penalty,
            device=CPU,
            repeats=repeats,
            enough=enough,
        )


def by_hand(table: dict[tuple[int, ...], dict[int, float]]):
    """Probabilities of next words after a prefix; words that are not named have next to none."""

    def logits(prefix: tuple[int, ...]) -> list[float]:
        named = table.get(prefix, {END: 1.0})
        return [math.log(named.get(word, 1e-30)) for word in range(WORDS)]

    return logits


def at_random(seed: int, end: float = 0.0):
    """Random logits for every prefix; the special words are likely, to see that they never come."""

    def logits(prefix: tuple[int, ...]) -> list[float]:
        code = seed
        for word in prefix:
            code = (code * 31 + word + 1) % 2**31
        drawn = torch.randn(WORDS, generator=torch.Generator().manual_seed(code)) * 1.5
        drawn[[PAD, START, UNKNOWN]] += 2
        drawn[END] += end
        return drawn.tolist()

    return logits


def all_captions(logits, max_length: int, penalty: float) -> list[Hypothesis]:
    """Every caption that ends below the maximal length, best first, by brute force."""
    found = []
    for length in range(1, max_length):
        for words in itertools.product([A, B, C, D], repeat=length):
            total = 0.0
            for position, word in enumerate([*words, END]):
                log_probs = torch.tensor(logits(words[:position]), dtype=torch.float64)
                total += log_probs.log_softmax(dim=0)[word].item()
            found.append(Hypothesis(list(words), total, total / (length + 1) ** penalty, True))
    return sorted(found, key=lambda h: h.score, reverse=True)


GARDEN_PATH = by_hand(
    {
        (): {A: 0.6, B: 0.4},
        (A,): {C: 0.35, D: 0.35, END: 0.3},
        (A, C): {END: 0.9, D: 0.1},
        (A, D): {END: 0.9, C: 0.1},
        (B,): {END: 0.9, C: 0.1},
    }
)


def test_greedy_takes_the_best_word_each_time():
    table = by_hand({(): {A: 0.6, B: 0.4}, (A,): {C: 0.5, END: 0.4}, (A, C): {END: 0.9, D: 0.1}})
    assert Tables([table]).greedy() == [[A, C]]


def test_beam_finds_what_greedy_walks_past():
    greedy = Tables([GARDEN_PATH]).greedy()
    assert greedy == [[A, C]]  # 0.6 * 0.35 * 0.9 = 0.189
    (best, second), *_ = Tables([GARDEN_PATH]).beam(2)
    assert best.words == [B]  # 0.4 * 0.9
    assert best.log_probability == pytest.approx(math.log(0.36), abs=1e-6)
    assert best.score == pytest.approx(math.log(0.36), abs=1e-6)
    assert best.ended
    assert second.log_probability < best.log_probability


def test_length_penalty_favours_longer_captions():
    best = Tables([GARDEN_PATH]).beam(5, penalty=0.0)[0][0]
    mean = Tables([GARDEN_PATH]).beam(5, penalty=1.0)[0][0]
    assert best.words == [B]
    assert mean.words in ([B], [A, C], [A, D])
    assert mean.score == pytest.approx(
        max(math.log(0.36) / 2, math.log(0.6 * 0.35 * 0.9) / 3), abs=1e-6
    )


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_beam_of_one_is_greedy(seed, penalty):
    tables = Tables([at_random(seed * 10 + picture) for picture in range(4)])
    beams = tables.beam(1, max_length=8, penalty=penalty)
    assert [hypotheses[0].words for hypotheses in beams] == tables.greedy(max_length=8)
    assert all(len(hypotheses) == 1 for hypotheses in beams)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_is_brute_force(seed, penalty):
    logits = at_random(seed)
    expected = all_captions(logits, 4, penalty)
    wide = 64 * 5  # all captions of three words, with all that may follow
    (found,) = Tables([logits]).beam(wide, max_length=4, penalty=penalty)
    assert len(found) == len(expected) == 4 + 16 + 64
    assert [h.words for h in found[:20]] == [h.words for h in expected[:20]]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-5)


@pytest.mark.parametrize("beam", [2, 3, 5, 20])
@pytest.mark.parametrize("seed", range(4))
def test_what_a_beam_finds_is_true_and_in_order(seed, beam):
    logits = at_random(seed)
    known = {tuple(h.words): h for h in all_captions(logits, 4, 0.7)}
    (found,) = Tables([logits]).beam(beam, max_length=4, penalty=0.7)
    assert 1 <= len(found) <= beam
    assert len({tuple(h.words) for h in found}) == len(found)
    ended = [h for h in found if h.ended]
    assert ended == found[: len(ended)]
    assert [h.score for h in ended] == sorted((h.score for h in ended), reverse=True)
    for hypothesis in ended:
        assert hypothesis.score == pytest.approx(known[tuple(hypothesis.words)].score, abs=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("beam", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_patient_search_goes_on_where_the_other_would_have_stopped(seed, beam, penalty):
    logits = at_random(seed, end=1.0)
    known = {tuple(h.words): h for h in all_captions(logits, 6, penalty)}
    counts = []
    before: list[Hypothesis] = []
    for enough in (1, beam - 1, beam, 2 * beam, 4 * beam):
        (found,) = Tables([logits]).beam(beam, max_length=5, penalty=penalty, enough=enough)
        assert 1 <= len(found) <= enough
        words = [tuple(h.words) for h in found]
        assert len(set(words)) == len(words)
        # All that a search finds that stops sooner, and what comes later, each with its value.
        assert {tuple(h.words) for h in before} <= set(words)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for hypothesis in found:
            expected = known[tuple(hypothesis.words)]
            assert hypothesis.ended
            assert hypothesis.log_probability == pytest.approx(expected.log_probability, abs=1e-5)
        counts.append(len(found))
        before = found
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert Tables([logits]).beam(beam, max_length=5, penalty=penalty) == Tables([logits]).beam(
        beam, max_length=5, penalty=penalty, enough=beam
    )


def test_patience_by_hand():
    tables = Tables([GARDEN_PATH])
    few, more = ({tuple(h.words) for h in tables.beam(2, enough=n)[0]} for n in (1, 3))
    assert few == {(B,)}
    assert more == {(B,), (A, C), (A, D)}
    (two,) = tables.beam(2)
    assert len(two) == 2
    assert two[0].words == [B]


@pytest.mark.parametrize("enough", [2, 6, 12])
def test_a_patient_search_of_several_pictures_is_that_of_each(enough):
    tables = [at_random(seed, end=1.0) for seed in range(5)]
    together = Tables(tables).beam(3, penalty=0.7, enough=enough)
    for logits, found in zip(tables, together, strict=True):
        assert found == Tables([logits]).beam(3, penalty=0.7, enough=enough)[0]


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("seed", range(8))
def test_special_words_are_never_written(seed, beam):
    tables = Tables([at_random(seed * 10 + picture, end=-1) for picture in range(3)])
    captions = [h.words for hypotheses in tables.beam(beam) for h in hypotheses]
    captions += tables.greedy()
    assert all(set(words) <= {A, B, C, D} for words in captions)


@pytest.mark.parametrize("beam", [1, 2, 4, 5, 50])
def test_a_caption_is_never_empty_though_the_end_has_all_the_mass_at_first(beam):
    table = by_hand({(): {END: 1.0}, (A,): {END: 1.0}, (B,): {END: 1.0}})
    tables = Tables([table])
    assert len(tables.greedy()[0]) == 1
    (found,) = tables.beam(beam)
    assert all(h.words for h in found)
    assert found[0].ended
    assert len(found[0].words) == 1


@pytest.mark.parametrize("beam", [1, 2, 5, 50])
def test_when_nothing_ends_captions_are_cut_at_the_maximal_length(beam):
    tables = Tables([lambda prefix: [0.0, 0.0, -math.inf, 0.0, 1.0, 0.5, 0.0, 0.0]])
    assert tables.greedy(max_length=3) == [[A, A, A]]
    (found,) = tables.beam(beam, max_length=3, penalty=1.0)
    assert found[0].words == [A, A, A]
    assert not any(h.ended for h in found)
    assert all(len(h.words) == 3 for h in found)
    assert len(found) == min(beam, 4**3)


def test_a_caption_that_ended_comes_before_one_that_was_cut():
    table = by_hand({(): {A: 0.9, B: 0.1}, (A,): {A: 1.0}, (A, A): {A: 1.0}, (B,): {END: 1.0}})
    (found,) = Tables([table]).beam(2, max_length=3)
    assert [h.words for h in found if h.ended] == [[B]]
    assert found[0].words == [B]


def test_one_ordinary_word_is_enough():
    def logits(prefix):
        return [5.0, 5.0, 1.0 if prefix else 9.0, 5.0, 0.0]

    tables = Tables([logits])
    assert tables.greedy(max_length=4) == [[A]]
    (found,) = tables.beam(5, max_length=4)
    assert [h.words for h in found] == [[A], [A, A], [A, A, A]]


def test_max_length_of_one():
    tables = Tables([at_random(1)])
    assert [len(words) for words in tables.greedy(max_length=1)] == [1]
    assert [len(h.words) for h in tables.beam(3, max_length=1)[0]] == [1, 1, 1]


# Several pictures.


def ends_after(length: int):
    """A picture whose caption surely ends after so many words."""

    def logits(prefix: tuple[int, ...]) -> list[float]:
        drawn = at_random(length)(prefix)
        drawn[END] = 50.0 if len(prefix) == length else -50.0
        return drawn

    return logits


def same(ours: list[Hypothesis], theirs: list[Hypothesis]) -> bool:
    return [h.words for h in ours] == [h.words for h in theirs] and all(
        math.isclose(a.score, b.score, rel_tol=1e-5) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("vocabulary", [5, 64, 100, 2538])
@pytest.mark.parametrize("beams", [1, 5])
def test_the_largest_are_those_of_a_plain_selection(vocabulary, beams):
    generator = torch.Generator().manual_seed(vocabulary + beams)
    logits = torch.randn(7, beams, vocabulary, generator=generator, dtype=torch.float64)
    logits[0, :, 3:] = -torch.inf  # fewer words may be written than are asked for
    offset = torch.randn(7, beams, generator=generator, dtype=torch.float64)
    offset[1, beams // 2 :] = -torch.inf  # beams that carry nothing
    values, parents, words = _Runs.of(logits).largest(offset, 10)
    plain = (logits + offset[:, :, None]).flatten(1).topk(min(10, beams * vocabulary), dim=1)
    torch.testing.assert_close(values, plain.values, rtol=0, atol=0)
    possible = plain.values.isfinite()
    places = parents * vocabulary + words
    assert torch.equal(places[possible], plain.indices[possible])
    assert int(words.max()) < vocabulary


@pytest.mark.parametrize("vocabulary", [5, 64, 100])
def test_runs_know_the_logarithm_of_the_sum(vocabulary):
    logits = torch.randn(3, 2, vocabulary, dtype=torch.float64) * 300  # exponentials overflow
    logits[0, 0, 1:] = -torch.inf
    logits[0, 1] = -torch.inf
    runs = _Runs.of(logits)
    torch.testing.assert_close(runs.log_sum_exp(), logits.logsumexp(dim=-1))
    assert torch.equal(runs.words, logits)


def test_forbidden_words_are_not_selected_from_runs():
    logits = torch.zeros(1, 1, 100)
    logits[0, 0, [PAD, START, UNKNOWN, A, 70]] = torch.tensor([9.0, 8.0, 7.0, 5.0, 6.0])
    runs = _Runs.of(logits)
    runs.forbid([PAD, START, UNKNOWN])
    _, _, words = runs.largest(torch.zeros(1, 1), 2)
    assert words.tolist() == [[70, A]]
    runs.words[0, 0, 70] = -torch.inf
    runs.look_again()
    _, _, words = runs.largest(torch.zeros(1, 1), 2)
    assert words[0, 0] == A
    assert logits[0, 0, PAD] == 9  # runs are a copy


@pytest.mark.parametrize("beam", [1, 3])
def test_finished_pictures_leave_and_do_not_disturb_the_others(beam):
    lengths = [1, 9, 2, 1, 5, 1, 9, 1]
    together = Tables([ends_after(length) for length in lengths])
    found = together.beam(beam, max_length=12, penalty=0.7)
    for hypotheses, length in zip(found, lengths, strict=True):
        assert len(hypotheses[0].words) == length
        (alone,) = Tables([ends_after(length)]).beam(beam, max_length=12, penalty=0.7)
        assert same(hypotheses, alone)
    assert together.rows[0] == 8
    assert together.rows[-1] <= 2
    assert len(together.rows) == 10  # it stops when all are done


def test_greedy_of_several_pictures_stops_when_all_are_done():
    tables = Tables([ends_after(length) for length in (1, 4, 2)])
    captions = tables.greedy(max_length=12)
    assert [len(words) for words in captions] == [1, 4, 2]
    assert captions[1] == Tables([ends_after(4)]).greedy(max_length=12)[0]
    assert len(tables.rows) == 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beam", [2, 5])
def test_random_pictures_alone_and_together(seed, beam):
    pictures = [at_random(seed * 100 + p, end=p / 3 - 1) for p in range(7)]
    together = Tables(pictures).beam(beam, max_length=7, penalty=1.0)
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = Tables([picture]).beam(beam, max_length=7, penalty=1.0)
        assert same(found, alone)


def talkative_decoder(name: str) -> Decoder:
    """A decoder with random weights whose captions of random pictures end at different times."""
    torch.manual_seed(4 if name == "transformer" else 3)
    config = DecoderConfig(name=name, embedding_size=8, hidden_size=16, attention_size=8)
    decoder = build_decoder(config, vocab_size=30, feature_size=6, cells=(3, 3), pooled_grid=4)
    decoder = decoder.double().eval()
    if name == "transformer":  # larger weights inside would drown the words in the picture
        torch.nn.init.normal_(decoder.embedding.weight)
        torch.nn.init.normal_(decoder.vocabulary.weight)
        decoder.vocabulary.bias.data[END] = 4.0
        return decoder
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    decoder.vocabulary.bias.data[END] = 1.0 if name in ("adaptive", "topdown") else 3.0
    return decoder


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_decoder_writes_the_same_alone_and_in_a_batch(name):
    decoder = talkative_decoder(name)
    scale = 1 if name in ("adaptive", "transformer") else 3
    features = torch.randn(24, 9, 6, dtype=torch.float64) * scale

    def write(chosen):
        options = {"max_length": 15, "device": CPU}
        with torch.inference_mode():
            start = decoder.start(chosen)
            greedy = greedy_search(decoder.step, start, len(chosen), **options)
            beams = beam_search(
                decoder.step, start, len(chosen), beam=3, length_penalty=1.0, **options
            )
        return greedy, beams

    greedy, beams = write(features)
    assert len({len(words) for words in greedy}) >= 4  # they end at different times
    for i in range(len(features)):
        alone_greedy, alone_beams = write(features[i : i + 1])
        assert alone_greedy[0] == greedy[i]
        assert same(alone_beams[0], beams[i])
    narrow = beam_search(
        decoder.step,
        decoder.start(features),
        24,
        beam=1,
        max_length=15,
        length_penalty=1.0,
        device=CPU,
    )
    assert [found[0].words for found in narrow] == greedy


# Following given captions.


def test_follow_tells_what_each_word_was_worth():
    table = {(): {A: 0.6, B: 0.4}, (A,): {C: 0.35, D: 0.65}, (A, C): {END: 1.0}}
    tables = Tables([by_hand(table), by_hand(table)])
    log_probs, attention = follow(tables.step, tables.start(), [[A, C], [B]], device=CPU)
    assert log_probs[0] == pytest.approx([math.log(0.6), math.log(0.35)], abs=1e-5)
    assert log_probs[1] == pytest.approx([math.log(0.4)], abs=1e-5)
    assert attention == [None, None]


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_follow_agrees_with_the_search_that_found_the_caption(name):
    decoder = talkative_decoder(name)
    features = torch.randn(6, 9, 6, dtype=torch.float64)
    with torch.inference_mode():
        start = decoder.start(features)
        found = beam_search(
            decoder.step, start, 6, beam=3, max_length=15, length_penalty=1.0, device=CPU
        )
        best = [hypotheses[0] for hypotheses in found]
        ended = [[*h.words, END] if h.ended else h.words for h in best]
        log_probs, attention = follow(decoder.step, start, ended, device=CPU)
    assert len({len(caption) for caption in ended}) > 1
    for hypothesis, caption, values, maps in zip(best, ended, log_probs, attention, strict=True):
        assert len(values) == len(caption)
        assert sum(values) == pytest.approx(hypothesis.log_probability, abs=1e-4)
        if decoder.attends:
            assert maps.shape == (len(caption), 16)
            torch.testing.assert_close(maps.sum(dim=1), torch.ones(len(caption)).double())
        else:
            assert maps is None


def holds_a_repeat(words: list[int], size: int) -> bool:
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return len(runs) != len(set(runs))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_with_repeats_blocked_a_wide_beam_finds_the_best_caption_without_one(size):
    """Three words that love to follow each other; brute force over all captions of up to five."""
    torch.manual_seed(4)
    following = torch.randn(WORDS, WORDS) * 2

    def logits(prefix: tuple[int, ...]) -> list[float]:
        row = following[prefix[-1] if prefix else START].clone()
        row[C:] = -20.0
        row[END] -= 2.0
        return row.tolist()

    tables = Tables([logits])
    found = tables.beam(300, max_length=5, repeats=size)[0]
    scored = {}
    for length in range(1, 6):
        for words in itertools.product((A, B), repeat=length):
            if not holds_a_repeat(list(words), size) and length < 5:
                steps = [torch.tensor(logits(words[:t])).log_softmax(0) for t in range(length + 1)]
                written = [*words, END]
                scored[words] = sum(s[w].item() for s, w in zip(steps, written, strict=True))
    ended = {tuple(h.words): h.log_probability for h in found if h.ended and max(h.words) < C}
    assert ended.keys() == scored.keys()
    for words, total in scored.items():
        assert ended[words] == pytest.approx(total)
    assert not any(holds_a_repeat(h.words, size) for h in found)


def test_greedy_takes_the_next_best_word_where_a_run_would_repeat():
    likes = {(): {A: 1.0}}
    for length in range(1, 7):
        for prefix in itertools.product((A, B, C), repeat=length):
            likes[prefix] = {B: 0.6, C: 0.3, END: 0.1} if prefix[-1] == A else {A: 0.9, C: 0.1}
    tables = Tables([by_hand(likes)])
    assert tables.greedy() == [[A, B, A, B, A, B]]
    assert tables.greedy(repeats=2) == [[A, B, A, C, A]]  # nothing but the end may follow
    assert tables.greedy(repeats=3) == [[A, B, A, B, C, A]]
