"""Encode once what the trainings of a study share, before the first of them begins.

failures = encode_for(plan.trainings())

Two trainings that begin together would else encode into one store, which only one may do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from pictell.ablate.training_jobs import Failures
from pictell.comparison.entrants import Entrant
from pictell.data.records import read_dataset
from pictell.data.views import training_views
from pictell.encoders.encoder import load_encoder
from pictell.errors import InputError
from pictell.training.task import encode_examples, used_examples


def encode_for(trainings: Iterable[Entrant]) -> Failures:
    """Bring the feature stores of trainings with a frozen encoder up to date.

    Returns:
        Why, for each training whose pictures could not be encoded.
    """
    alike: dict[tuple[object, ...], list[Entrant]] = {}
    for training in trainings:
        encoder, data = training.config.encoder, training.config.data
        if not encoder.fine_tune:
            looks = (encoder.name, encoder.weights, encoder.image_size, encoder.resize)
            key = (
                *looks,
                encoder.earlier_layers,
                encoder.features,
                data.dataset,
                data.pictures,
                training_views(training.config.train),
            )
            alike.setdefault(key, []).append(training)
    failures: Failures = {}
    for group in alike.values():
        reason = _encode(group[0])
        if reason:
            failures |= {training.run.path: reason for training in group}
    return failures


def _encode(training: Entrant) -> str:
    """Encode the pictures of one training; returns why it was not possible, if so."""
    config = training.config
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        examples = used_examples(config, read_dataset(Path(config.data.dataset)))
        encoder = load_encoder(config.encoder).to(device)
        encode_examples(config, encoder, examples, training_views(config.train))
    except InputError as error:
        return str(error)
    return ""
