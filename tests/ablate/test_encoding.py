"""Features that the trainings of a study share are encoded before the first begins."""

from pathlib import Path

from pictell.ablate.encoding import encode_for
from pictell.comparison.entrants import Entrant
from pictell.encoders.encoder import load_encoder
from pictell.encoders.features import store_of
from pictell.training.checkpoint import RunFolder


def test_the_views_of_each_training_are_encoded(tmp_path, tiny_config):
    features = {"features": str(tmp_path / "features")}
    options = [{}, {"epochs": 5}, {"crops": 1}, {"flip": True}, {"crops": 2, "flip": True}]
    trainings = []
    for number, train in enumerate(options):
        config = tiny_config(encoder=features, train=train)
        run = RunFolder(tmp_path / str(number))
        trainings.append(Entrant(str(number), Path("study.yaml"), config, run, trainable=True))
    assert encode_for(trainings) == {}
    encoder = load_encoder(trainings[0].config.encoder)
    names = store_of(trainings[0].config.encoder, encoder).rows
    kinds = [name[64:] for name in names]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "": 14,
        "-crop1": 8,
        "-mirrored": 8,
        "-crop2": 8,
        "-crop1-mirrored": 8,
        "-crop2-mirrored": 8,
    }
