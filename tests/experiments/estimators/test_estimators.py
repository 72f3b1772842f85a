"""Estimators: what they take, predict, refuse, keep to themselves, and save."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Events
from safetensors import safe_open
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets.cohort import Cohort
from datasets.errors import CohortError, UsageError
from datasets.transforms import SNV
from experiments.config import load_config
from experiments.estimators import CohortArrays, ScanfireClassifier, ScanfireRegressor
from experiments.estimators.training import split_validation
from models.baseline_models import MeanLinear
from tests.experiments.conftest import SMALL_TFT
from tests.experiments.estimators.quick import PLAIN, QUICK, as_arrays, matrix

TFT: dict[str, Any] = {
    "config": "tft_baseline",
    "max_epochs": 2,
    "settings": {"model.params": SMALL_TFT, "trainer.batch_size": 16, "trainer.device": "cpu"},
}
X, Y = matrix()


@pytest.fixture(scope="module")
def cohort(cohort_dir):
    return Cohort.read(cohort_dir, labels={"control": 0, "case": 1})


@pytest.fixture(scope="module")
def fitted():
    return ScanfireClassifier(**QUICK).fit(X, Y)


def test_classes_are_named_as_y_names_them(fitted):
    names = np.array(["b", "a"])[Y]
    named = ScanfireClassifier(**QUICK).fit(X, names)
    assert named.classes_.tolist() == ["a", "b"]
    assert set(named.predict(X)) == {"a", "b"}
    assert fitted.classes_.tolist() == [0, 1]
    assert fitted.score(X, Y) > 0.75
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)


def test_the_decision_is_the_difference_of_two_logits_or_all_logits(fitted):
    decision, probability = fitted.decision_function(X), fitted.predict_proba(X)[:, 1]
    np.testing.assert_allclose(1 / (1 + np.exp(-decision)), probability)
    thirds = np.arange(len(X)) % 3
    three = ScanfireClassifier(**QUICK).fit(X, thirds)
    assert three.decision_function(X).shape == (len(X), 3)
    np.testing.assert_array_equal(three.decision_function(X).argmax(axis=1), three.predict(X))


@pytest.mark.slow
def test_a_cohort_and_its_arrays_give_the_same_model(cohort):
    whole = ScanfireClassifier(**TFT).fit(cohort)
    arrays = as_arrays(cohort)
    of_arrays = ScanfireClassifier(**TFT).fit(arrays, cohort.targets)
    np.testing.assert_array_equal(whole.predict_proba(cohort), of_arrays.predict_proba(arrays))
    of_three = arrays.spectra, arrays.mask, arrays.covariates
    with pytest.raises(UsageError, match="another axis"):
        of_arrays.predict(of_three)
    assert whole.class_names_ == ["control", "case"]
    assert whole.classes_.tolist() == [0, 1]
    assert whole.validation_.keys() >= {"auroc", "loss"}


def test_a_tuple_of_arrays_is_taken(cohort):
    arrays = as_arrays(cohort)
    of_three = arrays.spectra, arrays.mask, arrays.covariates
    quick = ScanfireClassifier(**{**QUICK, "max_epochs": 1}).fit(of_three, cohort.targets)
    assert quick.predict(of_three).shape == (len(cohort),)
    with pytest.raises(UsageError, match="not 4 arrays"):
        quick.predict((*of_three, arrays.groups))


def test_classes_have_a_cohorts_names_where_y_are_its_own(cohort):
    once = {**QUICK, "max_epochs": 1}
    own = ScanfireClassifier(**once).fit(cohort, cohort.targets.tolist())
    assert own.class_names_ == ["control", "case"]
    others = ScanfireClassifier(**once).fit(cohort, 1 - cohort.targets)
    assert others.class_names_ == ["0", "1"]


def test_categories_that_the_training_had_not_are_warned_of(cohort):
    women = (cohort.samples["sex"] == "F").to_numpy()
    model = ScanfireClassifier("tabular_only", max_epochs=1).fit(cohort[women])
    men = int((~women).sum())
    with pytest.warns(UserWarning, match=f"covariate 'sex': {men} of {len(cohort)} samples"):
        model.predict(cohort)


def test_the_order_and_the_company_of_samples_do_not_matter(cohort):
    model = ScanfireClassifier(**{**QUICK, "max_epochs": 1}).fit(cohort)
    together, rows = model.predict_proba(cohort), np.random.default_rng(0).permutation(len(cohort))
    np.testing.assert_allclose(model.predict_proba(cohort[rows]), together[rows], atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(cohort[7]), together[[7]], atol=1e-6)


def test_columns_that_are_numbers_are_the_axis():
    table = pd.DataFrame(X, columns=np.linspace(1000, 2000, X.shape[1]))
    model = ScanfireClassifier(**QUICK).fit(table, Y)
    assert model.fitted_.axis[-1] == 2000
    assert model.predict(table).shape == (len(X),)
    with pytest.raises(UsageError, match=r"another axis .*\(0 to 11\); .*\(1000 to 2000\)"):
        model.predict(X)


def test_a_cohort_of_the_other_task_is_refused(cohort):
    with pytest.raises(UsageError, match="X is of task binary; regression was expected, or y"):
        ScanfireRegressor(**QUICK).fit(cohort)


def test_the_validation_set_separates_no_group(cohort):
    config = load_config("tft_baseline")
    groups = np.array([f"g{number // 3}" for number in range(len(cohort))])
    grouped = Cohort(**{**vars(cohort), "groups": groups})
    split = split_validation(config, grouped)
    assert not set(groups[split == "train"]) & set(groups[split == "val"])
    assert 0.1 < np.mean(split == "val") < 0.3


def test_groups_reach_the_validation_split_also_through_cross_validation():
    by_class = Y.astype(str)
    with pytest.raises(UsageError, match="class '0' stands in only 1 group"):
        ScanfireClassifier(**QUICK).fit(X, Y, groups=by_class)
    with pytest.raises(UsageError, match="stands in only 1 group"):
        ScanfireClassifier(**QUICK).fit(CohortArrays(X[:, None], groups=by_class), Y)
    mixed, folds = np.arange(len(X)) % 8, GroupKFold(2)
    quick = ScanfireClassifier(**{**QUICK, "max_epochs": 1})
    given = cross_val_score(quick, X, Y, groups=mixed, cv=folds, params={"groups": mixed})
    assert given.shape == (2,)
    with config_context(enable_metadata_routing=True):
        routed = quick.set_fit_request(groups=True)
        asked = cross_val_score(routed, X, Y, cv=folds, params={"groups": mixed})
    np.testing.assert_array_equal(asked, given)


@pytest.mark.slow
def test_a_grid_is_searched_over_settings_and_models_of_samples_in_memory(cohort):
    grid = {
        "settings": [PLAIN, {**PLAIN, "optimizer.lr": 1e-5}],
        "model": ["mean_linear", "spectra_only"],
    }
    quick = ScanfireClassifier(**{**QUICK, "max_epochs": 1})
    arrays = as_arrays(cohort)
    search = GridSearchCV(quick, grid, cv=GroupKFold(2), scoring="roc_auc", error_score="raise")
    search.fit(arrays, cohort.targets, groups=cohort.groups)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.predict(arrays).shape == (len(cohort),)


def test_a_pipeline_ends_in_it():
    pipeline = make_pipeline(StandardScaler(), ScanfireClassifier(**QUICK))
    assert pipeline.fit(X, Y).score(X, Y) > 0.75


def test_regression_is_in_the_units_of_y_of_one_target_or_several():
    values = 1e4 + 300 * X[:, 3]
    one = ScanfireRegressor(**{**QUICK, "max_epochs": 40}).fit(X, values)
    assert one.predict(X).shape == (len(X),)
    assert one.score(X, values) > 0.5
    both = np.stack([values, X[:, 5]], axis=1)
    two = ScanfireRegressor(**QUICK).fit(X, both)
    assert two.predict(X).shape == both.shape
    assert two.target_names_ == ["y0", "y1"]
    assert any(name.startswith("mae[y1]") for name in two.validation_)


def test_fitting_is_quiet_and_leaves_nothing_behind(tmp_path, monkeypatch, capfd):
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    for folder in (work, temporary):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state(legacy=True)
    ScanfireClassifier(**QUICK).fit(X, Y).predict(X)
    after = torch.get_rng_state(), np.random.get_state(legacy=True)
    assert torch.equal(before[0], after[0])
    assert str(before[1]) == str(after[1])
    assert capfd.readouterr() == ("", "")
    assert not [*work.iterdir(), *temporary.iterdir()]


class PressesCtrlC:
    """Sends this process the signal of Ctrl-C in the first step."""

    def attach(self, trainer):
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=1), lambda: signal.raise_signal(signal.SIGINT)
        )


def test_ctrl_c_ends_the_fit():
    stopped = ScanfireClassifier(
        **{**QUICK, "settings": {**PLAIN, "handlers": [{"name": f"{__name__}.PressesCtrlC"}]}}
    )
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y)
    with pytest.raises(NotFittedError):
        stopped.predict(X)


def test_a_fit_that_fails_leaves_no_earlier_model():
    model = ScanfireClassifier(**QUICK).fit(X, Y)
    with pytest.raises(UsageError, match="group"):
        model.fit(X, Y, groups=Y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_intensities_that_a_transform_is_not_made_for_are_warned_of():
    negative = X - X.mean(axis=0)
    settings = {**PLAIN, "data.transforms": ["sqrt", "standardize"]}
    with pytest.warns(UserWarning, match="negative"):
        ScanfireClassifier(**{**QUICK, "settings": settings}).fit(negative, Y)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"settings": {"optimizer.lrr": 1}}, r"unknown key 'optimizer\.lrr'.*optimizer\.lr"),
        ({"settings": {"data.root": "x"}}, r"settings: data\.root cannot be set"),
        ({"settings": {"data": {}}}, r"settings: data cannot be set"),
        ({"settings": {"data.cache": "disk"}}, "keeps no scans on disk; set memory or none"),
        ({"settings": {"optimizer.lr": object()}}, "settings: <object .* cannot be written"),
        ({"model": "mean_liner"}, "no model is called 'mean_liner'; did you mean 'mean_linear'"),
        ({"config": "spectra_onl"}, "did you mean 'spectra_only'"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_mistake_is_told_in_one_line(changed, told):
    with pytest.raises(UsageError, match=told) as error:
        ScanfireClassifier(**{**QUICK, **changed}).fit(X, Y)
    assert "\n" not in str(error.value)


def test_another_seed_is_another_model(fitted):
    other = ScanfireClassifier(**QUICK, seed=1).fit(X, Y)
    again = clone(fitted).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert not np.array_equal(other.predict_proba(X), fitted.predict_proba(X))


def saved(estimator, tmp_path):
    path = tmp_path / "new" / "model.safetensors"
    estimator.save(path)
    return path


def test_a_saved_classifier_predicts_the_same(fitted, tmp_path):
    path = saved(fitted, tmp_path)
    again = ScanfireClassifier.load(path)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.get_params() == fitted.get_params()
    assert again.validation_ == fitted.validation_
    assert again.n_features_in_ == X.shape[1]
    with safe_open(path, framework="np") as file:
        described = json.loads(file.metadata()["scanfire"])
    assert str(tmp_path) not in json.dumps(described)
    assert described["config"]["data"]["root"] is None
    np.testing.assert_array_equal(clone(again).fit(X, Y).predict(X), again.predict(X))


@pytest.mark.parametrize("kind", [str, object, bool, float])
def test_saved_classes_keep_their_type(kind, tmp_path):
    classes = Y.astype(str).astype(kind) if kind in (str, object) else Y.astype(kind)
    model = ScanfireClassifier(**{**QUICK, "max_epochs": 1}).fit(X, classes)
    again = ScanfireClassifier.load(saved(model, tmp_path))
    assert again.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_saved_regressor_predicts_the_same(tmp_path):
    model = ScanfireRegressor(**QUICK).fit(X, X[:, 3])
    again = ScanfireRegressor.load(saved(model, tmp_path))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.slow
def test_the_default_chooses_by_the_cohort_and_is_saved_whole(cohort, tmp_path, few_trees):
    model = ScanfireClassifier(max_epochs=2, settings={"trainer.device": "cpu"}).fit(cohort)
    assert model.fitted_.config.model.name == "ensemble"
    again = ScanfireClassifier.load(saved(model, tmp_path))
    np.testing.assert_array_equal(again.predict_proba(cohort), model.predict_proba(cohort))


@pytest.mark.slow
def test_a_cohort_of_covariates_alone_is_learned_and_saved(cohort, tmp_path):
    flat = Cohort(
        **{
            **vars(cohort),
            "axis": np.zeros(0, dtype=np.float32),
            "spectra": np.zeros((len(cohort), 0), dtype=np.float32),
            "scan_rows": list(np.arange(len(cohort))[:, None]),
        }
    )
    model = ScanfireClassifier("tabular_only", max_epochs=2).fit(flat)
    again = ScanfireClassifier.load(saved(model, tmp_path))
    np.testing.assert_array_equal(again.predict_proba(flat), model.predict_proba(flat))


def test_a_file_imports_nothing_unasked(tmp_path):
    own = f"{MeanLinear.__module__}.MeanLinear"
    step = f"{SNV.__module__}.SNV"
    settings = {**PLAIN, "model": {"name": own}, "data.transforms": [step]}
    model = ScanfireClassifier("spectra_only", None, settings, 1).fit(X, Y)
    path = saved(model, tmp_path)
    with pytest.raises(UsageError, match=f"imports '{own}'; if you trust it"):
        ScanfireClassifier.load(path)
    with pytest.raises(UsageError, match=f"imports '{step}'"):
        ScanfireClassifier.load(path, own=[own])
    again = ScanfireClassifier.load(path, own=[own, step])
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_files_of_others_are_refused(fitted, tmp_path):
    path = saved(fitted, tmp_path)
    with pytest.raises(UsageError, match="of a ScanfireClassifier, not of a ScanfireRegressor"):
        ScanfireRegressor.load(path)
    with pytest.raises(UsageError, match="no file"):
        ScanfireClassifier.load(tmp_path / "none")
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="not a file that an estimator's save has written"):
        ScanfireClassifier.load(other)


def test_nothing_is_predicted_or_saved_before_the_fit(tmp_path):
    with pytest.raises(NotFittedError):
        ScanfireClassifier().predict(X)
    with pytest.raises(NotFittedError):
        ScanfireClassifier().save(tmp_path / "m")


def test_large_spectra_of_a_folder_are_checked(cohort_dir, tmp_path, monkeypatch):
    root = tmp_path / "cohort"
    shutil.copytree(cohort_dir, root)
    spectra = np.load(root / "spectra.npy")
    spectra[0, 0] = np.nan
    np.save(root / "spectra.npy", spectra)
    monkeypatch.setattr(sys.modules[Cohort.__module__], "CHECKED_AT_ONCE_BYTES", 0)
    large = Cohort.read(root)
    with pytest.raises(CohortError, match="nan at point 0"):
        ScanfireClassifier(**QUICK).fit(large)
