import itertools

import pytest
import torch

from pictell.decoders.repeats import block_repeats


def ends_a_repeat(caption: list[int], size: int) -> bool:
    runs = [tuple(caption[i : i + size]) for i in range(len(caption) - size + 1)]
    return bool(runs) and runs[-1] in runs[:-1]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_exactly_the_words_that_end_a_repeated_run_are_blocked(size, length):
    generator = torch.Generator().manual_seed(size + 10 * length)
    words = torch.randint(3, (40, 2, length), generator=generator)
    scores = torch.zeros(40, 2, 3)
    block_repeats(scores, words, size)
    for picture, beam, word in itertools.product(range(40), range(2), range(3)):
        blocked = ends_a_repeat([*words[picture, beam].tolist(), word], size)
        assert (scores[picture, beam, word] == -torch.inf) == blocked
