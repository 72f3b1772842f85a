from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cohort import Cohort
from datasets.covariates import CovariateEncoder
from datasets.errors import CohortError


@pytest.fixture
def train():
    """Forty patients; AFP and sex have missing values, nobody's CRP was measured."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "sample_id": [f"S{number}" for number in range(40)],
            "age": rng.integers(20, 80, 40).astype(float),
            "AFP": rng.lognormal(2, 2, 40),
            "CRP": np.full(40, np.nan),
            "sex": np.array(["f", "m"])[rng.integers(0, 2, 40)],
            "site": np.array(["Leipzig", "Heidelberg", "Jena"])[rng.integers(0, 3, 40)],
        }
    )
    table.loc[[3, 11, 30], "AFP"] = np.nan
    table.loc[[5, 6], "sex"] = np.nan
    return table


@pytest.fixture
def unseen():
    """What training did not prepare for."""
    return pd.DataFrame(
        {
            "sample_id": ["T0", "T1", "T2", "T3"],
            "age": [np.nan, 200.0, 55.0, 0.0],
            "AFP": [1e5, np.nan, 0.0, 3.0],
            "CRP": [np.nan, 7.0, 1e6, np.nan],
            "sex": ["f", "diverse", np.nan, "m"],
            "site": [np.nan, "Jena", "Berlin", "Leipzig"],
        }
    )


NUMERIC, CATEGORICAL = ["age", "AFP", "CRP"], ["sex", "site"]


def encoded(encoder, table):
    """Feature columns by name."""
    values = encoder.transform(table)
    assert values.dtype == np.float32
    assert values.shape == (len(table), len(encoder.feature_names))
    assert np.isfinite(values).all()
    return pd.DataFrame(values, columns=encoder.feature_names)


def test_features_are_named_after_what_they_were_made_from(train):
    encoder = CovariateEncoder(NUMERIC, CATEGORICAL, log=["AFP"]).fit(train)
    assert encoder.feature_names == [
        *["age", "log1p(AFP)", "CRP", "missing(AFP)", "missing(CRP)"],
        *["sex=f", "sex=m", "sex=(missing)", "site=Heidelberg", "site=Jena", "site=Leipzig"],
    ]
    assert encoder.feature_columns == [*NUMERIC, "AFP", "CRP", *["sex"] * 3, *["site"] * 3]
    assert encoder.transform(train).shape == (40, 11)
    assert encoder.transform(train.iloc[:0]).shape == (0, 11)


def test_numbers_are_imputed_by_the_median_and_standardised(train):
    encoder = CovariateEncoder(["age", "AFP"], []).fit(train)
    features = encoded(encoder, train)
    filled = train["AFP"].fillna(train["AFP"].median())
    np.testing.assert_allclose(
        features["AFP"], (filled - filled.mean()) / filled.std(ddof=0), rtol=1e-5
    )
    np.testing.assert_allclose(features[["age", "AFP"]].mean(), 0, atol=1e-6)
    np.testing.assert_array_equal(features["missing(AFP)"], train["AFP"].isna())


def test_the_log_is_taken_before_scaling(train):
    features = encoded(CovariateEncoder(["AFP"], [], log=["AFP"]).fit(train), train)
    logs = np.log1p(train["AFP"])
    logs = logs.fillna(logs.median())
    np.testing.assert_allclose(
        features["log1p(AFP)"], (logs - logs.mean()) / logs.std(ddof=0), rtol=1e-5, atol=1e-6
    )


def test_scaling_and_log_can_be_turned_off(train):
    features = encoded(CovariateEncoder(["age"], [], scale=False).fit(train), train)
    np.testing.assert_array_equal(features["age"], train["age"])


def test_what_is_learned_comes_from_the_training_part_alone(train, unseen):
    encoder = CovariateEncoder(NUMERIC, CATEGORICAL).fit(train)
    before = encoder.state_dict()
    alone = encoder.transform(unseen.iloc[[1]])
    np.testing.assert_array_equal(encoder.transform(unseen)[[1]], alone)
    assert json.dumps(encoder.state_dict()) == json.dumps(before)


def test_a_column_complete_in_training_may_lack_values_later(train, unseen):
    encoder = CovariateEncoder(["age"], []).fit(train)
    assert encoder.feature_names == ["age"]
    filled = unseen.assign(age=unseen["age"].fillna(train["age"].median()))
    np.testing.assert_array_equal(encoder.transform(unseen), encoder.transform(filled))


def test_a_column_without_values_in_training_says_nothing_later(train, unseen):
    encoder = CovariateEncoder(["CRP", "age"], []).fit(train)
    assert encoder.feature_names == ["CRP", "age", "missing(CRP)"]
    features = encoded(encoder, unseen)
    assert (features["CRP"] == 0).all()
    assert (features["missing(CRP)"] == 1).all()


def test_categories_that_training_did_not_see_are_all_zero(train, unseen):
    features = encoded(CovariateEncoder([], ["sex", "site"]).fit(train), unseen)
    sex = features.filter(like="sex=").to_numpy()
    np.testing.assert_array_equal(sex, [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]])
    site = features.filter(like="site=").to_numpy()
    np.testing.assert_array_equal(site, [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_missingness_is_hidden_where_indicators_are_off(train):
    encoder = CovariateEncoder(NUMERIC, CATEGORICAL, missing_indicators=False).fit(train)
    assert not [name for name in encoder.feature_names if "missing" in name]
    features = encoded(encoder, train)
    assert (features.loc[[5, 6], ["sex=f", "sex=m"]] == 0).all(axis=None)
    filled = train.assign(AFP=train["AFP"].fillna(train["AFP"].median()))
    np.testing.assert_array_equal(encoder.transform(filled), encoder.transform(train))


def test_a_category_column_without_values_does_not_vanish(train):
    for indicators in (True, False):
        encoder = CovariateEncoder([], ["site"], missing_indicators=indicators)
        encoder.fit(train.assign(site=np.nan))
        assert encoder.feature_names == ["site=(missing)"]
        assert encoder.transform(train).tolist() == [[0.0]] * 40


def test_a_category_is_the_same_as_a_number_or_as_text():
    encoder = CovariateEncoder([], ["grade"]).fit(pd.DataFrame({"grade": ["1", "2"]}))
    for grades in ([1, 2], [1.0, 2.0], ["1", "2"]):
        np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"grade": grades})), np.eye(2))


def test_numbers_may_come_as_text():
    encoder = CovariateEncoder(["age"], [], scale=False).fit(
        pd.DataFrame({"age": ["40", "", "60"]})
    )
    assert encoder.transform(pd.DataFrame({"age": ["1e1", "NA"]})).tolist() == [[10, 0], [50, 1]]


def test_a_nearly_constant_column_gives_finite_features():
    encoder = CovariateEncoder(["x"], []).fit(pd.DataFrame({"x": [0.0, 2e-59]}))
    assert np.isfinite(encoder.transform(pd.DataFrame({"x": [1.0, -1.0]}))).all()


def test_no_covariates_give_no_features(train, unseen):
    encoder = CovariateEncoder([], []).fit(train)
    assert encoder.feature_names == encoder.feature_columns == []
    assert encoder.transform(unseen).shape == (4, 0)
    assert CovariateEncoder.from_state_dict(encoder.state_dict()).feature_names == []


@pytest.mark.parametrize("indicators", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("log", [[], ["AFP", "CRP"]])
def test_a_restored_encoder_gives_identical_features(
    train, unseen, tmp_path, indicators, scale, log
):
    settings = {"log": log, "missing_indicators": indicators, "scale": scale}
    encoder = CovariateEncoder(NUMERIC, CATEGORICAL, **settings).fit(train)
    torch.save(encoder.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    restored = CovariateEncoder(NUMERIC, CATEGORICAL, **settings)
    restored.load_state_dict(state)
    for other in (restored, CovariateEncoder.from_state_dict(state)):
        assert other.feature_names == encoder.feature_names
        assert other.state_dict() == encoder.state_dict()
        for table in (train, unseen):
            np.testing.assert_array_equal(other.transform(table), encoder.transform(table))


def test_the_state_is_plain_and_its_own(train):
    encoder = CovariateEncoder(NUMERIC, CATEGORICAL).fit(train)
    state = encoder.state_dict()
    assert json.loads(json.dumps(state)) == state
    for value in state.values():
        if isinstance(value, list | dict):
            value.clear()
    assert len(encoder.feature_names) == 11


def test_a_state_of_other_settings_is_refused(train):
    state = CovariateEncoder(["age"], ["sex"]).fit(train).state_dict()
    with pytest.raises(CohortError, match=r"fitted with numeric = \['age'\], here it is \['AFP'\]"):
        CovariateEncoder(["AFP"], ["sex"]).load_state_dict(state)
    with pytest.raises(CohortError, match="fitted with scale = True"):
        CovariateEncoder(["age"], ["sex"], scale=False).load_state_dict(state)


NUMBERS = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))
WORDS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "1", "None", "(missing)"]))
TABLES = st.lists(st.tuples(NUMBERS, NUMBERS, WORDS), min_size=1, max_size=12).map(
    lambda rows: pd.DataFrame(rows, columns=["x", "y", "z"])
)


@pytest.mark.slow
@given(TABLES, TABLES, st.booleans(), st.booleans())
@settings(max_examples=60)
def test_features_are_finite_and_survive_a_state(first, second, indicators, scale):
    encoder = CovariateEncoder(["x", "y"], ["z"], (), indicators, scale).fit(first)
    features = encoded(encoder, second)
    assert {"x", "y"} <= set(features)
    restored = CovariateEncoder.from_state_dict(json.loads(json.dumps(encoder.state_dict())))
    np.testing.assert_array_equal(restored.transform(second), features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["age", "age"], []), "'age' is listed more than once"),
        ((["age"], ["age"]), "'age' is listed more than once"),
        ((["age"], ["sex"], ["sex"]), "log of 'sex', which is not a numeric covariate"),
        ((["AFP"], [], ["AFB"]), "did you mean 'AFP'?"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(CohortError) as caught:
        CovariateEncoder(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["agee"], []), "no numeric covariate 'agee'; did you mean 'age'?"),
        (([], ["sexe"]), "no categorical covariate 'sexe'; did you mean 'sex'?"),
        ((["sex"], []), "numeric covariate 'sex': 'f' of sample 'S0' is not a finite number"),
        ((["base_excess"], [], ["base_excess"]), "sample 'S2' has -1"),
        ((["ratio"], []), "'ratio': 'inf' of sample 'S0'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(train, arguments, message):
    table = train.assign(base_excess=[1.0, np.nan, -1.0, *[0.0] * 37], ratio=np.inf)
    table.loc[0, "sex"] = "f"
    with pytest.raises(CohortError) as caught:
        CovariateEncoder(*arguments).fit(table)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_later_samples_are_checked_too(train):
    encoder = CovariateEncoder(["AFP"], ["sex"], log=["AFP"]).fit(train)
    with pytest.raises(CohortError, match="log of 'AFP' needs values of 0 and above; sample 'S4'"):
        encoder.transform(train.assign(AFP=train["AFP"].where(train.index != 4, -2.5)))
    with pytest.raises(CohortError, match="no categorical covariate 'sex'"):
        encoder.transform(train.drop(columns="sex"))


def test_an_empty_training_part_is_refused(train):
    with pytest.raises(CohortError, match="training part without samples"):
        CovariateEncoder(["age"], []).fit(train.iloc[:0])


def test_an_encoder_that_was_not_fitted_says_so(train):
    for use in (lambda e: e.transform(train), lambda e: e.state_dict(), lambda e: e.feature_names):
        with pytest.raises(RuntimeError, match="fit or load_state_dict comes first"):
            use(CovariateEncoder(["age"], []))


def test_the_hcc_covariates_are_encoded(real_data):
    numeric = ["age", "AST", "ALT", "GGT", "ALB", "TBIL", "TP", "AFP"]
    cohort = Cohort.read(
        real_data / "hcc_serum_glycome_maldi",
        labels={"HCC": 1, "LC": 0, "CHB": 0},
        numeric=numeric,
        categorical=["sex"],
    )
    train = (cohort.groups != "plate1") & (cohort.groups != "plate6")
    encoder = CovariateEncoder(numeric, ["sex"], log=["AST", "ALT", "GGT", "TBIL", "AFP"])
    encoder.fit(cohort.samples[train])
    features = encoded(encoder, cohort.samples)
    assert set(encoder.feature_columns) == {*numeric, "sex"}
    np.testing.assert_allclose(features.loc[train, "log1p(AFP)"].std(ddof=0), 1, rtol=1e-5)
    assert (features[["sex=F", "sex=M"]].sum(axis=1) == 1).all()


def test_a_missing_number_is_the_median_and_says_so():
    patients = pd.DataFrame({"age": [40, 60, None], "sex": ["f", "m", "f"]})
    encoder = CovariateEncoder(["age"], ["sex"]).fit(patients)
    found = encoder.transform(pd.DataFrame({"age": [None], "sex": ["unheard of"]}))
    assert found.tolist() == [[0.0, 1.0, 0.0, 0.0]]
