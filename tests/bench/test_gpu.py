import gc
import weakref

import pytest
import torch

from pictell.bench import gpu
from pictell.bench.arithmetic import Shapes
from pictell.bench.gpu import Setting, measure_setting, settings

TINY = Shapes(captions=10, features=96, width=32, vocabulary=50)


def test_every_combination_is_there_once():
    stored, by_picture, by_caption = 3 * (2 + 3) * 2, 2 * 4 * 3 * 2, 2 * 4 * 2
    count = stored + by_picture + by_caption
    assert len(set(map(str, settings()))) == len(settings()) == count


@pytest.mark.parametrize("decoder", ["rnn", "attention"])
@pytest.mark.parametrize(
    ("fine_tuned", "batch_by"), [(False, "caption"), (True, "picture"), (True, "caption")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_way_of_training_trains_on_a_cpu_too(decoder, fine_tuned, batch_by, precision):
    setting = Setting(
        decoder=decoder,
        fine_tuned=fine_tuned,
        batch_by=batch_by,
        precision=precision,
        execution="eager",
        accumulation=2,
    )
    result = measure_setting(
        setting, TINY, device="cpu", backbone="test_resnet", side=256, repeats=1
    )
    assert not result.failure
    assert result.captions_per_second > 0
    assert result.ratio == pytest.approx(result.captions_per_second / result.textbook)


def test_what_torch_cannot_do_is_told(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("out of memory\nand a long trace")

    monkeypatch.setattr(gpu, "_step", refuse)
    result = measure_setting(settings()[0], TINY, device="cpu", repeats=1)
    assert result.failure == "out of memory"
    assert result.ratio == 0


def test_what_an_earlier_setting_left_is_gone_before_memory_is_measured():
    left = Setting(**vars(settings()[0]))
    object.__setattr__(left, "itself", left)  # a cycle, as modules and their closures form them
    seen = weakref.ref(left)
    gc.disable()
    try:
        del left
        assert seen() is not None

        def prepare():
            assert seen() is None
            return lambda: None

        gpu._timed(prepare, torch.device("cpu"), repeats=1)
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU (or hidden by conftest.py)")
@pytest.mark.parametrize("setting", settings()[::5], ids=str)
def test_on_a_gpu(setting):
    result = measure_setting(setting, repeats=2)
    assert result.failure or result.peak_mb > 0
