from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from engine.metrics import EpochOutputs
from experiments.report.figures import embeddings as embedding_figures
from experiments.report.figures.embeddings import (
    FEWEST_FOR_TSNE,
    MOST_KINDS,
    OTHERS_COLOUR,
    colourings,
    plane_sections,
)
from experiments.report.figures.outcomes import PALETTE
from tests.experiments.report.made_outputs import NAMES, SAMPLES, make_outputs


def by_name(task, columns=None):
    return {one.name: one for one in colourings(make_outputs(task), NAMES[task], columns)}


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_truth_prediction_and_whether_they_agree_come_first(task):
    found = by_name(task)
    assert list(found) == ["true label", "prediction", "correct or wrong"]
    for one in found.values():
        assert set(one.values) <= set(one.kinds)


def test_correct_are_those_whose_prediction_is_their_label():
    outputs, found = make_outputs("multiclass"), by_name("multiclass")
    right = (outputs.target == outputs.predictions).numpy()
    assert list(found["correct or wrong"].values == "correct") == list(right)


def test_of_labels_correct_are_those_with_all_of_them_right():
    outputs, found = make_outputs("multilabel"), by_name("multilabel")
    right = (outputs.target == outputs.predictions).all(dim=1).numpy()
    assert list(found["correct or wrong"].values == "all labels right") == list(right)


def test_values_are_coloured_by_size_and_by_residual():
    outputs, found = make_outputs("regression"), by_name("regression")
    missed = found["age: predicted - true"]
    assert missed.kinds is None
    assert missed.around_zero
    np.testing.assert_allclose(
        missed.values, (outputs.predictions - outputs.target)[:, 0].numpy(), rtol=1e-6
    )


def test_only_the_largest_groups_have_their_own_colours():
    groups = [f"g{min(i // 2, 13)}" for i in range(SAMPLES)]
    found = by_name("binary", {"group": groups})["group"]
    assert found.kinds[0] == "g13"  # six samples, where the others have two
    assert len(found.kinds) == MOST_KINDS + 1
    assert found.kinds[-1] == "others (2)"
    assert sum(found.values == "others (2)") == 4
    styles = [tuple(found.style(number).values()) for number in range(MOST_KINDS + 1)]
    assert len(set(styles)) == MOST_KINDS + 1
    assert {colour for colour, _ in styles[:-1]} == set(PALETTE)
    assert styles[-1][0] == OTHERS_COLOUR


@pytest.mark.parametrize("values", [["same"] * SAMPLES, [str(i) for i in range(SAMPLES)]])
def test_what_tells_nobody_or_everybody_apart_is_left_out(values):
    assert "batch" not in by_name("binary", {"batch": values})


PLATES = [f"plate{i % 3}" for i in range(SAMPLES)]


@pytest.fixture
def vectors() -> np.ndarray:
    """Samples that spread mostly along one direction."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(SAMPLES, 6)) * np.array([9, 3, 1, 1, 1, 1])


def sections_of(vectors, task="binary", columns=None):
    outputs = make_outputs(task, len(vectors))
    found = plane_sections(vectors, outputs, NAMES[task], "embedding", columns)
    return {section.name: section for section in found}


def choices(figure):
    """What the menu offers, and the traces that each choice shows."""
    return {
        button.label: [
            t for t, on in zip(figure.data, button.args[0]["visible"], strict=True) if on
        ]
        for button in figure.layout.updatemenus[0].buttons
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(NAMES))
@pytest.mark.parametrize("name", ["pca", "tsne"])
def test_every_choice_of_the_menu_draws_every_sample_once(task, name, vectors):
    figure = sections_of(vectors, task, {"plate": PLATES})[name].figure
    offered = choices(figure)
    assert "plate" in offered
    for traces in offered.values():
        drawn = [sample for trace in traces for sample in trace.text]
        assert sorted(drawn) == sorted(make_outputs(task).sample_id)


def test_the_true_labels_are_shown_until_somebody_chooses(vectors):
    figure = sections_of(vectors)["pca"].figure
    shown = [trace for trace in figure.data if trace.visible]
    assert shown == choices(figure)["true label"]
    assert {trace.name for trace in shown} == set(NAMES["binary"])


def test_colours_tell_true_from_predicted_classes(vectors):
    outputs, offered = make_outputs("binary"), choices(sections_of(vectors)["pca"].figure)
    for choice, numbers in (("true label", outputs.target), ("prediction", outputs.predictions)):
        (cases,) = [trace.text for trace in offered[choice] if trace.name == "case"]
        expected = {s for s, n in zip(outputs.sample_id, numbers, strict=True) if n == 1}
        assert set(cases) == expected


def test_places_and_shares_are_those_of_scikit_learn(vectors):
    found = sections_of(vectors, "regression")
    pca = PCA(6, random_state=0)
    expected = pca.fit_transform(vectors)
    np.testing.assert_allclose(found["pca"].figure.data[0].x, expected[:, 0], rtol=1e-5)
    each, together = found["variance"].figure.data
    np.testing.assert_allclose(each.y, pca.explained_variance_ratio_)
    assert together.y[-1] == pytest.approx(1)
    assert f"{pca.explained_variance_ratio_[:2].sum():.0%} of the variance" in found["pca"].text


def test_tsne_keeps_clusters_together_and_is_the_same_each_time():
    rng = np.random.default_rng(0)
    far = np.repeat([[0.0] * 5, [50.0] * 5], 20, axis=0) + rng.normal(size=(40, 5))
    figure, again = (sections_of(far)["tsne"].figure for _ in range(2))
    place = {
        sample: (x, y)
        for trace in choices(figure)["true label"]
        for sample, x, y in zip(trace.text, trace.x, trace.y, strict=True)
    }
    points = np.array([place[f"s{i}"] for i in range(40)])
    inside = np.linalg.norm(points[:20] - points[:20].mean(axis=0), axis=1).max()
    assert np.linalg.norm(points[:20].mean(axis=0) - points[20:].mean(axis=0)) > inside
    np.testing.assert_array_equal(figure.data[0].x, again.data[0].x)


def test_too_few_samples_for_tsne_are_said():
    few = np.random.default_rng(0).normal(size=(FEWEST_FOR_TSNE - 1, 4))
    section = sections_of(few)["tsne"]
    assert section.figure is None
    assert "too few for t-SNE" in section.text
    enough = np.random.default_rng(0).normal(size=(FEWEST_FOR_TSNE, 4))
    assert sections_of(enough)["tsne"].figure is not None


def test_of_many_samples_so_many_are_drawn_and_that_is_said(vectors, monkeypatch):
    monkeypatch.setattr(embedding_figures, "MOST_DRAWN", 12)
    found = sections_of(vectors)
    for name in ("pca", "tsne"):
        traces = choices(found[name].figure)["true label"]
        assert sum(len(trace.text) for trace in traces) == 12
        assert f"a random 12 of {SAMPLES} samples" in found[name].text


def test_targets_without_a_colour_are_said(vectors):
    values = torch.rand(SAMPLES, 6)
    outputs = EpochOutputs(values, values, list(map(str, range(SAMPLES))), {}, "regression")
    for section in plane_sections(vectors, outputs, list("abcdef"), "embedding")[:2]:
        assert section.text.endswith("Colours: the first 4 of 6 targets.")


def test_names_are_shown_as_text(vectors):
    plates = [f"<b>{plate}</b>" for plate in PLATES]
    figure = sections_of(vectors, columns={"<i>plate</i>": plates})["pca"].figure
    assert "<i>" not in figure.to_json()
    assert "<b>" not in figure.to_json()


@pytest.mark.parametrize("shape", [(SAMPLES, 1), (2, 6)])
def test_what_has_no_plane_is_said(shape):
    (section,) = sections_of(np.ones(shape)).values()
    assert section.figure is None
    assert "Too few data for a plane" in section.text


def test_diverged_embeddings_are_said():
    (section,) = sections_of(np.full((SAMPLES, 3), np.nan)).values()
    assert "NaN" in section.text


def test_samples_that_are_all_the_same_are_said():
    (section,) = sections_of(np.ones((SAMPLES, 3))).values()
    assert "All samples have the same" in section.text
