"""Reading studies: what is wrong is said at once, with the way out."""

from pathlib import Path

import pytest

from pictell.ablate.plan import Plan
from pictell.ablate.study import BASE, Study, changed_options
from pictell.cli import main
from pictell.config import Config
from pictell.errors import InputError

GOOD = """
base: {data: {dataset: somewhere}, train.epochs: 7}
seeds: [3, 4]
screening: {data.pictures: 100, train.epochs: 2, seeds: [0]}
variations:
  alpha_c 0: {train.alpha_c: 0}
  nested: {decoder: {gate: false, activation: tanh}}
  longer: {train.epochs: 5}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_options_of_size_variation_and_seed_are_laid_over_the_base(tmp_path):
    study = Study.load(write(tmp_path, GOOD))
    small, full = study.sizes["screening"], study.sizes["full"]
    assert (small.seeds, small.split) == ((0,), "val")
    assert (full.seeds, full.split) == ((3, 4), "test")
    config = study.config(study.variations["alpha_c 0"], small, 0)
    assert (config.train.alpha_c, config.train.epochs, config.data.pictures) == (0, 2, 100)
    assert study.config(study.variations[BASE], full, 4).train.epochs == 7
    assert study.config(study.variations[BASE], full, 4).train.seed == 4
    nested = study.config(study.variations["nested"], full, 3)
    assert (nested.decoder.gate, nested.decoder.activation) == (False, "tanh")
    # What a variation says comes after what its size says.
    assert study.config(study.variations["longer"], small, 0).train.epochs == 5


def test_the_base_may_be_a_config_file_beside_the_study(tmp_path):
    (tmp_path / "experiment.yaml").write_text("train: {clip: 2}\nrun: elsewhere\n")
    study = Study.load(write(tmp_path, "base: experiment.yaml\nvariations: {a: {train.clip: 1}}\n"))
    config = study.config(study.variations[BASE], study.sizes["full"], 0)
    assert (config.train.clip, config.run) == (2, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: {}\nvariations: {a: {train.alphac: 0}}", "'a': unknown option train.alphac; did "),
        ("base: {}\nvariations: {a: {train.alpha_c: no}}", "'a': train.alpha_c is False; it must"),
        (
            "base: {}\nscreening: {train.epoch: 2}\nvariations: {a: {train.clip: 1}}",
            "screening: un",
        ),
        ("base: {trian: {}}\nvariations: {a: {train.clip: 1}}", "base: unknown option trian"),
        ("base: {}\nvariatons: {a: {}}", "unknown key 'variatons'; did you mean 'variations'"),
        ("base: {}", "variations must be names with options"),
        ("base: {}\nvariations: {a: 3}", "'a': must hold options, such as"),
        ("variations: {a: {train.clip: 1}}", "base must be a config file or options, not None"),
        ("base: gone.yaml\nvariations: {a: {}}", "gone.yaml: no such config file"),
        ("base: {}\nseeds: [1, 1]\nvariations: {a: {}}", "seeds: must be different whole numbers"),
        ("base: {}\nseeds: 3\nvariations: {a: {}}", "seeds: must be different whole numbers"),
        ("base: {}\nvariations: {a: {train.seed: 1}}", "train.seed is not for a variation"),
        ("base: {}\nvariations: {a: {needs: gpus}}", "needs is 'gpus'; it must be gpu"),
        ("base: {}\nvariations: {a: {ensemble: all}}", "ensemble is 'all'; it must be seeds, or"),
        ("base: {}\nvariations: {tanh: {train.clip: 1}, a: {ensemble: [tan]}}", "mean 'tanh'"),
        ("base: {}\nvariations: {a: {ensemble: seeds}, b: {ensemble: [a]}}", "an ensemble itself"),
        ("base: {}\nvariations: {a: {ensemble: seeds, train.clip: 1}}", "an ensemble trains nothi"),
        ("base: {}\nvariations: {a: {decoder.name: rnm}}", "decoder.name is 'rnm'; known: "),
        ("base: {}\nvariations:\n  a: {train.clip: 1}\n  a: {train.clip: 2}", "'a' is there twice"),
        ("base: {}\nvariations: {base: {train.clip: 1}}", "'base' stands for the base itself"),
        ("base: [", "not YAML"),
        ("- base", "must hold base, seeds, variations, screening, full"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    file = write(tmp_path, text)
    with pytest.raises(InputError) as error:
        Study.load(file)
    assert message in str(error.value)


def test_an_unknown_option_ends_in_one_line_before_anything_is_written(tmp_path, capsys):
    file = write(tmp_path, GOOD.replace("train.alpha_c", "train.alpha"))
    assert main(["ablate", str(file), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pictell ablate: {file}, 'alpha_c 0': unknown option train.alpha; did")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "huge"], "size is 'huge'; it must be one of screening, full"),
        (["--jobs", "0"], "jobs is 0"),
        (["--resamples", "5"], "at least 100"),
        (["--variations", "alpha"], "'alpha' is no variation of"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, capsys, arguments, message):
    assert main(["ablate", str(write(tmp_path, GOOD)), *arguments]) == 2
    assert message in capsys.readouterr().err


def config(**sections) -> Config:
    return Config.from_dict(sections)


def test_what_auto_comes_to_is_no_change():
    half, none = config(train={"precision": "fp16"}), config(train={"precision": "none"})
    assert changed_options(config(), none, gpu=False) == {}
    assert changed_options(config(), half, gpu=True) == {}
    assert changed_options(config(), none, gpu=True) == {"train.precision": "none"}
    by = config(train={"batch_by": "caption"})
    assert changed_options(config(), by, gpu=False) == {}


def test_what_the_plain_decoder_does_not_read_is_no_change():
    plain, gated = (config(decoder={"name": "rnn", "gate": gate}) for gate in (True, False))
    assert changed_options(plain, gated, gpu=False) == {}
    assert set(changed_options(config(), gated, gpu=False)) == {"decoder.name"}


def test_a_changed_variation_has_another_folder(tmp_path, shapes_dataset):
    def folders(**options):
        text = f"base: {{data.dataset: {shapes_dataset}}}\nvariations: {{a: {options}}}\n"
        study = Study.load(write(tmp_path, text))
        plan = Plan.make(study, study.sizes["screening"], tmp_path)
        return [training.run.path.name for training in plan.trainings()]

    first = folders(**{"train.clip": 1.0})
    assert first == folders(**{"train.clip": 1.0, "train.log_every": 3, "search.beam": 2})
    other = folders(**{"train.clip": 2.0})
    assert (other[0], other[1]) != (first[0], first[1])
    assert other[0] == first[0]  # the base's own


@pytest.mark.parametrize("option", ["train.init", "train.teachers"])
def test_a_training_from_other_weights_has_another_folder(tmp_path, shapes_dataset, option):
    first = tmp_path / "first" / "model.safetensors"
    first.parent.mkdir()

    def folder(weights):
        first.write_bytes(weights)
        text = (
            f"base: {{data.dataset: {shapes_dataset}, {option}: {first.parent}}}\n"
            "variations: {a: {train.clip: 1}}\n"
        )
        study = Study.load(write(tmp_path, text))
        plan = Plan.make(study, study.sizes["screening"], tmp_path)
        return plan.trainings()[0].run.path.name

    assert folder(b"one") == folder(b"one")
    assert folder(b"one") != folder(b"another")


def test_too_many_pictures_are_told_before_anything_is_trained(tmp_path, shapes_dataset):
    text = f"base: {{data.dataset: {shapes_dataset}}}\nvariations: {{a: {{data.pictures: 99}}}}\n"
    study = Study.load(write(tmp_path, text))
    with pytest.raises(InputError, match=r"data\.pictures is 99, but the training split"):
        Plan.make(study, study.sizes["screening"], tmp_path)
