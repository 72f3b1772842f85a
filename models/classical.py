"""Classical models of mean spectra or of covariates, made of scikit-learn's estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from models.combination import FOLDS

Split = tuple[np.ndarray, np.ndarray]
# The name of each sample's group.
Groups = Sequence[str] | np.ndarray

# A point that hardly varies (an empty bin) must not be blown up: its deviation is at least this
# share of the median deviation, and standardised values end at CLIP.
DEVIATION_FLOOR, CLIP = 0.1, 8.0
# More components take minutes on large cohorts, and hold noise.
MOST_COMPONENTS, WHITENED_COMPONENTS = 1000, 40
# Probabilities of 0 and 1 have no logarithm.
SMALLEST = 1e-12
# Components of less than this share of the largest variance are rounding errors. Whitened, they
# would be as large as the others, and in float32 a million times larger.
LEAST_VARIANCE = 1e-8


class FlooredScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Standardise columns, with a floor of the deviation and a bound of the result."""

    def fit(self, x: np.ndarray, y: object = None) -> FlooredScaler:
        """Find each column's mean and deviation."""
        deviation = x.std(axis=0, dtype=np.float64)
        floor = DEVIATION_FLOOR * float(np.median(deviation))
        self.mean_ = x.mean(axis=0, dtype=np.float64)
        self.scale_ = np.maximum(deviation, floor)
        self.scale_[self.scale_ == 0] = 1.0
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Standardised columns."""
        return np.clip((x - self.mean_) / self.scale_, -CLIP, CLIP)


class PLSScores(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scores of a partial least squares regression on indicators of the classes."""

    def __init__(self, n_components: int = 2) -> None:
        self.n_components = n_components

    def fit(self, x: np.ndarray, y: np.ndarray) -> PLSScores:
        """Regress on classes [N]."""
        components = min(self.n_components, len(x) - 1, x.shape[1])
        indicators = (y[:, None] == np.unique(y)).astype(float)
        pls = PLSRegression(components, scale=False).fit(x, indicators)
        self.coef_ = pls.x_rotations_.T
        self.intercept_ = -self.coef_ @ x.mean(axis=0, dtype=np.float64)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Scores, [N, components]."""
        return x @ self.coef_.T + self.intercept_


def scaled_rotation(pca: PCA) -> np.ndarray:
    """What centred columns are multiplied by, [components, F]."""
    rotation: np.ndarray = pca.components_
    if pca.whiten:
        variance = pca.explained_variance_
        real = variance > LEAST_VARIANCE * variance.max()
        rotation = rotation / np.sqrt(np.where(real, variance, np.inf))[:, None]
    return rotation


def whitening(x: np.ndarray, components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [k, F] and origin [k] of ``x @ rotation.T - origin``, whitened components."""
    pca = PCA(max(1, min(components, *x.shape)), whiten=True, random_state=seed).fit(x)
    rotation = scaled_rotation(pca)
    return rotation, rotation @ pca.mean_


def without_rotation(pca: PCA, model: Any) -> Any:
    """The same linear model of the columns before a PCA, which is by far the larger of the two."""
    if isinstance(model, PLSRegression):
        linear = LinearRegression()
        linear.coef_ = model.coef_
        linear.intercept_ = model.predict(np.zeros((1, model.n_features_in_))).reshape(-1)
        model = linear
    inner = model
    if isinstance(model, Pipeline):
        inner = model[0]
    elif isinstance(model, CalibratedClassifierCV):
        inner = model.calibrated_classifiers_[0].estimator
    rotation = scaled_rotation(pca)
    inner.coef_ = inner.coef_ @ rotation
    inner.intercept_ = inner.intercept_ - inner.coef_ @ pca.mean_
    inner.n_features_in_ = pca.n_features_in_
    return model


class Recipe(NamedTuple):
    """How a classical model of ``spectra`` (mean spectra) or ``covariates`` is made.

    The grid's parameters are chosen by inner cross-validation. ``components`` are of a PCA before
    the estimator: ``all`` that the data allow only turns the axes and saves time.
    """

    modality: Literal["spectra", "covariates"]
    model: Any
    grid: Mapping[str, Sequence[Any]] = {}
    components: Literal["all", "whitened"] | None = None


_LOGISTIC = LogisticRegression(max_iter=1000)
_PENALTIES = {"C": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
_RIDGE_PENALTIES = {"alpha": [1.0, 1e1, 1e2, 1e3, 1e4]}
_TREES = {"n_estimators": 300, "min_samples_leaf": 3, "max_features": "sqrt"}
_BOOSTING = {"max_iter": 100, "learning_rate": 0.05, "early_stopping": False}
_PLS_DA = Pipeline([("scores", PLSScores()), ("logistic", LogisticRegression(max_iter=1000))])

CLASSIFIERS = {
    "spectra_logistic": Recipe("spectra", _LOGISTIC, _PENALTIES, "all"),
    "spectra_pca_logistic": Recipe("spectra", _LOGISTIC, _PENALTIES, "whitened"),
    "spectra_pls": Recipe("spectra", _PLS_DA, {"scores__n_components": [1, 2, 4, 8, 16]}, "all"),
    "spectra_svm": Recipe("spectra", LinearSVC(C=1e-3), {}, "all"),
    "spectra_extra_trees": Recipe("spectra", ExtraTreesClassifier(**_TREES)),
    "covariates_logistic": Recipe("covariates", _LOGISTIC, _PENALTIES),
    "covariates_extra_trees": Recipe("covariates", ExtraTreesClassifier(**_TREES)),
    "covariates_boosting": Recipe("covariates", HistGradientBoostingClassifier(**_BOOSTING)),
}
REGRESSORS = {
    "spectra_ridge": Recipe("spectra", Ridge(), _RIDGE_PENALTIES, "all"),
    "spectra_pls": Recipe(
        "spectra", PLSRegression(scale=False), {"n_components": [1, 2, 4, 8, 16]}, "all"
    ),
    "spectra_extra_trees": Recipe("spectra", ExtraTreesRegressor(**_TREES)),
    "covariates_ridge": Recipe("covariates", Ridge(), _RIDGE_PENALTIES),
    "covariates_extra_trees": Recipe("covariates", ExtraTreesRegressor(**_TREES)),
    "covariates_boosting": Recipe(
        "covariates", MultiOutputRegressor(HistGradientBoostingRegressor(**_BOOSTING))
    ),
}


class LinearForm(NamedTuple):
    """A linear model of columns [N, F], scaled and bounded before.

    ``weight`` is [C, F] and ``intercept`` [C], of two classes of opposite signs; ``center`` and
    ``spread`` are of each column.
    """

    weight: np.ndarray
    intercept: np.ndarray
    center: np.ndarray
    spread: np.ndarray
    bound: float

    @classmethod
    def of(cls, fitted: Pipeline) -> LinearForm:
        """Of a fitted pipeline of a :class:`FlooredScaler`, or none, and a linear model."""
        model = fitted[-1]
        weight = np.atleast_2d(model.coef_)
        intercept = np.broadcast_to(model.intercept_, len(weight))
        if isinstance(model, LogisticRegression) and len(weight) == 1:
            halves = np.array([-0.5, 0.5])
            weight, intercept = halves[:, None] * weight, halves * intercept
        if isinstance(fitted[0], FlooredScaler):
            return cls(weight, intercept, fitted[0].mean_, fitted[0].scale_, CLIP)
        width = weight.shape[1]
        return cls(weight, intercept, np.zeros(width), np.ones(width), np.inf)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Logits or values, [N, C]."""
        scaled = np.clip((x - self.center) / self.spread, -self.bound, self.bound)
        return scaled @ self.weight.T + self.intercept


def fit_model(
    name: str, task: str, seed: int, x: np.ndarray, y: np.ndarray, groups: Groups
) -> ClassicalModel:
    """A fitted :class:`ClassicalModel`; a function, so that another process can call it."""
    return ClassicalModel(name, task, seed).fit(x, y, groups)


def base_logits(y: np.ndarray, task: str, num_classes: int = 0) -> np.ndarray:
    """Logits of the frequencies of classes [N], or mean values of [N, T]; [C].

    ``num_classes`` counts those that no sample has, too. Half a sample more of each class keeps
    the logits finite (Jeffreys' prior).
    """
    if task == "regression":
        return y.mean(axis=0, dtype=np.float64)
    logs: np.ndarray = np.log(np.bincount(y, minlength=num_classes) + 0.5)
    return logs - logs.mean()


def inner_splits(y: np.ndarray, groups: Groups, task: str, seed: int) -> list[Split]:
    """Folds of whole groups, without those that train on fewer classes; perhaps none.

    Those of classes [N] are stratified; those of values or of several labels [N, T] are not.
    """
    names = np.asarray(groups, dtype=str)
    folds = min(FOLDS, len(np.unique(names)))
    stratified = task != "regression" and y.ndim == 1
    if stratified:
        folds = min(folds, int(np.bincount(y)[np.unique(y)].min()))
    if folds < 2:
        return []
    rows = np.zeros((len(y), 1))
    if not stratified:
        return list(GroupKFold(folds, shuffle=True, random_state=seed).split(rows, y, names))
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    classes = len(np.unique(y))
    return [
        (train, test)
        for train, test in cut.split(rows, y, names)
        if len(np.unique(y[train])) == classes and len(test)
    ]


def inner_fold(y: np.ndarray, groups: Groups, task: str, seed: int) -> np.ndarray:
    """The inner fold that each sample is left out of, [N]; -1 for none."""
    found = np.full(len(y), -1)
    for number, (_, test) in enumerate(inner_splits(y, groups, task, seed)):
        found[test] = number
    return found


class ClassicalModel:
    """A classical model of one modality, by a key of ``CLASSIFIERS`` or ``REGRESSORS``.

    Parameters of a recipe's grid are chosen by cross-validation within the given samples, in which
    no group is on two sides, by log loss (of a regression by squared error). ``estimators`` are
    one, or of several labels one per label, in which a number stands for the constant probability
    of a label that all or none of the samples have.
    """

    def __init__(self, name: str, task: str, seed: int = 0) -> None:
        self.name, self.task, self.seed = name, task, seed
        self.recipe = (REGRESSORS if task == "regression" else CLASSIFIERS)[name]
        self.estimators: list[Any] = []

    def fit(self, x: np.ndarray, y: np.ndarray, groups: Groups) -> ClassicalModel:
        """Fit to mean spectra or covariates [N, ...], and classes [N], labels or values [N, T]."""
        self.estimators = [self._fitted(x, each, groups) for each in self._columns(y)]
        return self

    def fit_again(self, x: np.ndarray, y: np.ndarray, groups: Groups) -> ClassicalModel:
        """The same model of other samples, with the parameters that were chosen."""
        model = ClassicalModel(self.name, self.task, self.seed)
        model.estimators = [
            self._fitted(x, each, groups, self._chosen(whole))
            for each, whole in zip(self._columns(y), self.estimators, strict=True)
        ]
        return model

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of classes [N, C] or labels [N, T], or values [N, T]."""
        if self.task == "regression":
            values = np.asarray(self.estimators[0].predict(x), dtype=np.float64)
            return values.reshape(len(x), -1)
        if self.task != "multilabel":
            return self.estimators[0].predict_proba(x)
        columns = [
            np.full(len(x), label) if isinstance(label, float) else label.predict_proba(x)[:, 1]
            for label in self.estimators
        ]
        return np.stack(columns, axis=1)

    def cross_fit(
        self, x: np.ndarray, y: np.ndarray, groups: Groups
    ) -> tuple[np.ndarray, LinearForm]:
        """Fit a linear model; each sample's logits [N, C] by models of other groups, and its form.

        Those models have the penalty that the grid chose on all samples. A sample that is in no
        inner fold has the base rate's logits, or the mean value. ``y`` are classes or values.
        """
        self.fit(x, y, groups)
        (whole,) = self.estimators
        logits = np.tile(base_logits(y, self.task), (len(x), 1))
        names = np.asarray(groups, dtype=str)
        for train, test in inner_splits(y, groups, self.task, self.seed):
            (part,) = self.fit_again(x[train], y[train], names[train]).estimators
            logits[test] = LinearForm.of(part)(x[test])
        return logits, LinearForm.of(whole)

    def _columns(self, y: np.ndarray) -> list[np.ndarray]:
        return list(y.T.astype(int)) if self.task == "multilabel" else [y]

    def _chosen(self, estimator: Any) -> dict[str, Any]:
        if isinstance(estimator, float):
            return {}
        return {key: estimator[-1].get_params()[key] for key in self.recipe.grid}

    def _fitted(
        self,
        x: np.ndarray,
        y: np.ndarray,
        groups: Groups,
        chosen: Mapping[str, Any] | None = None,
    ) -> Any:
        """A fitted pipeline, with what a grid chose in its place; or a constant probability.

        ``chosen`` are parameters in place of a grid's.
        """
        if self.task != "regression" and len(np.unique(y)) < 2:
            return float(y[0])
        recipe = self.recipe
        if y.shape[1:] == (1,) and not isinstance(recipe.model, MultiOutputRegressor):
            y = y[:, 0]
        splits = [] if chosen else inner_splits(y, groups, self.task, self.seed)
        model = clone(recipe.model).set_params(**(chosen or {}))
        if "random_state" in model.get_params():
            model.set_params(random_state=self.seed)
        if isinstance(model, LinearSVC):
            # Calibration takes each sample once; with too few, the training scores must do.
            whole = sum(len(test) for _, test in splits) == len(x)
            everything = np.arange(len(x))
            folds = splits if whole else [(everything, everything)]
            model = CalibratedClassifierCV(model, cv=folds, ensemble=False)
        elif recipe.grid and splits:
            by_probability = {"response_method": "predict_proba", "greater_is_better": False}
            scoring: Any = "neg_mean_squared_error"
            if self.task != "regression":
                scoring = make_scorer(log_loss, labels=np.unique(y), **by_probability)
            model = GridSearchCV(model, dict(recipe.grid), scoring=scoring, cv=splits)
        pipeline = Pipeline([*self._preparation(x), ("model", model)]).fit(x, y)
        if isinstance(model, GridSearchCV):
            pipeline.steps[-1] = ("model", pipeline[-1].best_estimator_)
        if recipe.components:
            *others, (_, pca), (name, fitted) = pipeline.steps
            pipeline.steps = [*others, (name, without_rotation(pca, fitted))]
        return pipeline

    def _preparation(self, x: np.ndarray) -> list[tuple[str, Any]]:
        if isinstance(self.recipe.model, (ExtraTreesClassifier, ExtraTreesRegressor)):
            return []
        steps: list[tuple[str, Any]] = []
        if self.recipe.modality == "spectra":
            steps.append(("scale", FlooredScaler()))
        if self.recipe.components:
            whitened = self.recipe.components == "whitened"
            most = WHITENED_COMPONENTS if whitened else MOST_COMPONENTS
            count = max(1, min(most, len(x) - 2, x.shape[1]))
            steps.append(("pca", PCA(count, whiten=whitened, random_state=self.seed)))
        return steps
