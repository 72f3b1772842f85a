"""Classical models: their scores, their inner folds, what they are robust against."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from experiments.config import BASELINE_NAMES, LATE_FUSION
from models import classical
from models.classical import (
    CLASSIFIERS,
    CLIP,
    REGRESSORS,
    ClassicalModel,
    FlooredScaler,
    LinearForm,
    base_logits,
    inner_fold,
    inner_splits,
)


def separable(samples: int = 60, points: int = 30) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Samples whose first column decides, two per group."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, points))
    x[:, 0] *= 4
    groups = [f"g{number // 2}" for number in range(samples)]
    return x, (x[:, 0] > 0).astype(int), groups


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_ranks_a_clear_signal(name: str) -> None:
    x, y, groups = separable(120)
    model = ClassicalModel(name, "binary").fit(x[:80], y[:80], groups[:80])
    scores = model.predict(x[80:])
    assert scores.shape == (40, 2)
    assert np.allclose(scores.sum(axis=1), 1)
    assert roc_auc_score(y[80:], scores[:, 1]) > 0.9


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_three_classes_have_a_probability_each(name: str) -> None:
    x, _, groups = separable(90)
    y = np.digitize(x[:, 0], [-1.5, 1.5])
    scores = ClassicalModel(name, "multiclass").fit(x, y, groups).predict(x)
    assert scores.shape == (90, 3)
    assert np.allclose(scores.sum(axis=1), 1)
    assert (scores.argmax(axis=1) == y).mean() > 0.7


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_label_is_predicted_on_its_own(name: str) -> None:
    x, y, groups = separable(80)
    labels = np.stack([y, np.ones_like(y), np.zeros_like(y)], axis=1).astype(np.float32)
    scores = ClassicalModel(name, "multilabel").fit(x, labels, groups).predict(x)
    assert roc_auc_score(y, scores[:, 0]) > 0.9
    # A label that all or none have is constant.
    assert (scores[:, 1] == 1).all()
    assert (scores[:, 2] == 0).all()


@pytest.mark.parametrize("name", REGRESSORS)
def test_several_targets_are_regressed(name: str) -> None:
    x, _, groups = separable(100)
    y = np.stack([x[:, 0], -x[:, 0]], axis=1)
    predicted = ClassicalModel(name, "regression").fit(x[:70], y[:70], groups[:70]).predict(x[70:])
    assert predicted.shape == (30, 2)
    assert np.corrcoef(predicted[:, 0], y[70:, 0])[0, 1] > 0.6
    assert np.corrcoef(predicted[:, 1], y[70:, 1])[0, 1] > 0.6


@pytest.mark.parametrize("name", ["spectra_extra_trees", "covariates_boosting", "spectra_svm"])
def test_equal_seeds_give_equal_predictions(name: str) -> None:
    x, y, groups = separable()
    first, second = (ClassicalModel(name, "binary", 7).fit(x, y, groups).predict(x) for _ in "ab")
    assert np.array_equal(first, second)


def test_inner_folds_never_split_a_group() -> None:
    _, y, groups = separable()
    splits = inner_splits(y, groups, "binary", seed=0)
    names = np.array(groups)
    assert len(splits) == 5
    fold = inner_fold(y, groups, "binary", seed=0)
    assert all((fold[test] == number).all() for number, (_, test) in enumerate(splits))
    for train, test in splits:
        assert not set(names[train]) & set(names[test])
        assert set(y[train]) == {0, 1}


def test_a_pca_in_full_rank_changes_no_logistic_model() -> None:
    x, y, groups = separable(80, 20)
    model = ClassicalModel("spectra_logistic", "binary").fit(x, y, groups)
    penalty = model.estimators[0][-1].C
    plain = LogisticRegression(C=penalty, max_iter=5000).fit(FlooredScaler().fit(x).transform(x), y)
    expected = plain.predict_proba(FlooredScaler().fit(x).transform(x))
    assert np.allclose(model.predict(x), expected, atol=1e-3)


ROTATED = [("binary", n) for n, recipe in CLASSIFIERS.items() if recipe.components] + [
    ("regression", n) for n, recipe in REGRESSORS.items() if recipe.components
]


@pytest.mark.parametrize(("task", "name"), ROTATED)
def test_a_fitted_model_holds_no_rotation(
    task: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, groups = separable(50, 200)
    targets = y if task == "binary" else x[:, :2]
    model = ClassicalModel(name, task).fit(x[:40], targets[:40], groups[:40])
    assert [step for step, _ in model.estimators[0].steps] == ["scale", "model"]
    found = model.predict(x)

    rotations = []

    def kept(pca: PCA, fitted: object) -> object:
        rotations.append(pca)
        return Pipeline([("pca", pca), ("fitted", fitted)])

    monkeypatch.setattr(classical, "without_rotation", kept)
    whole = ClassicalModel(name, task).fit(x[:40], targets[:40], groups[:40])
    assert rotations[0].components_.size > 20 * x.shape[1]
    assert np.allclose(found, whole.predict(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "positives", [1, 2, 3], ids=["one_positive", "two_positives", "three_positives"]
)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_few_positives_are_enough_to_fit(name: str, positives: int) -> None:
    x, _, _ = separable(20)
    y = np.array([1] * positives + [0] * (20 - positives))
    scores = ClassicalModel(name, "binary").fit(x, y, [str(n) for n in range(20)]).predict(x)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", [*CLASSIFIERS])
def test_one_group_and_four_samples_are_enough(name: str) -> None:
    x, _, _ = separable(4)
    y = np.array([0, 1, 0, 1])
    scores = ClassicalModel(name, "binary").fit(x, y, ["p"] * 4).predict(x)
    assert np.isfinite(scores).all()


def test_nearly_empty_points_are_not_blown_up() -> None:
    x = np.random.default_rng(0).normal(size=(50, 5))
    x[:, 4] = 0
    x[0, 4] = 1e-6
    scaled = FlooredScaler().fit(x).transform(x)
    assert np.abs(scaled[:, 4]).max() < 1e-4
    assert np.abs(FlooredScaler().fit(x).transform(x * 1e6)).max() == CLIP


def test_constant_columns_become_zero() -> None:
    assert not FlooredScaler().fit(np.ones((5, 3))).transform(np.ones((5, 3))).any()


def test_configuration_names_are_those_of_the_models() -> None:
    assert set(BASELINE_NAMES) == {*CLASSIFIERS, *REGRESSORS, LATE_FUSION}


def grouped_noise(task: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Noise in which a group's samples and targets are alike, so that a leak would show."""
    rng = np.random.default_rng(0)
    group_of = np.repeat(np.arange(40), 3)
    x = rng.normal(size=(40, 60))[group_of] + 0.1 * rng.normal(size=(120, 60))
    classes = {"binary": 2, "multiclass": 3}.get(task)
    y = rng.normal(size=(40, 1)) if classes is None else np.arange(40) % classes
    return x, y[group_of], [f"g{number}" for number in group_of]


@pytest.mark.parametrize("name", ["spectra_logistic", "spectra_pca_logistic", "spectra_ridge"])
def test_cross_fitted_logits_are_of_models_of_other_groups(name: str) -> None:
    task = "regression" if name == "spectra_ridge" else "binary"
    x, y, groups = grouped_noise(task)
    logits, form = ClassicalModel(name, task).cross_fit(x, y, groups)
    if task == "regression":
        assert np.corrcoef(form(x)[:, 0], y[:, 0])[0, 1] > 0.5
        assert np.corrcoef(logits[:, 0], y[:, 0])[0, 1] < 0.3
    else:
        assert roc_auc_score(y, np.diff(form(x))) > 0.9
        assert roc_auc_score(y, np.diff(logits)) < 0.65


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((name, "binary") for name in ("spectra_logistic", "spectra_pca_logistic")),
        ("covariates_logistic", "binary"),
        ("spectra_logistic", "multiclass"),
        ("spectra_ridge", "regression"),
        ("covariates_ridge", "regression"),
    ],
)
def test_a_linear_form_is_the_pipelines_decision(name: str, task: str) -> None:
    x, y, groups = grouped_noise(task)
    model = ClassicalModel(name, task)
    _, form = model.cross_fit(x[:90], y[:90], groups[:90])
    pipeline = model.estimators[0]
    found = form(1.5 * x)
    if task == "regression":
        expected = pipeline.predict(1.5 * x).reshape(-1, 1)
    else:
        expected = pipeline.predict_log_proba(1.5 * x)
        expected, found = (each - each.mean(axis=1, keepdims=True) for each in (expected, found))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_whitened_directions_without_variance_are_left_out() -> None:
    """In float32 they would be rounding errors, a million times as large as all else."""
    x, y, groups = separable(100, 30)
    x -= x.mean(axis=1, keepdims=True)  # as a centred log-ratio leaves it
    _, form = ClassicalModel("spectra_pca_logistic", "binary").cross_fit(x, y, groups)
    center, spread = form.center.astype(np.float32), form.spread.astype(np.float32)
    single = LinearForm(form.weight.astype(np.float32), form.intercept, center, spread, form.bound)
    rounded = single(x.astype(np.float32))
    np.testing.assert_allclose(rounded, form(x), atol=1e-3)


def test_base_logits_are_finite_also_for_a_class_without_samples() -> None:
    logits = base_logits(np.array([0, 0, 0, 1]), "multiclass", 3)
    assert np.isfinite(logits).all()
    assert logits[0] > logits[1] > logits[2]
    assert base_logits(np.zeros(5, dtype=int), "binary", 2).shape == (2,)
