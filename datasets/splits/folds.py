"""Folds: each sample is tested once, and no group is separated."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from datasets.cohort import as_text, in_order, is_missing
from datasets.errors import CohortError, nearest
from datasets.messages import Message
from datasets.splits.split import MOST_BINS, class_strata, quantile_strata, stratified_group_split


@dataclass(frozen=True, eq=False)
class Folds:
    """Which samples are tested together: names of F folds, and each sample's fold, int64 [N]."""

    kind: str
    names: list[str]
    number_of: np.ndarray

    def find(self, fold: int | str) -> int:
        """The number of a fold, given by name or by number from 0; CohortError where there is none.

        A name wins: where groups are named 1 and 6, 1 is the group of that name.
        """
        name = str(fold)
        if name in self.names:
            return self.names.index(name)
        if isinstance(fold, str):
            raise CohortError(f"no {self.kind} is called {fold!r}{nearest(fold, self.names)}")
        if not 0 <= fold < len(self.names):
            named = "" if self.kind == "fold" else f", and no {self.kind} is called {name!r}"
            choices = "" if self.kind == "fold" else nearest(name, self.names)
            raise CohortError(
                f"fold {fold} is out of range: there are {len(self.names)}, from 0 to "
                f"{len(self.names) - 1}{named}{choices}"
            )
        return fold

    def describe(self, number: int) -> Message:
        """What is tested in a fold, in a line for a person."""
        last = len(self.names) - 1
        if self.kind == "fold":
            return Message("tested on fold number {}, of 0 to {}", number, last)
        name = self.names[number]
        if self.kind == "group":
            told = "tested on group {} (fold number {}, of 0 to {})"
            return Message(told, name, number, last)
        told = "tested on {} (fold number {}, of 0 to {})"
        return Message(told, f"{self.kind} {name}", number, last)

    def split(
        self,
        number: int,
        targets: np.ndarray,
        groups: np.ndarray,
        val_share: float,
        seed: int = 0,
        class_names: Sequence[str] | None = None,
    ) -> np.ndarray:
        """The split that tests one fold; training and validation are drawn of the others by group.

        ``val_share`` of them is for validation; see :func:`datasets.splits.make_split`.
        """
        rest = self.number_of != number
        split = np.full(len(rest), "test", dtype="<U5")
        if not rest.any():
            raise CohortError(f"{self.kind} {self.names[number]!r} holds every sample")
        names, shares = ("train", "val"), (1 - val_share, val_share)
        targets, groups = np.asarray(targets)[rest], np.asarray(groups)[rest]
        try:
            drawn = stratified_group_split(targets, groups, names, shares, seed, class_names)
        except CohortError as error:
            tested = f"{self.kind} {self.names[number]}"
            raise CohortError(f"with {tested} as the test set: {error}") from error
        split[rest] = np.array(names)[drawn]
        return split


def k_folds(
    targets: np.ndarray,
    groups: np.ndarray,
    count: int,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> Folds:
    """Draw ``count`` folds of about equal size and classes, by ``StratifiedGroupKFold``.

    Regression targets are stratified by quantiles of the first one. Where a fold would lack a
    class, and for several labels, which scikit-learn does not take, folds are drawn as holdout
    splits are. The other arguments and errors are those of :func:`datasets.splits.make_split`.
    """
    if count < 2:
        raise CohortError(f"{count} folds: at least 2 were expected")
    targets = np.asarray(targets)
    names = [str(number) for number in range(count)]
    number_of = _by_sklearn(targets, np.asarray(groups), count, seed, class_names)
    if number_of is None:
        told = [f"fold {name}" for name in names]
        number_of = stratified_group_split(
            targets, groups, told, [1 / count] * count, seed, class_names
        )
    return Folds("fold", names, number_of)


def leave_one_group_out(groups: np.ndarray) -> Folds:
    """A fold for each of the groups, [N]."""
    return _one_by_one("group", [str(group) for group in groups])


def leave_one_batch_out(samples: pd.DataFrame, column: str, groups: np.ndarray) -> Folds:
    """A fold for each batch (site, day) in a column; CohortError where a group has several."""
    if column not in samples:
        raise CohortError(f"no column {column!r} to take batches from{nearest(column, samples)}")
    missing = is_missing(samples[column])
    if missing.any():
        name = samples["sample_id"].iloc[int(np.argmax(missing))]
        raise CohortError(
            f"sample {name!r} has no {column!r} ({int(missing.sum())} samples have none); every "
            "sample's batch is needed"
        )
    batches = [as_text(value) for value in samples[column].tolist()]
    table = pd.DataFrame({"group": np.asarray(groups, dtype=str), "batch": batches})
    several = table.drop_duplicates().groupby("group", sort=True)["batch"].agg(list)
    several = several[several.map(len) > 1]
    if len(several):
        raise CohortError(
            f"group {several.index[0]!r} stands in several batches of {column!r}: "
            f"{', '.join(in_order(several.iloc[0]))} ({len(several)} such groups); to leave one "
            "batch out would separate it"
        )
    return _one_by_one(column, batches)


def _one_by_one(kind: str, names: Sequence[str]) -> Folds:
    unique = in_order(sorted(set(names)))
    if len(unique) < 2:
        raise CohortError(f"there is one {kind} only, {unique[0]!r}: none is left to train on")
    return Folds(kind, unique, pd.Index(unique).get_indexer(pd.Index(names)).astype(np.int64))


def _by_sklearn(
    targets: np.ndarray,
    groups: np.ndarray,
    count: int,
    seed: int,
    class_names: Sequence[str] | None,
) -> np.ndarray | None:
    """The fold of each sample, [N]; None where one would lack a class, and for several labels."""
    is_values = targets.dtype.kind == "f"
    if not is_values and targets.ndim > 1:
        return None
    if is_values:
        values = targets.reshape(len(targets), -1)[:, 0]
        strata = quantile_strata(values, max(1, min(MOST_BINS, len(values) // count)))
    else:
        strata = class_strata(targets, class_names)
    number_of = np.full(len(targets), -1, dtype=np.int64)
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of classes with fewer samples than folds, which are found below.
        warnings.simplefilter("ignore")
        try:
            found = list(folds.split(strata.members, strata.members.argmax(axis=1), groups))
        except ValueError:  # too few samples
            return None
    for number, (_, tested) in enumerate(found):
        number_of[tested] = number
    there = [strata.members[number_of == number].any(axis=0) for number in range(count)]
    whole = [held.any() if is_values else held.all() for held in there]
    return number_of if all(whole) else None
