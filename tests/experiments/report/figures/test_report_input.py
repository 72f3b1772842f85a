from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.analysis import TestAnalysis
from experiments.report.figures import examine
from experiments.report.figures.importance import covariate_features, in_one_sense
from experiments.report.figures.sections import importance_sections
from experiments.report.report_content import sample_source
from experiments.report.words import names_of_kinds
from tests.experiments.report.run_outcome import make_outcome

pytestmark = pytest.mark.slow


def samples_of(outcome):
    return examine(outcome)


@pytest.fixture(scope="module")
def outcome(cohort_dir, tmp_path_factory):
    return make_outcome(cohort_dir, tmp_path_factory.mktemp("runs"))


def test_attributions_stand_beside_the_models_input(outcome):
    examined, explained = samples_of(outcome), outcome.findings.explained[0]
    dataset = outcome.data.datasets["test"]
    batch = outcome.data.loaders["test"].collate_fn(dataset.__getitems__(range(len(dataset))))
    number_of = {name: number for number, name in enumerate(batch.sample_id)}
    for row, name in enumerate(explained.sample_id):
        number = number_of[name]
        given = batch.spectra[number][batch.mask[number]].mean(dim=0).numpy()
        np.testing.assert_allclose(examined.inputs.scans[row], given, rtol=1e-4, atol=1e-5)
        covariates = batch.tabular[number].numpy()
        np.testing.assert_allclose(examined.inputs.covariates[row], covariates, rtol=1e-5)


def test_the_mean_spectrum_is_of_raw_intensities(outcome):
    examined, cohort = samples_of(outcome), outcome.data.cohort
    rows = [cohort.sample_ids.index(name) for name in outcome.findings.explained[0].sample_id]
    means = [cohort.spectra[cohort.scan_rows[row]].mean(axis=0) for row in rows]
    np.testing.assert_allclose(examined.inputs.spectrum, np.mean(means, axis=0), rtol=1e-5)
    assert examined.axis is cohort.axis
    assert examined.axis_name == "m/z"
    assert examined.covariates == outcome.data.encoder.feature_names


def test_a_covariate_of_several_bins_is_one_row(cohort_dir, tmp_path):
    made = make_outcome(
        cohort_dir, tmp_path, numeric=["age", "CRP"], log=["CRP"], covariate_encoding="piecewise"
    )
    examined = samples_of(made)
    names = made.data.encoder.feature_names
    assert names.count("age") == names.count("log1p(CRP)") == 8
    found = in_one_sense(examined.findings.explained[0], examined)
    features = {feature.name: feature for feature in covariate_features(found, examined)}
    assert sorted(features) == sorted(set(names))
    whole = sum(feature.attributions for feature in features.values())
    np.testing.assert_allclose(whole, found.covariates.sum(axis=1), atol=1e-9)
    ages = made.data.cohort.samples.set_index("sample_id")["age"].astype(float)
    explained = ages[examined.findings.explained[0].sample_id].to_numpy()
    known = ~np.isnan(explained)
    assert spearmanr(features["age"].values[known], explained[known])[0] == pytest.approx(1)
    tables = [section.table for section in importance_sections(examined) if section.table]
    rows = [row[0] for table in tables for row in table]
    assert rows.count("age") == rows.count("log1p(CRP)") == 1


def test_samples_can_be_told_apart_by_columns_of_few_values(outcome):
    examined, table = (
        examine(outcome),
        outcome.data.cohort.samples.set_index("sample_id"),
    )
    assert list(examined.columns)[:2] == ["group", "sex"]
    sex = table.loc[examined.outputs.sample_id, "sex"].fillna("(missing)")
    assert examined.columns["sex"] == list(sex)
    # The label is the truth, which has a colouring of its own; age is a number.
    assert not {"label", "age", "sample_id"} & set(examined.columns)


def test_a_columns_values_are_names_of_the_users(outcome):
    examined, names = examine(outcome), names_of_kinds(outcome.data.cohort)
    assert {"M", "F", *examined.classes} <= names
    assert not names & {"(missing)", *outcome.data.cohort.sample_ids}


def test_where_nothing_was_explained_there_are_no_inputs(outcome):
    assert examine(replace(outcome, findings=TestAnalysis())).inputs is None


def test_heads_of_a_regression_are_in_the_targets_units(cohort_dir, tmp_path):
    outcome = make_outcome(cohort_dir, tmp_path, task="regression", label="age", numeric=["BMI"])
    heads = samples_of(outcome).findings.heads
    learned = outcome.findings.heads
    assert learned is not None
    ages = outcome.data.cohort.targets
    for head in heads:
        assert ages.min() - 30 < float(head.mean()) < ages.max() + 30
    assert abs(float(learned[0].mean())) < 5


def test_an_axis_without_a_unit_is_called_axis_not_mz(outcome, tmp_path):
    cohort = replace(outcome.data.cohort, root=tmp_path)  # without a cohort.yaml
    unnamed = replace(outcome, data=replace(outcome.data, cohort=cohort))
    assert samples_of(unnamed).axis_name == "axis"
    assert sample_source(unnamed.data, outcome.outputs["test"].sample_id).axis_name == "axis"
