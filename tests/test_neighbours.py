"""Captions chosen by what people wrote of similar training pictures."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pictell import neighbours as module
from pictell.caption_space import CaptionSpace
from pictell.captioner import Captioner
from pictell.cli import main
from pictell.config import Config, SearchConfig
from pictell.data.records import read_dataset, write_dataset
from pictell.decoders.search import Hypothesis
from pictell.errors import InputError
from pictell.evaluate import evaluate, evaluate_ensemble
from pictell.files import read_json, read_jsonl
from pictell.metrics import CiderD
from pictell.neighbours import Memory, Neighbours
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train

CPU = torch.device("cpu")
# Three pictures that point east, north and west of a centre at (1, 1); two captions of each.
REFERENCES = [
    [[4, 5, 6, 7], [4, 5, 6, 8]],
    [[4, 9, 10, 11], [12, 9, 10, 11]],
    [[13, 14, 15], [13, 14, 15, 16]],
]
# In the space of captions what looks like the east is told of as the north is, north as west.
SPACE = CaptionSpace(
    mean=np.ones(2, np.float32),
    scale=np.ones(2, np.float32),
    projection=np.eye(2, dtype=np.float32),
    captions=np.array([[0, -1], [1, 0], [0, 1]], np.float32),
)
DIRECTIONS = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
MEMORY = Memory(DIRECTIONS, np.ones(2, np.float32), REFERENCES, SPACE)
EAST, NORTH = [5.0, 1.0], [1.0, 3.0]


def features(*pooled):
    """Pictures of two cells with these means, (B, 2, 2)."""
    apart = torch.tensor([[0.5, -0.25], [-0.5, 0.25]])
    return torch.tensor(pooled)[:, None] + apart


def found(*captions, scores=(-1.0, -1.1, -1.2), ended=(True, True, True)):
    return [
        Hypothesis(words, score * 3, score, done)
        for words, score, done in zip(captions, scores, ended, strict=False)
    ]


def chosen(hypotheses, pooled, **how):
    how = {"count": 1, "weight": 1.0, "by": "features"} | how
    (ranked,) = Neighbours([MEMORY]).rerank([hypotheses], [features(pooled)], **how)
    return [h.words for h in ranked]


def test_the_captions_of_the_nearest_picture_choose():
    east, north = [4, 5, 6, 7], [4, 9, 10, 11]
    assert chosen(found(north, east), EAST) == [east, north]
    assert chosen(found(east, north), NORTH) == [north, east]


def test_the_value_is_the_score_and_the_weighted_agreement():
    hypotheses = found([4, 5, 9, 10], [4, 9, 10, 5], [13, 14, 15, 4])
    scorer = CiderD(REFERENCES)
    for count, weight in [(1, 0.05), (2, 0.3), (3, 0.02)]:
        pictures = [1, 0, 2][:count]  # of north: itself, then east and west, equally far
        values = [
            h.score
            + weight
            * np.mean(
                [
                    CiderD([[r]], scorer.document_frequencies).score([h.words])[0]
                    for i in pictures
                    for r in REFERENCES[i]
                ]
            )
            for h in hypotheses
        ]
        expected = [hypotheses[i].words for i in np.argsort(-np.array(values))]
        assert chosen(hypotheses, NORTH, count=count, weight=weight) == expected


def test_without_weight_or_rivals_nothing_changes():
    order = [[4, 9, 10, 11], [4, 5, 6, 7]]
    assert chosen(found(*order), EAST, weight=0.0) == order
    assert chosen(found(order[0]), EAST) == order[:1]


def test_all_pictures_are_asked_where_there_are_fewer():
    hypotheses = found([4, 9, 10, 11], [4, 5, 6, 7])
    assert chosen(hypotheses, EAST, count=99) == chosen(hypotheses, EAST, count=3)


def test_a_caption_that_was_cut_stays_behind_those_that_ended():
    hypotheses = found([4, 9, 10, 11], [4, 5, 6, 7], ended=(True, False))
    assert chosen(hypotheses, EAST) == [[4, 9, 10, 11], [4, 5, 6, 7]]


def test_similarity_is_that_of_directions_from_the_centre():
    pictures = features(EAST, NORTH, [4.0, 5.0])
    similarity = MEMORY.similarity(pictures, "features")
    assert similarity[0] == pytest.approx([1, 0, -1], abs=1e-6)
    assert similarity[1] == pytest.approx([0, 1, 0], abs=1e-6)
    assert similarity[2] == pytest.approx([0.6, 0.8, -0.6], abs=1e-6)
    # By captions, that of what they would say is added.
    both = MEMORY.similarity(pictures, "captions")
    assert both[0] == pytest.approx([1 + 0, 0 + 1, -1 + 0], abs=1e-6)
    assert both[2] == pytest.approx([0.6 - 0.8, 0.8 + 0.6, -0.6 + 0.8], abs=1e-6)


def test_by_captions_the_nearest_have_more_to_say():
    hypotheses = found([4, 5, 9, 10], [4, 9, 10, 5], [13, 14, 15, 4])
    scorer = CiderD(REFERENCES)
    similarity = np.array([-0.2, 1.4, 0.2])  # of (4, 5), as above
    says = np.exp(similarity / 0.15)[[1, 2, 0]]
    for count, weight in [(1, 0.05), (2, 0.3), (3, 5.0)]:
        words = [h.words for h in hypotheses]
        agreement = scorer.agreement(words, [1, 2, 0][:count], says[:count])
        values = np.array([h.score for h in hypotheses]) + weight * agreement
        expected = [words[i] for i in np.argsort(-values)]
        ranked = chosen(hypotheses, [4.0, 5.0], count=count, weight=weight, by="captions")
        assert ranked == expected


def test_what_the_captions_would_say_finds_other_neighbours():
    hypotheses = found([13, 14, 15], [4, 5, 6, 7], [4, 9, 10, 11])
    assert chosen(hypotheses, [5.0, 4.0])[0] == [4, 5, 6, 7]  # features: (.8, .6)
    assert chosen(hypotheses, [5.0, 4.0], by="captions")[0] == [4, 9, 10, 11]


def test_similarities_of_several_encoders_are_averaged():
    # The first encoder alone would ask the picture in the east.
    hypotheses = found([13, 14, 15], [4, 9, 10, 11], [4, 5, 6, 7])
    both = Neighbours([MEMORY, MEMORY])
    parts = [features([5.0, 4.0]), features([1.0, 2.0])]  # (.8, .6) and (0, 1)
    assert chosen(hypotheses, [5.0, 4.0])[0] == [4, 5, 6, 7]
    (ranked,) = both.rerank([hypotheses], parts, count=1, weight=1.0, by="features")
    assert ranked[0].words == [4, 9, 10, 11]


# -- of a run --------------------------------------------------------------------------------------


@pytest.fixture
def run(trained_runs, tmp_path):
    """A copy of the run with attention, without evaluations."""
    return _copy(trained_runs / "attention", tmp_path / "run")


def _copy(source, target):
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("evaluation"))
    return RunFolder.open(target)


def asking(run, count=3, weight=2.5):
    captioner = Captioner.load(run)
    captioner.search = SearchConfig(beam=4, neighbours=count, neighbour_weight=weight)
    return captioner


def test_the_memory_holds_the_training_pictures_and_their_captions(run, shapes_dataset):
    captioner = Captioner.load(run)
    memory = Memory.of_run(run, captioner.encoder, CPU)
    examples = [e for e in read_dataset(shapes_dataset) if e.split == "train"]
    assert len(memory.references) == len(examples) == len(memory.directions)
    assert np.linalg.norm(memory.directions, axis=1) == pytest.approx(1, abs=2e-3)
    known = captioner.vocabulary.ids
    for example, captions in zip(examples, memory.references, strict=True):
        for text, numbers in zip(example.captions, captions, strict=True):
            words = captioner.tokenizer.tokenize(text)
            assert len(words) == len(numbers)
            for word, number in zip(words, numbers, strict=True):
                assert known[word] == number if word in known else number >= len(known)
    # A training picture is its own nearest neighbour.
    pixels = np.stack([captioner.encoder.transform.read(e.path) for e in examples])
    with torch.inference_mode():
        seen = captioner.encoder(torch.from_numpy(pixels))
    similarity = memory.similarity(seen, "features")
    assert similarity.diagonal() == pytest.approx(1, abs=0.02)
    assert (similarity.argmax(axis=1) == np.arange(len(examples))).all()


def test_the_run_folder_keeps_it_and_needs_the_data_no_more(run, monkeypatch):
    captioner = Captioner.load(run)
    made = Memory.of_run(run, captioner.encoder, CPU)
    assert run.neighbours_file.exists()

    def gone(*_, **__):
        raise InputError("the data set is gone")

    monkeypatch.setattr(module, "build_task", gone)
    kept = Memory.of_run(run, captioner.encoder, CPU)
    assert (kept.directions == made.directions).all()
    assert (kept.centre == made.centre).all()
    assert kept.references == made.references
    for part in ("mean", "scale", "projection", "captions"):
        assert (getattr(kept.space, part) == getattr(made.space, part)).all()
    run.neighbours_file.unlink()
    with pytest.raises(InputError, match=r"search.neighbours needs the pictures .*is gone"):
        Memory.of_run(run, captioner.encoder, CPU)


def test_what_is_kept_of_other_data_is_made_again(run):
    captioner = Captioner.load(run)
    made = Memory.of_run(run, captioner.encoder, CPU)
    other = Memory(made.directions[:2], made.centre, made.references[:2], made.space)
    other._write(run.neighbours_file, "another key")
    assert Memory.of_run(run, captioner.encoder, CPU).references == made.references


def test_a_broken_file_is_named(run):
    run.neighbours_file.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"neighbours\.npz: not readable .*delete it"):
        Memory.of_run(run, Captioner.load(run).encoder, CPU)


def test_changed_training_data_are_refused(run, shapes_dataset, tmp_path):
    examples = read_dataset(shapes_dataset)
    write_dataset(tmp_path / "changed", examples[1:])
    values = run.config.to_dict()
    values["data"]["dataset"] = str(tmp_path / "changed")
    run.config_file.write_text(Config.from_dict(values).to_yaml())
    with pytest.raises(InputError, match=r"changed: has changed since"):
        Memory.of_run(run, Captioner.load(run).encoder, CPU)


def test_a_folder_that_cannot_be_written_is_enough(run, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Memory, "_write", refuse)
    memory = Memory.of_run(run, Captioner.load(run).encoder, CPU)
    assert len(memory.references) == 8
    assert "not kept (Permission denied)" in capsys.readouterr().err


def test_captions_are_hypotheses_of_the_plain_search_in_another_order(run, shapes_dataset):
    paths = [e.path for e in read_dataset(shapes_dataset) if e.split != "train"]
    captioner = asking(run, weight=1e6)  # the neighbours alone decide
    features = captioner._encode(paths)[0]
    plain = captioner.hypotheses(features, SearchConfig(beam=4))
    ranked = captioner.hypotheses(features, captioner.search)
    memory = Memory.of_run(run, captioner.encoder, CPU)
    scorer = CiderD(memory.references)
    similarity = memory.similarity(features, "captions")
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :3]
    for row, before, after, pictures in zip(similarity, plain, ranked, nearest, strict=True):
        assert sorted(h.words for h in before) == sorted(h.words for h in after)
        ended = [h for h in after if h.ended]
        says = np.exp(row[pictures] / 0.15)
        agreement = scorer.agreement([h.words for h in ended], pictures.tolist(), says)
        assert (np.diff(agreement) <= 1e-9).all()
    assert [h[0].words for h in plain] != [h[0].words for h in ranked]
    written = captioner.caption(paths)
    assert [c.words for c in written] == [captioner.vocabulary.decode(h[0].words) for h in ranked]


def test_a_patient_search_gives_neighbours_more_to_choose_among(run, shapes_dataset):
    path = read_dataset(shapes_dataset)[0].path
    captioner = asking(run, weight=1e6)
    features = captioner._encode([path])[0]
    few, many = (
        captioner.hypotheses(features, replace(captioner.search, patience=patience))[0]
        for patience in (1.0, 2.5)
    )
    assert len(few) == 4 < len(many) <= 10
    scorer = CiderD(Memory.of_run(run, captioner.encoder, CPU).references)
    nobody = captioner.hypotheses(features, SearchConfig(beam=4, patience=2.5))[0]
    assert {tuple(h.words) for h in many} == {tuple(h.words) for h in nobody}
    best = [found[0].words for found in (few, many)]
    memory = Memory.of_run(run, captioner.encoder, CPU)
    similarity = memory.similarity(features, "captions")[0]
    nearest = np.argsort(-similarity, kind="stable")[:3]
    agreement = scorer.agreement(best, nearest.tolist(), np.exp(similarity[nearest] / 0.15))
    assert agreement[1] >= agreement[0]
    # Greedy captions do not change.
    assert captioner.caption(path, beam=1)[0].words == (asking(run).caption(path, beam=1)[0].words)


def test_greedy_captions_ask_nobody(run, shapes_dataset):
    path = read_dataset(shapes_dataset)[0].path
    captioner = asking(run)
    captioner.caption(path, beam=1)
    captioner.caption(path, neighbours=0)
    assert not run.neighbours_file.exists()
    captioner.caption(path)
    assert run.neighbours_file.exists()


def test_a_captioner_made_of_parts_says_what_it_lacks(run, shapes_dataset):
    whole = asking(run)
    parts = Captioner(
        *(whole.encoder, whole.decoder, whole.vocabulary),
        *(whole.tokenizer, whole.search, whole.device),
    )
    with pytest.raises(InputError, match=r"use Captioner\.load"):
        parts.caption(read_dataset(shapes_dataset)[0].path)


def test_evaluation_writes_the_same_captions_and_names_the_rule(run, shapes_dataset):
    (plain,) = evaluate(run, split="val", beams=[4])
    (result,) = evaluate(run, split="val", beams=[4], neighbours=3, neighbour_weight=50.0)
    assert "neighbours" not in plain["protocol"]
    assert result["protocol"]["neighbours"] == 3
    assert result["protocol"]["neighbour_weight"] == 50.0
    assert result["protocol"]["neighbours_by"] == "captions"
    rows = read_jsonl(run.path / "evaluation" / "val-beam4" / "predictions.jsonl")
    paths = {e.image_id: e.path for e in read_dataset(shapes_dataset)}
    captions = asking(run, weight=50.0).caption([paths[r["image_id"]] for r in rows])
    assert [r["words"] for r in rows] == [c.words for c in captions]
    # Asked for again, it is kept; by features or without neighbours it is another protocol.
    (again,) = evaluate(run, split="val", beams=[4], neighbours=3, neighbour_weight=50.0)
    assert again == read_json(run.path / "evaluation" / "val-beam4" / "scores.json")
    (other,) = evaluate(
        run, split="val", beams=[4], neighbours=3, neighbour_weight=50.0, neighbours_by="features"
    )
    assert other["protocol"]["neighbours_by"] == "features"
    (without,) = evaluate(run, split="val", beams=[4])
    assert without["scores"] == plain["scores"]


def test_a_training_picture_does_not_judge_itself(run):
    with pytest.raises(InputError, match=r"is itself.*--neighbours 0"):
        evaluate(run, split="train", beams=[3], neighbours=3)
    assert evaluate(run, split="train", beams=[3], neighbours=0)
    assert evaluate(run, split="train", beams=[1], neighbours=3)


def test_an_ensemble_asks_the_memory_of_each_encoder(trained_runs, tmp_path):
    rnn = _copy(trained_runs / "rnn", tmp_path / "rnn")
    values = rnn.config.to_dict()
    values["encoder"]["image_size"] = 96
    large = train(Config.from_dict(values), tmp_path / "large")
    attention = _copy(trained_runs / "attention", tmp_path / "attention")
    runs = [rnn, attention, large]
    (result,) = evaluate_ensemble(runs, tmp_path / "out", beams=[3], neighbours=2)
    assert result["protocol"]["neighbours"] == 2
    kept = [run.neighbours_file.exists() for run in runs]
    assert kept == [True, False, True]  # rnn and attention have one encoder


def test_runs_of_different_pictures_are_refused(trained_runs, tiny_config, tmp_path):
    whole = _copy(trained_runs / "rnn", tmp_path / "whole")
    fewer = train(tiny_config(data={"pictures": 6}, encoder={"image_size": 96}), tmp_path / "fewer")
    encoders = [run.load_encoder() for run in (whole, fewer)]
    with pytest.raises(InputError, match=r"trained on different pictures"):
        Neighbours.of_runs([whole, fewer], encoders, CPU)


def test_the_command_line(run, shapes_dataset, capsys):
    path = str(next(e.path for e in read_dataset(shapes_dataset) if e.split == "test"))
    options = ["--beam", "4", "--neighbours", "3", "--neighbour_weight", "50"]
    assert main(["caption", str(run.path), path, *options]) == 0
    expected = asking(run, weight=50.0).caption(path)[0].text
    assert capsys.readouterr().out.strip() == expected
    assert main(["evaluate", str(run.path), *options]) == 0
    assert "3 neighbours by captions (weight 50.0)" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(run.path), *options, "--neighbours_by", "features"]) == 0
    assert "3 neighbours by features (weight 50.0)" in " ".join(capsys.readouterr().err.split())
    assert main(["caption", str(run.path), path, "--neighbours", "-1"]) == 2
    assert "search.neighbours is -1; it must be at least 0" in capsys.readouterr().err
