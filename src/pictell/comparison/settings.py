"""In what two runs differ beside the decoder: options, precision, hardware.

    option_differences([run_a.config, run_b.config])
    # [{"option": "decoder.name", "values": ["rnn", "attention"]}]

Whatever is found here is a reason, beside the decoder, why two models may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pictell.config import Config, flatten

# Different values of these change where files lie or how often something is written, not a result;
# the beam widths of a comparison are its own.
_NOT_COMPARED = {
    *("run", "data.dataset", "encoder.features", "encoder.batch_size", "encoder.weights"),
    *("train.workers", "train.log_every", "train.save_every", "train.tensorboard", "search.beam"),
}
_ONLY_ATTENTION = {
    *("decoder.attention_size", "decoder.activation", "decoder.gate"),
    *("train.alpha_c", "train.alpha_target"),
}
FEW_PICTURES = 30  # a bootstrap of fewer understates how uncertain a score is
_TIMED = ("precision", "processes")
_MACHINE = ("processor", "cores", "threads", "gpu", "system")


def option_differences(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """The options that are not the same in all configs and can change a result.

    Options that only attention reads are left out where at most one config has attention.

    Returns:
        `option` and `values` (one per config) of each, in the order of the config file.
    """
    ignored = set(_NOT_COMPARED)
    if sum(config.decoder.name != "rnn" for config in configs) < 2:
        ignored |= _ONLY_ATTENTION
    flat = [flatten(config.to_dict()) for config in configs]
    return [
        {"option": option, "values": [values[option] for values in flat]}
        for option in flat[0]
        if option not in ignored and any(v[option] != flat[0][option] for v in flat)
    ]


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
) -> list[str]:
    """What a reader has to know before believing the comparison, one sentence each.

    Args:
        models: The `models` of comparison.json.
        differences: From `option_differences`.
        pictures: How many were captioned.
    """
    found = []
    if pictures < FEW_PICTURES:
        found.append(
            f"Only {pictures} pictures were captioned: intervals from so few are too narrow, and "
            "what is called settled below need not be."
        )
    others = [d for d in differences if d["option"] != "decoder.name"]
    if others:
        listed = "; ".join(
            f"{d['option']} ({', '.join(str(value) for value in d['values'])})" for d in others
        )
        found.append(
            "The configs differ in more than the decoder, so that a difference in score need not "
            f"come from the decoder: {listed}."
        )
    first = models[0]
    for model in models[1:]:
        if not same_training_machine(first, model):
            found.append(
                f"{first['name']} and {model['name']} were trained on different hardware, "
                "precision or number of processes: their times and memory cannot be compared "
                f"({_machine_text(first)}; {_machine_text(model)})."
            )
        if first["vocabulary"] != model["vocabulary"]:
            found.append(
                f"{first['name']} knows {first['vocabulary']:,} words and {model['name']} "
                f"{model['vocabulary']:,}: cross-entropy and top-5 accuracy of different "
                "vocabularies cannot be compared."
            )
        if _other_encoder_weights(first["encoder"], model["encoder"]):
            found.append(
                f"{first['name']} and {model['name']} look through {first['encoder']['name']} with "
                "different weights."
            )
    for model in models:
        if model["data_sha256"] != model["trained_on_sha256"]:
            found.append(
                f"{model['name']} was trained on another version of the data set "
                f"(sha256 {model['trained_on_sha256'][:12]}) than it is scored on."
            )
    return found


def _other_encoder_weights(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two frozen encoders of the same name are not the same; fine-tuned ones never are."""
    frozen = not (first["trained_parameters"] or second["trained_parameters"])
    return frozen and first["name"] == second["name"] and first["key"] != second["key"]


def _machine_text(model: Mapping[str, Any]) -> str:
    hardware, training = model["hardware"], model["training"]
    device = hardware.get("gpu") or hardware.get("processor")
    return (
        f"{model['name']}: {device}, {hardware.get('cores')} cores, precision "
        f"{training['precision']}, {training['processes']} process(es)"
    )
