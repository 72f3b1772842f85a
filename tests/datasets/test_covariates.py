from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cohort import Cohort
from datasets.covariates import CovariateEncoder
from datasets.errors import CohortError, UsageError


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
@pytest.mark.parametrize("encoding", ["standard", "piecewise"])
def test_a_restored_encoder_gives_identical_features(
    train, unseen, tmp_path, indicators, scale, log, encoding
):
    settings = {
        "log": log,
        "missing_indicators": indicators,
        "scale": scale,
        "encoding": encoding,
    }
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
    with pytest.raises(CohortError, match="fitted with encoding = 'standard', here it is 'piec"):
        CovariateEncoder(["age"], ["sex"], encoding="piecewise").load_state_dict(state)


def test_a_state_from_before_there_were_encodings_is_standard(train, unseen):
    encoder = CovariateEncoder(NUMERIC, CATEGORICAL).fit(train)
    state = encoder.state_dict()
    del state["encoding"]
    for restored in (
        CovariateEncoder(NUMERIC, CATEGORICAL),
        CovariateEncoder.from_state_dict(state),
    ):
        restored.load_state_dict(state)
        np.testing.assert_array_equal(restored.transform(unseen), encoder.transform(unseen))
    with pytest.raises(CohortError, match="fitted with encoding = 'standard'"):
        CovariateEncoder(NUMERIC, CATEGORICAL, encoding="piecewise").load_state_dict(state)


NUMBERS = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))
WORDS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "1", "None", "(missing)"]))
TABLES = st.lists(st.tuples(NUMBERS, NUMBERS, WORDS), min_size=1, max_size=12).map(
    lambda rows: pd.DataFrame(rows, columns=["x", "y", "z"])
)


@pytest.mark.slow
@given(TABLES, TABLES, st.booleans(), st.booleans(), st.sampled_from(["standard", "piecewise"]))
@settings(max_examples=60)
def test_features_are_finite_and_survive_a_state(first, second, indicators, scale, encoding):
    encoder = CovariateEncoder(["x", "y"], ["z"], (), indicators, scale, encoding).fit(first)
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


# Piecewise-linear numbers


def piecewise(numbers, scale=False, log=()):
    """An encoder of the column x."""
    encoder = CovariateEncoder(["x"], [], log=log, scale=scale, encoding="piecewise")
    return encoder.fit(pd.DataFrame({"x": numbers}))


def encode(encoder, numbers):
    return encoder.transform(pd.DataFrame({"x": numbers})).tolist()


def test_a_number_is_one_below_it_linear_within_its_bin_and_zero_above():
    encoder = piecewise([8.0, 1, 2, 3, 4, 5, 6, 7, 0])
    assert encode(encoder, [0, 2.25, 3, 8]) == [
        [0] * 8,
        [1, 1, 0.25, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1] * 8,
    ]


def test_the_edges_are_quantiles_of_the_training_values():
    encoder = piecewise([0.0, 1, 2, 3, 4, 5, 6, 70, 800])
    assert encode(encoder, [38, 435])[0] == [1, 1, 1, 1, 1, 1, 0.5, 0]
    assert encode(encoder, [38, 435])[1] == [1, 1, 1, 1, 1, 1, 1, 0.5]


def test_the_outer_bins_go_on_beyond_the_training_range():
    encoder = piecewise(np.arange(9.0))
    assert encode(encoder, [-2, 11]) == [[-2, *[0] * 7], [*[1] * 7, 4]]
    encoder = piecewise([10.0] * 9 + [20.0])
    assert encode(encoder, [0, 15, 40]) == [[-1], [0.5], [3]]


def test_equal_quantiles_are_one_edge():
    encoder = piecewise([0.0, 0, 0, 0, 0, 1, 2, 3, 4])  # quantiles 0 0 0 0 0 1 2 3 4
    assert encode(encoder, [0, 0.5, 3.5]) == [[0] * 4, [0.5, 0, 0, 0], [1, 1, 1, 0.5]]
    assert encoder.feature_names == encoder.feature_columns == ["x"] * 4


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("numbers", [[7.0] * 5, [7.0]])
def test_a_constant_number_is_one_feature_around_zero(numbers, scale):
    encoder = piecewise(numbers, scale)
    assert encode(encoder, [numbers[0], numbers[0] + 2]) == [[0], [2]]


def test_a_number_never_seen_is_always_zero(train, unseen):
    encoder = CovariateEncoder(["CRP", "age"], [], encoding="piecewise").fit(train)
    assert encoder.feature_columns == ["CRP", *["age"] * 8, "CRP"]
    assert not encoder.transform(unseen)[:, 0].any()


def test_missing_numbers_are_encoded_as_the_median_and_flagged():
    encoder = piecewise([0.0, 1, 2, 3, 4, 5, 6, 7, 8, *[np.nan] * 20])
    assert encoder.feature_names == [*["x"] * 8, "missing(x)"]
    # Quantiles are those of the known values.
    assert encode(encoder, [np.nan, 4, 0.5]) == [
        [1, 1, 1, 1, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [0.5, *[0] * 8],
    ]


def test_each_bin_is_standardised(train):
    settings: dict[str, Any] = {"log": ["AFP"], "encoding": "piecewise"}
    raw = CovariateEncoder(["age", "AFP"], [], scale=False, **settings).fit(train).transform(train)
    encoder = CovariateEncoder(["age", "AFP"], ["sex"], **settings).fit(train)
    scaled = encoder.transform(train)
    expected = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    np.testing.assert_allclose(scaled[:, :16], expected[:, :16], atol=1e-5)
    np.testing.assert_array_equal(scaled[:, 16], raw[:, 16])  # the indicator stays 0 or 1
    assert encoder.feature_names == [
        *["age"] * 8,
        *["log1p(AFP)"] * 8,
        *["missing(AFP)", "sex=f", "sex=m", "sex=(missing)"],
    ]


def test_bins_of_a_logarithm_are_between_logarithms():
    encoder = piecewise(np.expm1(np.arange(9.0)), log=["x"])
    np.testing.assert_allclose(encode(encoder, [np.expm1(0.25)]), [[0.25, *[0] * 7]], rtol=1e-6)


def test_extremes_beyond_narrow_bins_stay_finite():
    encoder = piecewise([0.0, 5e-324, 1e-300, 1.0], scale=True)
    features = np.array(encode(encoder, [-3e38, 3e38, 0.5]))
    assert np.isfinite(features).all()
    assert features[0].min() < -1e30


def test_the_encoding_is_that_of_its_authors():
    """Of rtdl_num_embeddings, where it is installed."""
    reference = pytest.importorskip("rtdl_num_embeddings")
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    several = np.stack([rng.normal(size=60), rng.poisson(1.0, 60), rng.integers(0, 2, 60)], axis=1)
    bins = reference.compute_bins(torch.from_numpy(several), n_bins=8)
    later = np.vstack([several, 5 * rng.normal(size=(40, 3))])
    expected = reference.PiecewiseLinearEncoding(bins)(torch.from_numpy(later).float()).numpy()
    encoder = CovariateEncoder(names, [], scale=False, encoding="piecewise")
    encoder.fit(pd.DataFrame(several, columns=names))
    found = encoder.transform(pd.DataFrame(later, columns=names))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_unknown_encoding_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="there is no 'peicewise'; did you mean 'piecewise'"):
        CovariateEncoder(["x"], [], encoding="peicewise")  # type: ignore[arg-type]
