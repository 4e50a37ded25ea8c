"""Pictures and captions in one space, by regression."""

import numpy as np
import pytest

from pictell.caption_space import CaptionSpace

WIDTH, TOPICS, WORDS_EACH = 24, 6, 4


def pictures(count, seed, noise=0.3):
    """Features of pictures with a topic each, and captions that use the topic's words."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    looks, weathers = fixed.normal(size=(TOPICS, WIDTH)), fixed.normal(size=(8, WIDTH))
    topics = rng.integers(TOPICS, size=count)
    # Much of what the features say has nothing to do with the captions.
    weather = 2 * rng.normal(size=(count, 8)) @ weathers
    features = looks[topics] + noise * rng.normal(size=(count, WIDTH)) + weather
    captions = [
        [[4 + WORDS_EACH * t + int(w) for w in rng.integers(WORDS_EACH, size=3)] for _ in range(2)]
        for t in topics
    ]
    return features.astype(np.float32), captions, topics


def counts_of(references, min_pictures=3):
    """(N, W) as the head of the file says, in float64."""
    words = sorted({word for captions in references for caption in captions for word in caption})
    has = np.array([[any(w in c for c in captions) for w in words] for captions in references])
    kept = [i for i in range(len(words)) if has[:, i].sum() >= min_pictures]
    table = np.zeros((len(references), len(kept)))
    for row, captions in enumerate(references):
        for column, i in enumerate(kept):
            table[row, column] = np.mean([caption.count(words[i]) for caption in captions])
    return table * np.log(len(references) / has[:, kept].sum(axis=0))


def of_length_one(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plainly(features, references, others, rank, ridge):
    """The similarity by way of the whole ridge estimate and an SVD of its augmented fit."""
    features, others = features.astype(np.float64), others.astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    x, z = (of_length_one((rows - mean) / scale) for rows in (features, others))
    y = counts_of(references)
    y = y - y.mean(axis=0)
    penalty = ridge * (x**2).sum() / x.shape[1]
    w = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    fit = np.concatenate([x @ w, np.sqrt(penalty) * w])
    v = np.linalg.svd(fit, full_matrices=False)[2][:rank].T
    return of_length_one(z @ w @ v) @ of_length_one(y @ v).T


@pytest.mark.parametrize("rank", [2, 4, 256])
@pytest.mark.parametrize("width", [WIDTH, 8])  # fewer and more dimensions than words
def test_it_is_ridge_regression_of_reduced_rank(rank, width):
    features, references, _ = pictures(200, seed=1)
    others, _, _ = pictures(20, seed=2)
    features, others = features[:, :width], others[:, :width]
    space = CaptionSpace.fit(features, references, rank=rank, ridge=0.1)
    kept = space.projection.shape[1]
    assert kept == rank if rank <= 4 else width - 8 < kept <= width  # what is left out is rounding
    expected = plainly(features, references, others, kept, 0.1)
    assert space.similarity(others) == pytest.approx(expected, abs=3e-3)  # captions are fp16


def test_it_finds_pictures_that_are_told_of_alike():
    features, references, topics = pictures(300, seed=3)
    others, _, wanted = pictures(100, seed=4)
    space = CaptionSpace.fit(features, references)
    similarity = space.similarity(others)
    assert similarity.shape == (100, 300)
    assert np.abs(similarity).max() <= 1 + 1e-3
    found = np.argsort(-similarity, axis=1)[:, :5]
    by_captions = (topics[found] == wanted[:, None]).mean()
    looks = of_length_one(others - features.mean(0)) @ of_length_one(features - features.mean(0)).T
    by_features = (topics[np.argsort(-looks, axis=1)[:, :5]] == wanted[:, None]).mean()
    assert by_captions > 0.95
    assert by_features < 0.7


def test_parts_of_the_pictures_give_the_same(monkeypatch):
    features, references, _ = pictures(50, seed=5)
    whole = CaptionSpace.fit(features, references).similarity(features)
    monkeypatch.setattr("pictell.caption_space._PICTURES_AT_ONCE", 7)
    assert CaptionSpace.fit(features, references).similarity(features) == pytest.approx(
        whole, abs=2e-3
    )


@pytest.mark.parametrize(
    "references",
    [
        [[[4, 5]], [[6, 7]], [[8, 9]], [[10, 11]]],  # no word is in three pictures
        [[[4]], [[4]], [[4]], [[4]]],  # nothing tells the pictures apart
        [[[]], [[]], [[]], [[]]],
    ],
)
def test_without_anything_to_learn_nobody_is_similar(references):
    features = np.random.default_rng(6).normal(size=(4, 5)).astype(np.float32)
    space = CaptionSpace.fit(features, references)
    assert (space.similarity(features) == 0).all()
    assert space.similarity(features).shape == (4, 4)


def test_one_picture_and_equal_features_are_no_error():
    one = CaptionSpace.fit(np.ones((1, 3), np.float32), [[[4, 5]]])
    assert (one.similarity(np.ones((2, 3), np.float32)) == 0).all()
    _, references, _ = pictures(30, seed=7)
    equal = CaptionSpace.fit(np.ones((30, 3), np.float32), references)
    assert np.isfinite(equal.similarity(np.ones((2, 3), np.float32))).all()
