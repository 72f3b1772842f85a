"""Covariates as a model's numbers: imputed, binned on request, scaled, one-hot encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from datasets.cohort import LARGEST_NUMBER, as_numbers, as_text, is_missing, require_columns
from datasets.errors import CohortError, nearest
from datasets.specs import require_choice

# The category that stands for "no value".
MISSING = "(missing)"

# Of a numeric covariate's piecewise-linear encoding.
BINS = 8

Encoding = Literal["standard", "piecewise"]
_SETTINGS = ("numeric", "categorical", "log", "missing_indicators", "scale", "encoding")
# Of states that were saved before there was the setting.
_FORMER_SETTINGS = {"encoding": "standard"}


class CovariateEncoder:
    """Encode numeric and categorical covariates; fitted on the training samples only.

    Numeric columns, those of ``log`` after log1p, are median-imputed and, with ``scale``,
    standardised. With ``missing_indicators``, each of them with missing values in training has a
    further feature, 1 where the value is missing. One without any value in training is always 0.

    With the encoding ``standard`` a numeric column is one feature. With ``piecewise`` it is one for
    each of at most 8 bins between quantiles of its known training values, equal ones merged: 0
    below the bin, 1 above it, linear inside; the first and the last bin go on linearly beyond the
    training range. With ``scale`` each of these is standardised. A constant column is one feature,
    the same in both. Source: Gorishniy et al. 2022, "On Embeddings for Numerical Features in
    Tabular Deep Learning", equation 1 and section 3.2.1 (https://arxiv.org/abs/2203.05556).

    Categorical columns have one 0/1 feature for each category seen in training; an unseen category
    is all-zero. A missing value is a category of its own, "(missing)", where it was seen in
    training and indicators are on (or where the column held nothing else); otherwise all-zero.
    CohortError where a column is missing or listed twice, or a value cannot be used.
    """

    def __init__(
        self,
        numeric: Sequence[str],
        categorical: Sequence[str],
        log: Sequence[str] = (),
        missing_indicators: bool = True,
        scale: bool = True,
        encoding: Encoding = "standard",
    ) -> None:
        self.numeric = list(numeric)
        self.categorical = list(categorical)
        self.log = list(log)
        self.missing_indicators = missing_indicators
        self.scale = scale
        self.encoding = require_choice("covariate_encoding", encoding, get_args(Encoding))
        covariates = [*self.numeric, *self.categorical]
        for column in covariates:
            if covariates.count(column) > 1:
                raise CohortError(f"covariate {column!r} is listed more than once")
        for column in self.log:
            if column not in self.numeric:
                hint = nearest(column, self.numeric)
                raise CohortError(f"log of {column!r}, which is not a numeric covariate{hint}")
        self._learned: dict[str, Any] | None = None

    def fit(self, samples: pd.DataFrame) -> CovariateEncoder:
        """Learn medians, bins, scales and categories from the training samples."""
        if not len(samples):
            raise CohortError("covariates cannot be fitted on a training part without samples")
        table = self._read(samples)
        missing = table[self.numeric].isna()
        learned: dict[str, Any] = {
            "empty": [c for c in self.numeric if missing[c].all()],
            "had_missing": [c for c in self.numeric if missing[c].any()],
            "categories": {c: self._categories(table[c]) for c in self.categorical},
        }
        if self.numeric:
            imputer = SimpleImputer(strategy="median", keep_empty_features=True)
            filled = imputer.fit_transform(table[self.numeric])
            learned["median"] = imputer.statistics_.tolist()
            if self.encoding == "piecewise":
                learned["edges"] = [_find_edges(table[c].to_numpy()) for c in self.numeric]
            if self.scale:
                scaler = StandardScaler().fit(self._encode(filled, learned))
                learned |= {"mean": scaler.mean_.tolist(), "spread": scaler.scale_.tolist()}
        self._learned = learned
        return self

    def transform(self, samples: pd.DataFrame) -> np.ndarray:
        """Encode N samples, float32 [N, D], finite; D = 0 where there are no covariates."""
        learned = self._fitted()
        table = self._read(samples)
        table[learned["empty"]] = np.nan
        columns = [np.zeros((len(table), 0))]
        if self.numeric:
            missing = table[self.numeric].isna().to_numpy()
            filled = np.where(missing, learned["median"], table[self.numeric].to_numpy())
            numbers = self._encode(filled, learned)
            if self.scale:
                numbers = (numbers - learned["mean"]) / learned["spread"]
            columns.append(numbers)
        if self.missing_indicators:
            columns.append(table[learned["had_missing"]].isna().to_numpy())
        for column in self.categorical:
            categories = np.array(learned["categories"][column], dtype=object)
            columns.append(table[column].to_numpy()[:, None] == categories)
        features = np.concatenate(columns, axis=1, dtype=np.float64)
        # A nearly constant training column can put a later value beyond float32.
        return np.clip(features, -LARGEST_NUMBER, LARGEST_NUMBER).astype(np.float32)

    @property
    def feature_names(self) -> list[str]:
        """Names of the D features: `age`, `log1p(AFP)`, `missing(AFP)`, `sex=M`.

        The bins of a covariate all have its name.
        """
        learned = self._fitted()
        names = [f"log1p({c})" if c in self.log else c for c in self._numeric_columns(learned)]
        if self.missing_indicators:
            names += [f"missing({c})" for c in learned["had_missing"]]
        return names + [
            f"{c}={value}" for c in self.categorical for value in learned["categories"][c]
        ]

    @property
    def feature_columns(self) -> list[str]:
        """The covariate of each of the D features."""
        learned = self._fitted()
        columns = self._numeric_columns(learned)
        if self.missing_indicators:
            columns += learned["had_missing"]
        return columns + [c for c in self.categorical for _ in learned["categories"][c]]

    def state_dict(self) -> dict[str, Any]:
        """The settings and the learned values, as plain Python types."""
        learned = self._fitted()
        return deepcopy({name: getattr(self, name) for name in _SETTINGS} | learned)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of an encoder; CohortError where its settings were others."""
        for name, value in _settings(state).items():
            if value != getattr(self, name):
                raise CohortError(
                    f"covariates were fitted with {name} = {value!r}, "
                    f"here it is {getattr(self, name)!r}"
                )
        self._learned = {name: deepcopy(state[name]) for name in state if name not in _SETTINGS}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> CovariateEncoder:
        """Build a fitted encoder from a state alone."""
        encoder = cls(**_settings(state))
        encoder.load_state_dict(state)
        return encoder

    def _fitted(self) -> dict[str, Any]:
        if self._learned is None:
            raise RuntimeError("CovariateEncoder: fit or load_state_dict comes first")
        return self._learned

    def _numeric_columns(self, learned: Mapping[str, Any]) -> list[str]:
        """The column of each feature of a numeric covariate's value."""
        if self.encoding == "standard":
            return list(self.numeric)
        both = zip(self.numeric, learned["edges"], strict=True) if self.numeric else ()
        return [column for column, edges in both for _ in range(max(1, len(edges) - 1))]

    def _encode(self, filled: np.ndarray, learned: Mapping[str, Any]) -> np.ndarray:
        """The features of numbers without gaps, [N, numeric columns], before they are scaled."""
        if self.encoding == "standard":
            return filled
        return np.hstack(
            [_piecewise_linear(*pair) for pair in zip(filled.T, learned["edges"], strict=True)]
        )

    def _read(self, samples: pd.DataFrame) -> pd.DataFrame:
        require_columns(samples, self.numeric, "the samples table", "numeric covariate")
        require_columns(samples, self.categorical, "the samples table", "categorical covariate")
        named = samples["sample_id"] if "sample_id" in samples.columns else samples.index
        names = [str(name) for name in named]
        columns: dict[str, Any] = {}
        for column in self.numeric:
            numbers = as_numbers(samples[column], column, names)
            if column in self.log:
                if (numbers < 0).any():
                    row = int(np.argmax(numbers < 0))
                    raise CohortError(
                        f"log of {column!r} needs values of 0 and above; sample {names[row]!r} has "
                        f"{numbers[row]:g}"
                    )
                numbers = np.log1p(numbers)
            columns[column] = numbers
        for column in self.categorical:
            values = samples[column].astype(object).map(as_text)
            columns[column] = values.mask(is_missing(samples[column]), MISSING).to_numpy()
        return pd.DataFrame(columns, index=range(len(samples)))

    def _categories(self, values: pd.Series) -> list[str]:
        seen = sorted(set(values) - {MISSING})
        if not seen or (self.missing_indicators and (values == MISSING).any()):
            seen.append(MISSING)
        return seen


def _settings(state: Mapping[str, Any]) -> dict[str, Any]:
    given = _FORMER_SETTINGS | dict(state)
    return {name: given[name] for name in _SETTINGS}


def _find_edges(numbers: np.ndarray) -> list[float]:
    """Rising edges of bins with about as many training values each; one edge of a constant."""
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return [0.0]
    edges: list[float] = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1))).tolist()
    return edges


def _piecewise_linear(numbers: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Encode numbers [N] by T + 1 edges as [N, T]; by one edge as the distance from it, [N, 1]."""
    low = np.array(edges[:-1] or edges)
    width = np.diff(edges) if len(edges) > 1 else np.ones(1)
    least, most = np.zeros(len(low)), np.ones(len(low))
    least[0], most[-1] = -np.inf, np.inf
    with np.errstate(over="ignore"):  # far beyond a narrow bin; limited where features are made
        encoded: np.ndarray = np.clip((numbers[:, None] - low) / width, least, most)
    return encoded
