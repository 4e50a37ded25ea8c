"""In what two runs differ beside the decoder: options, precision, hardware.

    option_differences([run_a.config, run_b.config])
    # [{"option": "decoder.name", "values": ["rnn", "attention"]}]

Whatever is found here is a reason, beside the decoder, why two models may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pictell.config import Config, flatten
from pictell.decoders.base import DECODERS, decoder_class
from pictell.translations import Language, say

# Different values of these change where files lie or how often something is written, not a result;
# the beam widths of a comparison are its own.
_NOT_COMPARED = {
    *("run", "data.dataset", "encoder.features", "encoder.batch_size", "encoder.weights"),
    *("train.workers", "train.log_every", "train.save_every", "train.tensorboard", "search.beam"),
}
_ONLY_ATTENTION = {"train.alpha_c", "train.alpha_target"}
FEW_PICTURES = 30  # a bootstrap of fewer understates how uncertain a score is
_TIMED = ("precision", "processes")
_MACHINE = ("processor", "cores", "threads", "gpu", "system")


def option_differences(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """The options that are not the same in all configs and can change a result.

    Options that only some decoders read are left out where at most one of these decoders does.

    Returns:
        `option` and `values` (one per config) of each, in the order of the config file.
    """
    ignored = _NOT_COMPARED | _read_by_one(configs)
    flat = [flatten(config.to_dict()) for config in configs]
    return [
        {"option": option, "values": [values[option] for values in flat]}
        for option in flat[0]
        if option not in ignored and any(v[option] != flat[0][option] for v in flat)
    ]


def _read_by_one(configs: Sequence[Config]) -> set[str]:
    """Options that at most one of the configs' decoders reads."""
    kinds = [decoder_class(config.decoder.name) for config in configs]
    own = {option for name in DECODERS for option in decoder_class(name).options}
    found = {f"decoder.{o}" for o in own if sum(o in kind.options for kind in kinds) < 2}
    return found | (_ONLY_ATTENTION if sum(kind.attends for kind in kinds) < 2 else set())


def experiments_of(models: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Positions of the models of each experiment: runs whose options differ in the seed alone.

    Options that change no result, such as the run folder, may differ too; a frozen encoder's
    weights may not.
    """
    ignored = {*_NOT_COMPARED, "train.seed"}
    found: dict[str, list[int]] = {}
    for position, model in enumerate(models):
        options = {k: v for k, v in flatten(model["config"]).items() if k not in ignored}
        encoder = "" if model["encoder"]["trained_parameters"] else model["encoder"]["key"]
        found.setdefault(repr((options, encoder)), []).append(position)
    return list(found.values())


def machine_of(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a hardware record that decides speed."""
    return {key: hardware.get(key) for key in _MACHINE}


def same_training_machine(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two models' training was timed on the same hardware, precision and processes."""
    return all(first["training"][key] == second["training"][key] for key in _TIMED) and (
        machine_of(first["hardware"]) == machine_of(second["hardware"])
    )


def warnings_of(
    models: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]],
    *,
    pictures: int,
    language: Language = "en",
) -> list[str]:
    """What a reader has to know before believing the comparison, one sentence each.

    Args:
        models: The `models` of comparison.json.
        differences: From `option_differences`.
        pictures: How many were captioned.
        language: Of the sentences.
    """
    found = []
    if pictures < FEW_PICTURES:
        found.append(
            say(
                language,
                "Only {pictures} pictures were captioned: intervals from so few are too narrow, "
                "and what is called settled below need not be.",
                pictures=pictures,
            )
        )
    meant = {"decoder.name"}
    if len(experiments_of(models)) < len(models):  # seeds differ on purpose
        meant.add("train.seed")
    others = [d for d in differences if d["option"] not in meant]
    if others:
        options = "; ".join(
            f"{d['option']} ({', '.join(str(value) for value in d['values'])})" for d in others
        )
        found.append(
            say(
                language,
                "The configs differ in more than the decoder, so that a difference in score need "
                "not come from the decoder: {options}.",
                options=options,
            )
        )
    first = models[0]
    for model in models[1:]:
        if not same_training_machine(first, model):
            found.append(
                say(
                    language,
                    "{first} and {second} were trained on different hardware, precision or number "
                    "of processes: their times and memory cannot be compared ({one}; {other}).",
                    first=first["name"],
                    second=model["name"],
                    one=_machine_text(first, language),
                    other=_machine_text(model, language),
                )
            )
        if first["vocabulary"] != model["vocabulary"]:
            found.append(
                say(
                    language,
                    "{first} knows {words:,} words and {second} {others:,}: cross-entropy and "
                    "top-5 accuracy of different vocabularies cannot be compared.",
                    first=first["name"],
                    words=first["vocabulary"],
                    second=model["name"],
                    others=model["vocabulary"],
                )
            )
        if _other_encoder_weights(first["encoder"], model["encoder"]):
            found.append(
                say(
                    language,
                    "{first} and {second} look through {encoder} with different weights.",
                    first=first["name"],
                    second=model["name"],
                    encoder=first["encoder"]["name"],
                )
            )
    return found + [_other_data(model, language) for model in models if _was_other_data(model)]


def _was_other_data(model: Mapping[str, Any]) -> bool:
    return model["data_sha256"] != model["trained_on_sha256"]


def _other_data(model: Mapping[str, Any], language: Language) -> str:
    return say(
        language,
        "{name} was trained on another version of the data set (sha256 {sha256}) than it is "
        "scored on.",
        name=model["name"],
        sha256=model["trained_on_sha256"][:12],
    )


def _other_encoder_weights(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two frozen encoders of the same name are not the same; fine-tuned ones never are."""
    frozen = not (first["trained_parameters"] or second["trained_parameters"])
    return frozen and first["name"] == second["name"] and first["key"] != second["key"]


def _machine_text(model: Mapping[str, Any], language: Language) -> str:
    hardware, training = model["hardware"], model["training"]
    return say(
        language,
        "{name}: {device}, {cores} cores, precision {precision}, {processes} process(es)",
        name=model["name"],
        device=hardware.get("gpu") or hardware.get("processor"),
        cores=hardware.get("cores"),
        precision=training["precision"],
        processes=training["processes"],
    )
