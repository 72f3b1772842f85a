from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.cohort import Cohort
from datasets.errors import CohortError
from experiments.prediction import load_model
from tests.experiments.prediction.made_cohorts import (
    change_samples,
    held_out,
    read_samples,
    set_unit,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(run_dir):
    return load_model(run_dir)


def on_axis(root, axis):
    """The same scans, interpolated linearly."""
    former, scans = np.load(root / "axis.npy"), np.load(root / "spectra.npy")
    np.save(root / "axis.npy", axis.astype(np.float32))
    moved = np.array([np.interp(axis, former, scan) for scan in scans], dtype=np.float32)
    np.save(root / "spectra.npy", moved)


def test_an_axis_that_covers_the_models_is_resampled_and_said(model, new_cohort):
    plain = model.predict(new_cohort)
    axis = np.load(new_cohort / "axis.npy").astype(np.float64)
    finer = np.sort(np.concatenate([axis, (axis[1:] + axis[:-1]) / 2]))
    finer = np.concatenate([finer[:1] - 50, finer, finer[-1:] + 50])
    on_axis(new_cohort, finer)
    predictions = model.predict(new_cohort)
    (note,) = [note for note in predictions.notes if "resampled" in note]
    assert "129 points from 1950 to" in note
    assert "64 points from 2000 to" in note
    assert not any("resampled" in note for note in plain.notes)
    assert predictions.logits.numpy() == pytest.approx(plain.logits.numpy(), abs=0.3)
    assert not torch.equal(predictions.logits, plain.logits)


def test_points_outside_of_the_models_axis_change_nothing(model, new_cohort):
    plain = model.predict(new_cohort)
    axis = np.load(new_cohort / "axis.npy").astype(np.float64)
    step = np.arange(1, 4) * 100
    on_axis(new_cohort, np.concatenate([axis[0] - step[::-1], axis, axis[-1] + step]))
    torch.testing.assert_close(model.predict(new_cohort).logits, plain.logits)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda axis: axis[1:], "does not cover"),
        (lambda axis: axis[:-1], "does not cover"),
        (lambda axis: axis[[*range(0, 63, 3), 63]], "at least 32 were expected"),
        (lambda axis: axis / 10, "does not cover"),
    ],
)
def test_an_axis_without_the_models_points_is_refused(model, new_cohort, change, told):
    on_axis(new_cohort, change(np.load(new_cohort / "axis.npy").astype(np.float64)))
    with pytest.raises(CohortError, match=told):
        model.check(new_cohort)


def test_missing_values_are_imputed_as_in_training_and_counted(model, new_cohort, root):
    table = read_samples(new_cohort)
    gaps = int((table["GGT"] == "").sum())
    table["age"] = ["", "", *table["age"].iloc[2:]]
    change_samples(new_cohort, lambda _: table)
    predictions = model.predict(new_cohort)
    (note,) = [note for note in predictions.notes if "missing values" in note]
    assert "age in 2" in note
    assert f"GGT in {gaps}" in note or not gaps
    learned = model.fitted.encoder.state_dict()
    median = learned["median"][learned["numeric"].index("age")]
    table["age"] = [str(median), str(median), *table["age"].iloc[2:]]
    change_samples(new_cohort, lambda _: table)
    if "age" not in learned["had_missing"]:
        torch.testing.assert_close(model.predict(new_cohort).logits, predictions.logits)


def test_a_missing_column_is_imputed_on_request(model, new_cohort):
    change_samples(new_cohort, lambda table: table.assign(age=""))
    gaps = model.predict(new_cohort)
    change_samples(new_cohort, lambda table: table.drop(columns="age"))
    with pytest.raises(CohortError, match=r"no covariate 'age'.*--impute imputes it"):
        model.check(new_cohort)
    imputed = model.predict(new_cohort, impute=True)
    assert torch.equal(imputed.logits, gaps.logits)
    assert "columns that are missing, imputed in all samples: age" in imputed.notes


def test_an_unknown_category_is_none_of_the_known_ones_on_request(model, new_cohort):
    change_samples(new_cohort, lambda table: table.assign(sex=["X", "X", *table["sex"].iloc[2:]]))
    with pytest.raises(CohortError, match=r"'sex' is 'X' in 2 samples.*\(choices: F, M"):
        model.check(new_cohort)
    new = model.check(new_cohort, impute=True)
    assert "unknown categories of sex, taken as none: X in 2 samples" in new.notes
    features = model.fitted.encoder.feature_columns
    own = [number for number, column in enumerate(features) if column == "sex"]
    dataset = model.fitted.dataset(new, np.arange(3))
    assert not dataset.tabular[:2, own].any()
    assert dataset.tabular[2, own].sum() == 1


def test_without_any_covariate_nothing_is_imputed(model, new_cohort):
    change_samples(new_cohort, lambda table: table[["sample_id", "group", "label"]])
    with pytest.raises(CohortError, match=r"has no covariates .*not trained to do without"):
        model.check(new_cohort, impute=True)


def test_units_that_one_of_both_does_not_name_are_said(model, new_cohort):
    set_unit(new_cohort, "age", "")
    (note,) = [n for n in model.check(new_cohort).notes if "does not name" in n]
    assert note.endswith("taken as the model's: age years")
    (new_cohort / "cohort.yaml").write_text("units: {BMI: kg/m^2, axis: ' m/z '}\n")
    notes = model.check(new_cohort).notes
    assert any("age years" in note and "BMI" not in note for note in notes)
    set_unit_of_axis = "units: {axis: cm-1}\n"
    (new_cohort / "cohort.yaml").write_text(set_unit_of_axis)
    with pytest.raises(CohortError, match="the unit of axis is cm-1, but the model's is m/z"):
        model.check(new_cohort)


def test_neither_labels_nor_groups_are_needed(model, new_cohort):
    plain = model.predict(new_cohort)
    (new_cohort / "cohort.yaml").unlink()
    change_samples(new_cohort, lambda table: table.drop(columns=["label", "group"]))
    predictions = model.predict(new_cohort)
    assert torch.equal(predictions.logits, plain.logits)
    assert predictions.targets is None
    assert not len(predictions.labelled)
    assert "target" not in predictions.table()
    assert predictions.groups.tolist() == predictions.sample_ids


def test_groups_are_those_that_the_cohort_names(model, new_cohort):
    assert model.check(new_cohort).cohort.group == "group"
    change_samples(new_cohort, lambda table: table.rename(columns={"group": "patient"}))
    path = new_cohort / "cohort.yaml"
    path.write_text(path.read_text().replace("group: group", "group: patient"))
    assert model.check(new_cohort).cohort.group == "patient"


def test_labels_are_the_models_classes(model, new_cohort):
    table = read_samples(new_cohort)
    predictions = model.predict(new_cohort)
    assert predictions.targets is not None
    expected = (table["label"] == "case").astype(int).tolist()
    assert predictions.targets.tolist() == expected
    change_samples(new_cohort, lambda _: table.assign(label="Case"))
    with pytest.raises(CohortError, match=r"'Case' of 'label' .*did you mean 'case'"):
        model.check(new_cohort)
    ignored = model.predict(new_cohort, ignore_labels=True)
    assert ignored.targets is None
    assert torch.equal(ignored.logits, predictions.logits)


def test_labels_in_several_columns_are_all_there_or_none(train, root, tmp_path):
    run_dir = train("multilabel")
    model, new = load_model(run_dir), held_out(root, run_dir, tmp_path / "new")
    change_samples(new, lambda table: table.assign(heavy=["", *table["heavy"].iloc[1:]]))
    predictions = model.predict(new)
    assert predictions.targets is not None
    assert predictions.targets[0].tolist() == [-1, -1]
    assert predictions.labelled.tolist() == list(range(1, len(predictions)))
    cells = predictions.table()["target_heavy"]
    assert cells.isna().tolist() == [True] + [False] * (len(cells) - 1)
    change_samples(new, lambda table: table.drop(columns="heavy"))
    with pytest.raises(CohortError, match=r"has the labels diseased, but no 'heavy'"):
        model.check(new)
    assert model.check(new, ignore_labels=True).targets is None


def test_values_of_some_samples_are_missing(train, root, tmp_path):
    run_dir = train("regression")
    model, new = load_model(run_dir), held_out(root, run_dir, tmp_path / "new")
    change_samples(new, lambda table: table.assign(risk=["", *table["risk"].iloc[1:]]))
    predictions = model.predict(new)
    assert 0 not in predictions.labelled
    written = pd.read_csv(run_dir / "predictions.csv")
    table = predictions.table()
    assert np.isnan(table["target_risk"][0])
    # Matrix products of other numbers of rows may round otherwise.
    assert table["prediction_risk"].tolist() == pytest.approx(written["prediction_risk"].tolist())


def test_intensities_that_are_not_finite_are_refused(model, new_cohort, monkeypatch):
    spectra = np.load(new_cohort / "spectra.npy")
    spectra[4, 7] = np.nan
    np.save(new_cohort / "spectra.npy", spectra)
    told = r"row 4 \(sample 'S\d+', scan \d\): nan at point 7"
    with pytest.raises(CohortError, match=told):
        model.check(new_cohort)
    # Large spectra are not read beforehand.
    monkeypatch.setattr("datasets.cohort.cohort.CHECKED_AT_ONCE_BYTES", 0)
    new = model.check(new_cohort)
    with pytest.raises(CohortError, match=told):
        list(model.stream(new))


def test_a_gap_of_an_axis_is_not_filled(model, new_cohort):
    axis = np.load(new_cohort / "axis.npy").astype(np.float64)
    within = (axis[20], axis[40])
    parts = [np.linspace(axis[0], within[0], 60), np.linspace(within[1], axis[-1], 60)]
    on_axis(new_cohort, np.concatenate(parts))
    told = rf"no point between {within[0]:g} and {within[1]:g}, .* has 19; at most 4"
    with pytest.raises(CohortError, match=told):
        model.check(new_cohort)


def test_half_of_the_models_points_are_no_gap(model, new_cohort):
    axis = np.load(new_cohort / "axis.npy").astype(np.float64)
    on_axis(new_cohort, axis[[*range(0, 63, 2), 63]])
    assert any("resampled" in note for note in model.check(new_cohort).notes)


def test_the_rounding_of_an_axis_is_no_shorter_one(model, new_cohort):
    axis = np.load(new_cohort / "axis.npy").astype(np.float64)
    finer = np.linspace(axis[0], axis[-1], 127)
    on_axis(new_cohort, finer)
    finer[0], finer[-1] = axis[0] * (1 + 1e-9), axis[-1] * (1 - 1e-9)
    np.save(new_cohort / "axis.npy", finer)
    assert any("resampled" in note for note in model.check(new_cohort).notes)


def test_a_choice_of_no_samples_is_refused(model, new_cohort):
    cohort = Cohort.read(new_cohort, task="unlabelled")
    with pytest.raises(CohortError, match="no sample is chosen"):
        model.check(cohort[[]])


def test_values_in_another_unit_do_not_validate_a_regression(train, root, tmp_path):
    run_dir = train("regression", data={"numeric": ["age", "CRP"]})
    new = held_out(root, run_dir, tmp_path / "new")
    set_unit(new, "BMI", "lb/in^2")
    model = load_model(run_dir)
    with pytest.raises(CohortError, match=r"unit of BMI is lb/in\^2.*--ignore-labels predicts"):
        model.check(new)
    assert model.check(new, ignore_labels=True).targets is None
