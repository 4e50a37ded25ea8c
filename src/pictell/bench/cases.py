"""Which operations are measured, at full size and at a size that only checks equality."""

from __future__ import annotations

from pictell.bench.arithmetic import Shapes
from pictell.bench.case import Case
from pictell.bench.decoding import BeamSearch, Scoring
from pictell.bench.encoding import Encoding
from pictell.bench.training import FineTuningStep, TrainingStep

DECODERS = ("rnn", "attention")
GROUPS = ("encode", "train", "decode")


def full_cases(group: str) -> list[Case]:
    """The reference setting's sizes."""
    if group == "encode":
        return [
            Encoding("resnet101", 256, 16, pretrained=False),
            Encoding("tf_efficientnet_lite2", 256, 32, pretrained=True),
        ]
    if group == "train":
        steps: list[Case] = [TrainingStep(name, Shapes()) for name in DECODERS]
        tuned = Shapes(captions=30)
        return steps + [
            FineTuningStep(name, tuned, backbone="resnet101", side=256) for name in DECODERS
        ]
    return [*(BeamSearch(name, Shapes()) for name in DECODERS), Scoring()]


def quick_cases(group: str) -> list[Case]:
    """Tiny sizes, for checking that all ways give the same."""
    if group == "encode":
        return [
            Encoding("test_resnet", 64, 2, pretrained=False),
            Encoding("tf_efficientnet_lite0", 224, 1, pretrained=True),
        ]
    tiny = Shapes(captions=10, features=96, width=32, vocabulary=50)
    if group == "train":
        steps: list[Case] = [TrainingStep(name, tiny) for name in DECODERS]
        return steps + [
            FineTuningStep(name, tiny, backbone="test_resnet", side=256) for name in DECODERS
        ]
    return [*(BeamSearch(name, tiny) for name in DECODERS), Scoring(50)]


def all_cases() -> list[Case]:
    """All of full size."""
    return [case for group in GROUPS for case in full_cases(group)]
