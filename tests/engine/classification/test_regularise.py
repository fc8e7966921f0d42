"""Diffusion of probabilities: the solution of its equation, what it keeps, and the same in any windows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hsmamba
from hsmamba import evaluate
from hsmamba.data import PatchDataset, Scene, Split, group_split
from hsmamba.engine.classification import job as jobs
from hsmamba.engine.classification import regularise, windows
from hsmamba.engine.classification.job import prepare_classification
from hsmamba.engine.classification.regularise import DIFFUSION, Graph, diffuse, diffused_rows
from hsmamba.errors import SplitError


def random_image(height, width, classes=3, seed=0, spread=1.0):
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.ones(classes), (height, width)).astype(np.float32)
    return scores, (spread * generator.normal(size=(height, width, 2))).astype(np.float32)


def solved(scores, features):
    """The solution by a dense matrix in double precision; the weights one by one."""
    height, width, _ = scores.shape
    there = np.isfinite(scores).all(axis=2)
    weights = np.zeros((height * width, height * width))
    for i in range(height * width):
        for j in range(height * width):
            (y, x), (v, u) = divmod(i, width), divmod(j, width)
            if i != j and max(abs(y - v), abs(x - u)) == 1 and there[y, x] and there[v, u]:
                weights[i, j] = np.exp(-(np.subtract(features[y, x], features[v, u], dtype=float) ** 2).sum())
        if not weights[i].any():
            weights[i, i] = 1
    walk = weights / weights.sum(axis=1, keepdims=True)
    flat = scores.reshape(height * width, -1).astype(float)
    flat = np.where(there.ravel()[:, None], flat, 0)
    result = np.linalg.solve(np.eye(len(walk)) - DIFFUSION * walk, (1 - DIFFUSION) * flat)
    return np.where(there[..., None], result.reshape(scores.shape), np.nan)


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_the_steps_reach_the_solution(spread):
    scores, features = random_image(9, 7, spread=spread)
    scores[4, 3] = scores[0, 0, 1] = np.nan
    got = diffuse(scores, features)
    np.testing.assert_allclose(got, solved(scores, features), atol=1e-5)
    assert np.abs(got - scores)[1:4].max() > 0.1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99), st.floats(0, 30))
def test_probabilities_stay_probabilities(height, width, classes, seed, spread):
    scores, features = random_image(height, width, classes, seed, spread)
    got = diffuse(scores, features)
    np.testing.assert_allclose(got.sum(axis=2), 1, atol=1e-4)
    assert got.min() >= 0 and got.max() <= 1
    order = np.random.default_rng(seed).permutation(classes)
    np.testing.assert_allclose(diffuse(scores[..., order], features), got[..., order], atol=1e-6)
    constant = np.broadcast_to(scores[:1, :1], scores.shape)
    np.testing.assert_allclose(diffuse(constant, features), constant, atol=1e-5)


def test_pixels_without_probabilities_part_the_image():
    scores, features = random_image(6, 9)
    scores[:, 4] = np.nan
    features[:, 4] = np.nan
    got = diffuse(scores, features)
    assert np.isnan(got[:, 4]).all()
    np.testing.assert_allclose(got[:, :4], diffuse(scores[:, :4], features[:, :4]), atol=1e-6)
    np.testing.assert_allclose(got[:, 5:], diffuse(scores[:, 5:], features[:, 5:]), atol=1e-6)


def test_a_pixel_alone_keeps_its_probabilities():
    scores, features = random_image(5, 5)
    features[2, 2] = 1e4
    alone = scores[2, 2].copy()
    assert np.abs(diffuse(scores, features)[2, 2] - alone).max() < 1e-6
    scores[1:4, 1:4] = np.nan
    scores[2, 2] = alone
    assert np.abs(diffuse(scores, features)[2, 2] - alone).max() < 1e-6


@pytest.mark.parametrize("strip", [37, 300])
def test_windows_and_strips_give_the_whole(strip, monkeypatch):
    scores, features = random_image(300, 40, spread=0.5)
    whole = diffuse(scores, features)
    monkeypatch.setattr(regularise, "_ROWS", 60)
    strips = ((top, scores[top : top + strip], features[top : top + strip]) for top in range(0, 300, strip))
    tops, rows = zip(*diffused_rows(strips, 300), strict=True)
    assert list(tops) == list(range(0, 300, 60))
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=1e-6)
    monkeypatch.setattr(regularise, "_COLUMNS", 75)
    turned = [part for _, part in diffused_rows([(0, on_its_side(scores), on_its_side(features))], 40)]
    np.testing.assert_allclose(np.concatenate(turned), on_its_side(whole), atol=1e-6)


def on_its_side(array):
    return np.ascontiguousarray(array.transpose(1, 0, 2))


def test_the_graph_ends_at_edges_of_the_image_and_its_scale_is_the_median():
    generator = np.random.default_rng(0)
    hsi = generator.normal(0, 0.1, (20, 24, 30))
    hsi[:, 12:] += 2
    graph = Graph.fit({"hsi": hsi}, {"hsi": None})
    features = graph.features(hsi)
    across = ((features[:, 1:] - features[:, :-1]) ** 2).sum(axis=2)
    down = ((features[1:] - features[:-1]) ** 2).sum(axis=2)
    assert np.median(np.concatenate([across.ravel(), down.ravel()])) == pytest.approx(1, rel=1e-4)
    assert across[:, 11].min() > 20
    scores = np.where(np.arange(24)[:, None] < 12, [0.6, 0.4], [0.4, 0.6]) * np.ones((20, 1, 1))
    wrong = generator.random((20, 24)) < 0.3
    scores[wrong] = scores[wrong][:, ::-1]
    labels = diffuse(scores.astype(np.float32), features).argmax(axis=2)
    np.testing.assert_array_equal(labels, np.broadcast_to(np.arange(24) >= 12, labels.shape))


def test_scenes_of_one_value_and_of_one_pixel_have_a_graph():
    for hsi in (np.ones((4, 5, 3)), np.ones((1, 1, 3))):
        graph = Graph.fit({"hsi": hsi}, {"hsi": None})
        assert graph.scale == 1
        assert not graph.features(hsi).any()


def test_bands_that_do_not_count_have_no_say():
    generator = np.random.default_rng(0)
    hsi = generator.normal(size=(9, 9, 6))
    used = np.array([0, 2, 5])
    graph = Graph.fit({"hsi": hsi}, {"hsi": used})
    hsi[..., [1, 3, 4]] = np.nan
    again = Graph.fit({"hsi": hsi}, {"hsi": used})
    np.testing.assert_array_equal(again.features(hsi), graph.features(hsi))


@pytest.mark.parametrize("strip_bytes", [1, 10**9])
def test_a_map_is_the_diffused_probabilities_of_all_valid_pixels(
    make_model, scene, transform, monkeypatch, strip_bytes
):
    scene.hsi[3, 4, 1] = np.nan
    model = make_model()
    job = prepare_classification(model, scene, transform, nan="mask", regularise="on", progress=False)
    plain = prepare_classification(model, scene, transform, nan="mask", progress=False)
    probabilities = np.full((*scene.shape, 3), np.nan, np.float32)

    monkeypatch.setattr(windows, "_WINDOW_BYTES", strip_bytes)
    with jobs.evaluating(model, None) as where, jobs.progress_bar(0, "", False) as bar:
        for top, (rows,) in plain._bands(0, None, lambda scores: (scores,), where, bar):
            probabilities[top : top + len(rows)] = rows
    want = diffuse(probabilities, job.graph.features(scene.hsi))
    labels, confidence = job.arrays()
    there = np.isfinite(want[..., 0])
    np.testing.assert_array_equal(~there, np.arange(there.size).reshape(there.shape) == 3 * 30 + 4)
    np.testing.assert_array_equal(labels[there], want[there].argmax(axis=1) + 1)
    np.testing.assert_allclose(confidence, want.max(axis=2), rtol=1e-5)
    assert labels[3, 4] == 0 and np.isnan(confidence[3, 4])
    assert (labels != plain.arrays()[0]).any()


def test_some_pixels_get_the_labels_of_the_whole_map(make_model, scene, transform):
    model = make_model()
    whole = hsmamba.classify(model, scene, transform, regularise="on", progress=False)
    wanted = np.zeros(scene.shape, bool)
    wanted[5, 3:9] = wanted[20, 0] = True
    job = prepare_classification(model, scene, transform, wanted=wanted, regularise="on", progress=False)
    labels, confidence = job.arrays()
    np.testing.assert_array_equal(labels, np.where(wanted, whole.labels, 0))
    np.testing.assert_array_equal(confidence, np.where(wanted, whole.confidence, np.nan))


def test_evaluation_compares_the_map(make_model, scene, split, transform):
    model = make_model()
    labels = hsmamba.classify(model, scene, transform, regularise="on", progress=False).labels
    report = evaluate(model, scene, split, transform=transform, regularise="on")
    right = (labels == scene.labels).ravel()[split.test]
    assert report.oa == pytest.approx(right.mean())
    assert report.regularised and "regularise" in str(report) and report.to_dict()["regularised"]
    assert not evaluate(model, scene, split, transform=transform).regularised


def test_plots_are_regularised_each_for_itself(make_model, scene, transform):
    model = make_model()
    plots = [replace(scene, hsi=scene.hsi[top : top + 8], labels=scene.labels[top : top + 8]) for top in (0, 8, 16)]
    every = np.concatenate([plot.labels.ravel() for plot in plots])
    split = group_split(every, np.repeat(np.arange(3), 240), test=0.67, val=0.0)
    report = evaluate(model, plots, split, transform=transform, regularise="on")
    maps = [hsmamba.classify(model, plot, transform, regularise="on", progress=False).labels.ravel() for plot in plots]
    assert report.oa == pytest.approx((np.concatenate(maps) == every)[split.test].mean())


def test_validation_pixels_decide(make_model, scene, transform):
    model = make_model()
    off = hsmamba.classify(model, scene, transform, progress=False).labels.ravel()
    on = hsmamba.classify(model, scene, transform, regularise="on", progress=False).labels.ravel()
    differ = np.flatnonzero(off != on)
    assert differ.size >= 2  # with torch 2.8 no more than that
    for better, chosen in ((on, True), (off, False)):
        labelled = replace(scene, labels=better.reshape(scene.shape).astype(int))
        split = Split(np.empty(0, int), differ[::2], differ[1::2], scene.shape, "by difference")
        report = evaluate(model, labelled, split, transform=transform, regularise="auto")
        assert report.regularised is chosen and report.oa == 1


def test_what_cannot_be_regularised_is_refused(make_model, scene, split, transform):
    model = make_model()
    with pytest.raises(ValueError, match="regularise is 'auto'; expected one of off, on"):
        hsmamba.classify(model, scene, transform, regularise="auto")
    with pytest.raises(ValueError, match="regularise is 'yes'; expected one of off, on, auto"):
        evaluate(model, scene, split, transform=transform, regularise="yes")
    with pytest.raises(SplitError, match=r"validation pixels decide, and the split .* has none"):
        evaluate(model, scene, split, transform=transform, regularise="auto")
    with pytest.raises(TypeError, match="no image: give its scenes; leave regularise= out"):
        evaluate(model, PatchDataset(scene, transform, 5), split, regularise="on")


def test_a_model_without_classes_is_refused(make_model, scene, transform):
    with pytest.raises(ValueError, match=r"no classes.*reset_classifier"):
        hsmamba.classify(make_model(num_classes=0), Scene(scene.hsi), transform)


@pytest.mark.parametrize("done", [60, 120, 240])
def test_what_goes_on_at_a_row_gives_the_rows_of_a_whole_run(done, monkeypatch):
    monkeypatch.setattr(regularise, "_ROWS", 60)
    monkeypatch.setattr(regularise, "STEPS", 20)
    scores, features = random_image(300, 40, spread=0.5)

    def strips(first, step):
        return ((top, scores[top : top + step], features[top : top + step]) for top in range(first, 300, step))

    whole = dict(diffused_rows(strips(0, 37), 300))
    first = 37 * ((done - 20) // 37)
    rest = dict(diffused_rows(strips(first, 37), 300, done))
    assert list(rest) == [top for top in whole if top >= done]
    for top, rows in rest.items():
        np.testing.assert_array_equal(rows, whole[top])


def test_the_graph_of_a_large_scene_is_that_of_a_sample(monkeypatch):
    hsi = np.random.default_rng(0).normal(size=(200, 150, 5)).astype(np.float32)
    whole = Graph.fit({"hsi": hsi}, {"hsi": None})
    monkeypatch.setattr(regularise, "_WHOLE", 10_000)
    monkeypatch.setattr(regularise, "_SIDE", 12)
    sampled = Graph.fit({"hsi": hsi}, {"hsi": None})
    assert sampled.scale == pytest.approx(whole.scale, rel=0.05) and sampled.scale != whole.scale
