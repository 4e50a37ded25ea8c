import dataclasses

import pytest

from pictell.config import (
    Config,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    SearchConfig,
    TrainConfig,
    known_options,
    nearest_option,
)
from pictell.errors import InputError


def load(tmp_path, text: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return Config.load(path)


def test_defaults_are_those_of_the_report_that_the_project_starts_from():
    config = Config()
    train = config.train
    assert (train.batch_size, train.epochs, train.accumulation, train.workers) == (32, 10, 2, 4)
    assert (train.encoder_lr, train.decoder_lr) == (1e-4, 4e-4)
    assert (train.clip, train.clip_by, train.patience, train.alpha_c) == (5.0, "norm", 3, 1.0)
    assert (train.precision, train.alpha_target) == ("auto", "one")
    assert train.select_by == "CIDEr-D"
    decoder = config.decoder
    assert (decoder.embedding_size, decoder.hidden_size, decoder.attention_size) == (512, 512, 512)
    assert (decoder.dropout, decoder.activation, decoder.gate) == (0.5, "relu", True)
    encoder = config.encoder
    assert (encoder.name, encoder.pooled_grid, encoder.image_size) == ("resnet101", 14, 256)
    assert (encoder.fine_tune, encoder.fine_tune_from) == (False, 2)


@pytest.mark.parametrize(
    "cls", [Config, DataConfig, EncoderConfig, DecoderConfig, TrainConfig, SearchConfig]
)
def test_options_are_frozen_keywords_with_a_line_of_documentation_each(cls):
    config = cls()
    first = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, first, "x")
    with pytest.raises(TypeError):
        cls("x")
    for option in dataclasses.fields(cls):
        assert f"        {option.name}: " in (cls.__doc__ or "")


def test_yaml_round_trip(tmp_path):
    config = Config(
        run="runs/狗",
        data=DataConfig(dataset="data: with colon", language="zh-char"),
        encoder=EncoderConfig(weights="~/w.pth", fine_tune=True),
        train=TrainConfig(decoder_lr=1e-5, clip=0.0, precision="none"),
    )
    assert load(tmp_path, config.to_yaml()) == config
    assert Config.from_dict(config.to_dict()) == config


def test_a_file_holds_only_what_differs(tmp_path):
    config = load(tmp_path, "decoder:\n  name: rnn\n")
    assert config == Config(decoder=DecoderConfig(name="rnn"))
    assert load(tmp_path, "") == load(tmp_path, "# nothing\n") == Config()


@pytest.mark.parametrize("text", ["4e-4", "'0.0004'", "0.0004", "4.0e-4"])
def test_learning_rates_as_people_write_them(tmp_path, text):
    assert load(tmp_path, f"train: {{decoder_lr: {text}}}").train.decoder_lr == 4e-4


def test_whole_numbers_are_good_floats(tmp_path):
    clip = load(tmp_path, "train: {clip: 5}").train.clip
    assert clip == 5.0
    assert isinstance(clip, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoch: 3}", "unknown option train.epoch; did you mean train.epochs?"),
        ("decodr: {}", "unknown option decodr"),
        ("train: {hidden_size: 3}", "unknown option train.hidden_size; did you mean decoder.hid"),
        ("xyzzy: 1", "unknown option xyzzy"),
        ("1: 2", "unknown option 1"),
        ("train: {epochs: '3'}", "train.epochs is '3'; it must be a whole number"),
        ("train: {epochs: 3.0}", "train.epochs is 3.0; it must be a whole number"),
        ("train: {epochs: true}", "train.epochs is True; it must be a whole number"),
        ("train: {clip: true}", "train.clip is True; it must be a number"),
        ("train: {clip: [5]}", "train.clip is [5]; it must be a number"),
        ("train: {decoder_lr: fast}", "train.decoder_lr is 'fast'; it must be a number"),
        ("train: {tensorboard: 1}", "train.tensorboard is 1; it must be true or false"),
        ("run: 3", "run is 3; it must be text"),
        ("data: {dataset: 2026-02-03}", "it must be text"),
        ("data: {dataset: 2026-02-33}", "not YAML"),
        ("decoder: {activation: gelu}", "decoder.activation is 'gelu'; it must be one of"),
        ("decoder: {activation: [relu]}", "it must be one of ('relu', 'tanh')"),
        ("decoder: 3", "decoder must hold options, not 3"),
        ("- a\n- b", "the file must hold options"),
        ("train: {epochs: 0}", "train.epochs is 0; it must be at least 1"),
        ("train: {accumulation: 0}", "train.accumulation is 0"),
        ("train: {decoder_lr: 0}", "train.decoder_lr is 0.0; it must be above 0"),
        ("train: {decoder_lr: .nan}", "train.decoder_lr is nan"),
        ("train: {clip: -1}", "train.clip is -1.0; it must be at least 0"),
        ("train: {workers: -1}", "train.workers is -1"),
        ("train: {seed: -1}", "train.seed is -1; it must be at least 0"),
        ("decoder: {dropout: 1}", "decoder.dropout is 1.0; it must be in [0, 1)"),
        ("decoder: {hidden_size: 0}", "decoder.hidden_size is 0"),
        ("decoder: {region_dropout: -0.1}", "decoder.region_dropout is -0.1; it must be in [0, 1)"),
        ("decoder: {region_projection: -1}", "decoder.region_projection is -1; it must be at"),
        (
            "decoder: {tied_embedding: true, embedding_size: 300}",
            "decoder.embedding_size is 300 and decoder.hidden_size 512",
        ),
        ("train: {optimizer: sgd}", "train.optimizer is 'sgd'; it must be one of"),
        ("train: {weight_decay: 0.1}", "train.optimizer is adam, which has none; use adamw"),
        ("train: {schedule: linear}", "train.schedule is 'linear'; it must be one of"),
        ("train: {crops: -1}", "train.crops is -1; it must be at least 0"),
        ("train: {warmup: -1}", "train.warmup is -1; it must be at least 0"),
        ("train: {decay: 1}", "train.decay is 1.0; it must be between 0 and 1"),
        ("train: {decay_every: 0}", "train.decay_every is 0; it must be at least 1"),
        (
            "train: {schedule: plateau, decay_every: 3}",
            "training stops after 3 epochs without a better score (train.patience)",
        ),
        ("train: {label_smoothing: 1}", "train.label_smoothing is 1.0; it must be in [0, 1)"),
        ("train: {ema: 1}", "train.ema is 1.0; it must be in [0, 1)"),
        ("train: {scheduled_sampling: -1}", "train.scheduled_sampling is -1.0"),
        ("train: {objective: self_critical}", "name its folder with train.init"),
        ("train: {samples: 1}", "train.samples is 1; it must be at least 2"),
        ("train: {cross_entropy_weight: 1}", "train.cross_entropy_weight is 1.0; it must be in"),
        ("train: {reward_bleu: -1}", "train.reward_bleu is -1.0; it must be at least 0"),
        ("search: {patience: 0}", "search.patience is 0.0; it must be above 0"),
        ("search: {block_repeats: -3}", "search.block_repeats is -3; it must be at least 0"),
        ("encoder: {image_size: 16}", "encoder.image_size is 16"),
        ("encoder: {pooled_grid: -1}", "encoder.pooled_grid is -1"),
        ("search: {beam: 0}", "search.beam is 0"),
        ("search: {length_penalty: -0.5}", "search.length_penalty is -0.5"),
        ("data: {min_count: 0}", "data.min_count is 0"),
        ("a: b: c", "not YAML (line 1)"),
        ("train:\n  epochs: [", "not YAML"),
        ("a: \x07", "not YAML"),
    ],
)
def test_bad_config_is_told_in_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "config.yaml"))
    assert "\n" not in str(caught.value)


def test_wrong_encoding_is_told(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("run: 狗\n".encode("gb18030"))
    with pytest.raises(InputError, match="not UTF-8"):
        Config.load(path)


def test_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfrun: x\n")
    assert Config.load(path).run == "x"


def test_missing_file_and_folder_are_told(tmp_path):
    with pytest.raises(InputError, match="no such config file"):
        Config.load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a folder"):
        Config.load(tmp_path)


def test_known_options_are_dotted_and_complete():
    options = known_options()
    assert len(options) == len(set(options))
    assert {"run", "data.dataset", "encoder.name", "train.epochs", "search.beam"} <= set(options)
    counted = sum(len(section) for section in Config().to_dict().values() if section)
    assert len(options) == counted + 1  # and `run`


def test_nearest_option_finds_the_section_too():
    assert nearest_option("batchsize").endswith("batch_size?")
    assert nearest_option("qqqq") == ""


def test_which_trainings_take_captions_of_a_picture_together():
    together = [
        Config(),
        Config(encoder=EncoderConfig(fine_tune=True)),
        Config(train=TrainConfig(objective="self_critical", init="runs/first")),
        Config(train=TrainConfig(batch_by="picture")),
        Config(encoder=EncoderConfig(fine_tune=True), train=TrainConfig(batch_by="caption")),
    ]
    assert [config.batch_by for config in together] == [
        "caption",
        "picture",
        "picture",
        "picture",
        "caption",
    ]
