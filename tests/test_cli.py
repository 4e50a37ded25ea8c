"""The command line as a person uses it: whole paths through it, one clear line for bad input."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pictell.cli import VERBS, main


@pytest.fixture
def config_files(tiny_config, tmp_path, monkeypatch):
    """The same tiny experiment for both decoders, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("rnn", "attention"):
        values = tiny_config(decoder={"name": name}).to_dict()
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def fails(capsys, *arguments: str) -> str:
    """Run a command that must fail with exit code 2 and one line; returns the line."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("pictell ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


def test_from_configs_to_report_and_caption(config_files, shapes_dataset, capsys):
    # Into a folder of its own: how many pictures there are depends on no other test.
    assert main(["encode", "rnn.yaml", "--encoder.features", "own"]) == 0
    assert "14 pictures of 2x2x96" in capsys.readouterr().out
    assert main(["train", "rnn.yaml"]) == 0
    assert main(["compare", "rnn.yaml", "attention.yaml", "--out", "out", "--beam", "1", "2"]) == 0
    comparison = json.loads(Path("out/comparison.json").read_text())
    assert [m["name"] for m in comparison["models"]] == ["rnn", "attention"]
    assert "data:image" in Path("out/report.html").read_text()

    assert main(["evaluate", "runs/attention", "--split", "val", "--beam", "1"]) == 0
    scores = json.loads(Path("runs/attention/evaluation/val-beam1/scores.json").read_text())
    rows = Path("runs/attention/evaluation/val-beam1/predictions.jsonl").read_text().splitlines()
    assert len(rows) == scores["protocol"]["pictures"] == 4

    capsys.readouterr()
    picture = next((shapes_dataset / "pictures").glob("val_red_*.png"))
    assert main(["caption", "runs/attention", str(picture), "--attention"]) == 0
    assert capsys.readouterr().out.split()
    assert Image.open(f"{picture.stem}.attention.png").width > 100


def test_caption_of_the_search_is_the_caption_of_the_file(config_files, shapes_dataset, capsys):
    """Evaluated from the feature store or captioned from the file: the same words."""
    assert main(["train", "attention.yaml"]) == 0
    assert main(["evaluate", "runs/attention", "--split", "val", "--beam", "3"]) == 0
    rows = Path("runs/attention/evaluation/val-beam3/predictions.jsonl").read_text().splitlines()
    capsys.readouterr()
    for row in map(json.loads, rows):
        picture = shapes_dataset / "pictures" / f"{row['image_id']}.png"
        assert main(["caption", "runs/attention", str(picture), "--beam", "3"]) == 0
        assert capsys.readouterr().out.strip() == row["caption"]


def test_words_are_not_repeated_where_that_is_asked(config_files, shapes_dataset, capsys):
    """A model that has learnt next to nothing writes a word again and again."""
    little = ["--train.epochs", "1", "--train.decoder_lr", "1e-5"]
    assert main(["train", "attention.yaml", *little]) == 0
    capsys.readouterr()
    path = str(shapes_dataset / "pictures" / "test_green_circle.png")
    evaluate, caption = ["evaluate", "runs/attention", "--beam", "3"], ["caption", "runs/attention"]
    file = Path("runs/attention/evaluation/test-beam3/predictions.jsonl")

    def captions(*options: str) -> list[list[str]]:
        assert main([*evaluate, *options]) == 0
        capsys.readouterr()
        assert main([*caption, path, "--beam", "3", *options]) == 0
        written = capsys.readouterr().out.split()
        return [written, *(json.loads(row)["words"] for row in file.read_text().splitlines())]

    assert all(len(set(words)) < len(words) for words in captions())
    assert all(len(set(words)) == len(words) for words in captions("--block_repeats", "1"))
    assert main([*evaluate, "--block_repeats", "1"]) == 0
    assert "no repeat of 1 in a row" in " ".join(capsys.readouterr().err.split())
    message = "search.block_repeats is -1; it must be at least 0"
    assert message in fails(capsys, *evaluate, "--block_repeats", "-1")
    assert message in fails(capsys, *caption, path, "--block_repeats", "-1")
    # A patient search finds other captions, and says so; a greedy one stays as it is.
    assert main([*evaluate, "--patience", "3"]) == 0
    assert "patience 3.0" in " ".join(capsys.readouterr().err.split())
    assert main([*evaluate[:2], "--beam", "1", "--patience", "3"]) == 0
    assert "patience" not in capsys.readouterr().err
    message = "search.patience is 0.0; it must be above 0"
    assert message in fails(capsys, *caption, path, "--patience", "0")


def test_folder_with_a_bad_picture_captions_the_others(config_files, shapes_dataset, capsys):
    assert main(["train", "rnn.yaml"]) == 0
    folder = config_files / "photos"
    folder.mkdir()
    good = next((shapes_dataset / "pictures").glob("test_*.png"))
    (folder / "a.png").write_bytes(good.read_bytes())
    (folder / "b.jpg").write_text("this is text")
    (folder / "c.png").write_bytes(good.read_bytes())
    capsys.readouterr()
    assert main(["caption", "runs/rnn", str(folder)]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "b.jpg" in captured.err


class TestBadInput:
    def test_no_such_picture(self, config_files, capsys):
        main(["train", "rnn.yaml"])
        assert "nothing.jpg: no such file" in fails(capsys, "caption", "runs/rnn", "nothing.jpg")

    def test_picture_that_is_text(self, config_files, capsys):
        main(["train", "rnn.yaml"])
        Path("text.jpg").write_text("not a picture")
        assert "text.jpg: not a picture" in fails(capsys, "caption", "runs/rnn", "text.jpg")

    def test_truncated_jpeg(self, config_files, capsys):
        main(["train", "rnn.yaml"])
        Image.effect_noise((200, 200), 80).convert("RGB").save("whole.jpg")
        Path("cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:4000])
        assert "cut.jpg: the picture does not" in fails(capsys, "caption", "runs/rnn", "cut.jpg")

    def test_config_that_is_missing(self, config_files, capsys):
        assert "none.yaml: no such config file" in fails(capsys, "train", "none.yaml")

    def test_config_with_a_wrong_type(self, config_files, capsys):
        Path("bad.yaml").write_text("train:\n  epochs: many\n")
        line = fails(capsys, "train", "bad.yaml")
        assert "bad.yaml: train.epochs is 'many'; it must be a whole number" in line

    def test_config_with_an_unknown_key_names_the_nearest(self, config_files, capsys):
        Path("bad.yaml").write_text("train:\n  epoch: 3\n")
        assert "did you mean train.epochs?" in fails(capsys, "train", "bad.yaml")

    def test_option_with_a_wrong_type(self, config_files, capsys):
        line = fails(capsys, "train", "rnn.yaml", "--train.epochs", "many")
        assert "train.epochs is 'many'; it must be a whole number" in line

    def test_unknown_option_names_the_nearest(self, config_files, capsys):
        line = fails(capsys, "train", "rnn.yaml", "--train.epoch", "3")
        assert "did you mean train.epochs?" in line

    def test_empty_data_set(self, config_files, capsys):
        Path("empty").mkdir()
        Path("empty/dataset.jsonl").write_text("")
        line = fails(capsys, "train", "rnn.yaml", "--data.dataset", "empty")
        assert "the data set is empty" in line

    def test_run_folder_without_weights(self, config_files, capsys):
        main(["train", "rnn.yaml"])
        Path("runs/rnn/model.safetensors").unlink()
        line = fails(capsys, "caption", "runs/rnn", "photo.jpg")
        assert "no weights yet" in line
        assert "--resume" in line

    def test_feature_store_of_another_backbone(self, config_files, capsys, feature_folder):
        main(["encode", "rnn.yaml"])
        store = next(p for p in feature_folder.iterdir() if (p / "store.json").exists())
        Path("features").mkdir()
        other = json.loads((store / "store.json").read_text()) | {"key": "0" * 64, "encoder": "x"}
        Path("features/store.json").write_text(json.dumps(other))
        line = fails(capsys, "train", "rnn.yaml", "--encoder.features", "features")
        assert "holds features of x" in line

    def test_caption_file_in_the_wrong_encoding(self, config_files, capsys):
        Image.new("RGB", (40, 40), "red").save("a.png")
        Path("captions.csv").write_bytes(
            "image,caption\na.png,一个女孩在草地上奔跑\n".encode("gb18030")
        )
        line = fails(capsys, "prepare", "csv", "captions.csv", "--out", "prepared")
        assert "captions.csv: not UTF-8" in line
        assert not Path("prepared/dataset.jsonl").exists()

    def test_unknown_verb_names_the_nearest(self, capsys):
        assert "did you mean train?" in fails(capsys, "trian")

    def test_run_that_exists_is_not_overwritten(self, config_files, capsys):
        main(["train", "rnn.yaml"])
        before = Path("runs/rnn/model.safetensors").read_bytes()
        assert "--overwrite begins anew" in fails(capsys, "train", "rnn.yaml")
        assert Path("runs/rnn/model.safetensors").read_bytes() == before

    def test_attention_of_a_model_without(self, config_files, shapes_dataset, capsys):
        main(["train", "rnn.yaml"])
        picture = next((shapes_dataset / "pictures").glob("test_*.png"))
        line = fails(capsys, "caption", "runs/rnn", str(picture), "--attention")
        assert "no attention" in line


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_teaches_its_options(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"pictell {verb}" in capsys.readouterr().out


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys; from pictell.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules or 'jsonargparse' in sys.modules)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    for verb in VERBS:
        assert verb in done.stdout
    # The promise is 0.5 s; a busy machine gets four times that before the test calls it broken.
    assert time.perf_counter() - started < 2.0
