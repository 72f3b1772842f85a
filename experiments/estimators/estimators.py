"""``ScanfireClassifier`` and ``ScanfireRegressor``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from datasets.cohort import Cohort
from datasets.errors import UsageError
from datasets.loading import CACHE_LIMIT_BYTES
from datasets.paths import as_path
from engine.metrics import CLASSES, likeliest
from experiments.estimators.fitted import FittedModel
from experiments.estimators.inputs import CohortArrays, group_names, mean_spectra
from experiments.estimators.settings import as_text, build_config
from experiments.estimators.training import train_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from sklearn.utils import Tags

Own = TypeVar("Own", bound="ScanfireEstimator")
# Learned of a matrix alone, and all that a saved estimator keeps.
OF_MATRICES = ("n_features_in_", "feature_names_in_")
ARRAYS = ("classes_", "feature_names_in_")
PLAIN = ("class_names_", "target_names_", "single_", "n_features_in_")


class ScanfireEstimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share."""

    def __init__(
        self,
        config: str = "auto",
        model: str | None = None,
        settings: Mapping[str, Any] | None = None,
        max_epochs: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.settings = settings
        self.max_epochs = max_epochs
        self.seed = seed

    def _fit(self: Own, cohort: Cohort, decided: Mapping[str, Any]) -> Own:
        if len(set(cohort.sample_ids)) < len(cohort):  # drawn with replacement
            cohort = replace(cohort, sample_ids=[str(number) for number in range(len(cohort))])
        size = sum(map(len, cohort.scan_rows)) * cohort.spec_len * cohort.spectra.itemsize
        self.__dict__.pop("fitted_", None)  # a fit that fails leaves no model of other classes
        own = {"trainer.max_epochs": self.max_epochs, "seed": self.seed}
        chosen: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
        chosen |= {
            **decided,
            "data.cache": "memory" if size <= CACHE_LIMIT_BYTES else "none",
            "data.labels": None,
            "data.root": str(cohort.root),
        }
        with tempfile.TemporaryDirectory(prefix="scanfire-") as folder:
            chosen["runs_dir"] = folder
            config = build_config(self.config, self.model, self.settings, chosen)
            self.fitted_, self.validation_ = train_model(config, cohort)
        return self

    def _read(self, X: Any, groups: Any = None, reset: bool = False) -> Cohort:
        """X as a cohort; without ``reset`` it has to be like that of the training."""
        if isinstance(X, tuple):
            if not 1 <= len(X) <= 3:
                raise UsageError(
                    f"X: (spectra, mask, covariates) was expected, not {len(X)} arrays"
                )
            X = CohortArrays(*X)
        if isinstance(X, Cohort | CohortArrays):
            if reset:
                for name in OF_MATRICES:
                    self.__dict__.pop(name, None)
            cohort = X if isinstance(X, Cohort) else X.cohort()
        else:
            columns = getattr(X, "columns", None)
            fewest = 2 if reset else 1
            kinds = [np.float64, np.float32]
            X = validate_data(self, X, reset=reset, dtype=kinds, ensure_min_samples=fewest)
            cohort = mean_spectra(X, columns).cohort()
        if groups is not None:
            check_consistent_length(cohort, groups)
            cohort = replace(cohort, groups=group_names(groups))
        if not reset and not np.array_equal(cohort.axis, self.fitted_.axis):
            raise UsageError(
                f"X: another axis than that of the training, {_ends(cohort.axis)}; "
                f"{_ends(self.fitted_.axis)} were expected"
            )
        return cohort

    def _like_training(self, X: Any) -> Cohort:
        check_is_fitted(self)
        return self._read(X)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return hasattr(self, "fitted_")

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one file: safetensors with JSON, no pickle."""
        check_is_fitted(self)
        kept = vars(self)
        arrays = {
            name: {"dtype": kept[name].dtype.str, "values": kept[name].tolist()}
            for name in ARRAYS
            if name in kept
        }
        described = {
            "estimator": type(self).__name__,
            "params": self.get_params(),
            "validation": self.validation_,
            "arrays": arrays,
            "plain": {name: kept[name] for name in PLAIN if name in kept},
        }
        self.fitted_.save(as_path(path), json.loads(as_text(described)))

    @classmethod
    def load(cls: type[Own], path: str | Path, own: Collection[str] = ()) -> Own:
        """Read a file of :meth:`save`; nothing in it is run.

        ``own`` are the dotted paths of models and transforms of your own that it may import.
        UsageError for another estimator's file.
        """
        fitted, described = FittedModel.load(as_path(path), own)
        if described["estimator"] != cls.__name__:
            raise UsageError(f"{path} is of a {described['estimator']}, not of a {cls.__name__}")
        estimator = cls(**described["params"])
        estimator.fitted_, estimator.validation_ = fitted, described["validation"]
        for name, array in described["arrays"].items():
            setattr(estimator, name, np.array(array["values"], dtype=array["dtype"]))
        for name, value in described["plain"].items():
            setattr(estimator, name, value)
        return estimator


class ScanfireClassifier(ClassifierMixin, ScanfireEstimator):  # type: ignore[misc]
    """A classifier that is trained as a run of ``config`` is.

    X is a :class:`datasets.cohort.Cohort`, a :class:`CohortArrays` or its first three arrays
    (``spectra`` [N, S, L], ``mask`` [N, S], ``covariates`` [N, D]), or a matrix or table of mean
    spectra [N, L]. A cohort's own columns are used, not those that the configuration names.

    Args:
        config: Name or file of a configuration, as ``run.py`` takes it.
        model: Name of another model than the configuration's.
        settings: Further settings by dotted key, such as ``{"optimizer.lr": 1e-3}``.
        max_epochs: None for what follows from the size of the cohort.
        seed: None for the configuration's.

    Attributes:
        classes_: The classes of y, sorted [C]; of two the second is the positive one.
        class_names_: Their names; a cohort's own where y are its class numbers.
        validation_: Metrics of the selected weights on the validation set.
        fitted_: The network, its configuration, transforms and encoder.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).random((40, 16)) + 0.1
        >>> y = np.where(X[:, 3] > 0.6, "case", "control")
        >>> quick = ScanfireClassifier("spectra_only", model="mean_linear", max_epochs=1)
        >>> quick.fit(X, y).predict_proba(X[:5]).shape
        (5, 2)
    """

    classes_: np.ndarray
    class_names_: list[str]

    def fit(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> ScanfireClassifier:
        """Train on N samples; ``y`` [N] None takes the class numbers of a cohort.

        ``groups`` [N] replace those of X, without which each sample is its own; the validation set,
        a part of these samples, separates none. UsageError where the data cannot be used.
        """
        cohort = self._read(X, groups, reset=True)
        classes = y if y is not None else _own_targets(X, cohort, CLASSES)
        classes = check_array(classes, ensure_2d=False, dtype=None, input_name="y")
        classes = column_or_1d(classes, warn=True)
        check_consistent_length(cohort, classes)
        check_classification_targets(classes)
        self.classes_, numbers = np.unique(classes, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise UsageError(f"y has one class, {self.classes_[0]!r}; at least 2 were expected")
        is_whole = np.array_equal(self.classes_, np.arange(len(cohort.class_names)))
        is_own = is_whole and np.array_equal(classes, cohort.targets)
        names = [str(each) for each in self.classes_.tolist()]
        self.class_names_ = list(cohort.class_names) if is_own else names
        known = replace(
            cohort,
            task="binary" if count == 2 else "multiclass",
            class_names=self.class_names_,
            targets=numbers.astype(np.int64),
        )
        return self._fit(known, {"data.task": "auto", "data.label": None})

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_``, float64 [N, C], as the network has them."""
        cohort = self._like_training(X)
        return self.fitted_.scores(cohort)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits [N, C]; of two classes by how much the second one's is larger, [N]."""
        cohort = self._like_training(X)
        logits = self.fitted_.logits(cohort).double().numpy()
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each sample, [N]."""
        probabilities = torch.from_numpy(self.predict_proba(X))
        return self.classes_[likeliest(probabilities).numpy()]


class ScanfireRegressor(RegressorMixin, ScanfireEstimator):  # type: ignore[misc]
    """A regressor that is trained as a run of ``config`` is; see :class:`ScanfireClassifier`.

    Attributes:
        target_names_: Names of the T targets.
        single_: Whether y was [N].
        validation_: Metrics of the selected weights on the validation set.
        fitted_: The network, its configuration, transforms and encoder.
    """

    target_names_: list[str]
    single_: bool

    def fit(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> ScanfireRegressor:
        """Train on N samples; ``y`` [N] or [N, T] None takes the values of a cohort.

        ``groups`` are those of :meth:`ScanfireClassifier.fit`.
        """
        cohort = self._read(X, groups, reset=True)
        values = y if y is not None else _own_targets(X, cohort, ("regression",))
        values = check_array(values, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(cohort, values)
        self.single_ = values.ndim == 1 or (y is None and values.shape[1] == 1)
        values = values.reshape(len(values), -1)
        names = ["y"] if values.shape[1] == 1 else [f"y{n}" for n in range(values.shape[1])]
        is_own = cohort.task == "regression" and np.array_equal(values, cohort.targets)
        self.target_names_ = list(cohort.class_names) if is_own else names
        known = replace(cohort, task="regression", class_names=self.target_names_, targets=values)
        return self._fit(known, {"data.task": "regression", "data.label": self.target_names_})

    def predict(self, X: Any) -> np.ndarray:
        """Values in the unit of y, float64 [N], or [N, T] where y was."""
        cohort = self._like_training(X)
        values = self.fitted_.scores(cohort)
        return values[:, 0] if self.single_ else values

    def __sklearn_tags__(self) -> Tags:
        """Several targets are taken too."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _own_targets(X: Any, cohort: Cohort, tasks: Sequence[str]) -> np.ndarray:
    if not isinstance(X, Cohort):
        raise UsageError(
            "the estimator requires y to be passed, but the target y is None; only a Cohort has "
            "targets of its own"
        )
    if cohort.task not in tasks:
        raise UsageError(f"X is of task {cohort.task}; {' or '.join(tasks)} was expected, or y")
    return cohort.targets


def _ends(axis: np.ndarray) -> str:
    return f"{len(axis)} points ({axis[0]:g} to {axis[-1]:g})" if len(axis) else "no points"
