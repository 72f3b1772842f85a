from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from experiments.pages.embedding_figures import pca_sections
from tests.experiments.pages.made_outputs import NAMES, SAMPLES, make_outputs


@pytest.fixture
def vectors() -> np.ndarray:
    """Samples that spread mostly along one direction."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(SAMPLES, 6)) * np.array([9, 3, 1, 1, 1, 1])


def drawn(section):
    assert section.figure is not None
    return section.figure.data


@pytest.mark.parametrize("task", sorted(NAMES))
def test_every_sample_is_drawn_by_truth_and_by_prediction(task, vectors):
    plane, _ = pca_sections(vectors, make_outputs(task), NAMES[task], "embedding")
    for axis in ("x", "x2"):
        traces = [trace for trace in drawn(plane) if trace.xaxis == axis]
        names = [name for trace in traces for name in trace.text]
        assert sorted(names) == sorted(make_outputs(task).sample_id)


def test_places_and_shares_are_those_of_scikit_learn(vectors):
    outputs = make_outputs("regression")
    plane, variance = pca_sections(vectors, outputs, NAMES["regression"], "embedding")
    pca = PCA(6, random_state=0)
    expected = pca.fit_transform(vectors)
    np.testing.assert_allclose(drawn(plane)[0].x, expected[:, 0])
    np.testing.assert_allclose(drawn(variance)[0].y, pca.explained_variance_ratio_)
    assert drawn(variance)[1].y[-1] == pytest.approx(1)
    assert f"{pca.explained_variance_ratio_[:2].sum():.0%} of the variance" in plane.text


def test_colours_tell_true_from_predicted_classes(vectors):
    outputs = make_outputs("binary")
    plane, _ = pca_sections(vectors, outputs, NAMES["binary"], "embedding")
    by_side = {(trace.xaxis, trace.name): set(trace.text) for trace in drawn(plane) if trace.name}
    true_cases = {s for s, t in zip(outputs.sample_id, outputs.target, strict=True) if t == 1}
    said_cases = {s for s, p in zip(outputs.sample_id, outputs.predictions, strict=True) if p == 1}
    assert by_side["x", "case"] == true_cases
    assert by_side["x2", "case"] == said_cases


def test_sets_of_labels_are_named():
    outputs = make_outputs("multilabel")
    outputs.target[0] = outputs.target.new_tensor([1, 0, 1])
    plane, _ = pca_sections(np.eye(SAMPLES), outputs, NAMES["multilabel"], "embedding")
    groups = {trace.name for trace in drawn(plane) if "s0" in trace.text and trace.xaxis == "x"}
    assert groups == {"liver + lung"}


@pytest.mark.parametrize("shape", [(SAMPLES, 1), (2, 6)])
def test_what_has_no_plane_is_said(shape):
    outputs = make_outputs("binary", shape[0])
    (section,) = pca_sections(np.ones(shape), outputs, NAMES["binary"], "logits")
    assert section.figure is None
    assert "no plane" in section.text


def test_diverged_embeddings_are_said():
    vectors = np.full((SAMPLES, 3), np.nan)
    (section,) = pca_sections(vectors, make_outputs("binary"), NAMES["binary"], "embedding")
    assert "NaN" in section.text
