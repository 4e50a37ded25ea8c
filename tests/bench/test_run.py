import json

import pytest

from pictell.bench import run as bench_run
from pictell.bench.case import PICTELL
from pictell.bench.decoding import Scoring
from pictell.bench.run import run_bench
from pictell.cli import main
from pictell.errors import InputError


def test_quick_checks_all_and_times_nothing(capsys):
    results = run_bench("train", quick=True)
    said = capsys.readouterr().out
    assert said.count("equal") == 4
    assert not results.operations


def test_results_that_differ_are_an_error(monkeypatch):
    from pictell.bench.training import TrainingStep

    real = TrainingStep.textbook_loss
    monkeypatch.setattr(TrainingStep, "textbook_loss", lambda *a: real(*a) + 0.01)
    with pytest.raises(AssertionError):
        run_bench("train", quick=True)


def test_a_table_is_printed_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_run, "full_cases", lambda group: [Scoring(20)])
    results = run_bench("decode", repeats=2, memory=False, out=tmp_path)
    assert "Operations" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    (operation,) = written["operations"]
    median = results.operations[0].timings[PICTELL].median
    assert operation["seconds"][PICTELL]["median"] == median
    table = (tmp_path / "BENCH.md").read_text()
    assert f"{20 / median:,.1f} pictures/s" in table
    assert written["about"]["hardware"]["cores"] >= 1


def test_operations_can_be_chosen_by_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench_run, "full_cases", lambda group: [Scoring(20)])
    monkeypatch.setattr(bench_run, "_validations", lambda *_: pytest.fail("not asked for"))
    results = run_bench("train", repeats=1, memory=False, only="CIDEr-D", out=tmp_path)
    assert [measured.case.name for measured in results.operations] == [Scoring.name]
    assert "CIDEr-D, BLEU and ROUGE-L" in capsys.readouterr().out  # not cut off in a log
    assert (tmp_path / "BENCH.md").exists()
    with pytest.raises(InputError, match=r"--only 'dance': no operation .*there are: CIDEr-D"):
        run_bench("train", only="dance")


def test_without_a_gpu_it_says_what_it_would_measure(capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["bench", "gpu"]) == 0
    said = capsys.readouterr().err
    assert "there is none" in said
    assert "attention, stored features, fp16, CUDA graphs, accumulation 2" in said
    run_bench("gpu", only="resnet101 trained by caption, fp16")
    said = capsys.readouterr().err
    assert said.count(", accumulation") == 4
    with pytest.raises(InputError, match=r"--only 'dance': no operation .*there are: rnn, stored"):
        run_bench("gpu", only="dance")


def test_bad_input(capsys):
    with pytest.raises(InputError, match="bench 'dance': unknown; known: encode, train"):
        run_bench("dance")
    assert main(["bench", "--repeats", "0"]) == 2
    assert "--repeats is 0" in capsys.readouterr().err


def test_nothing_measured_writes_over_nothing(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "BENCH.md").write_text("figures of another machine")
    run_bench("gpu", out=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["BENCH.md"]
    assert (tmp_path / "BENCH.md").read_text() == "figures of another machine"
