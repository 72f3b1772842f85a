from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from datasets.errors import UsageError
from experiments.config import check_config
from experiments.folds.fold_checks import Checks, check_checks, permute
from experiments.folds.fold_plan import Fold, Plan

GROUPS = np.array([f"g{number // 2}" for number in range(24)])


def make_plan(targets, kind="fold", task="binary", count=3, baselines=True, names=("a", "b")):
    """Three folds of four groups of two samples; two groups, one of each other fold, validate."""
    config = check_config({"seed": 3, "baselines": {"enabled": baselines}})
    cohort = SimpleNamespace(
        targets=np.asarray(targets), groups=GROUPS, task=task, class_names=list(names)
    )
    group = np.arange(24) // 2
    folds = []
    for number in range(count):
        split = np.where(group // count == number, "val", "train")
        split = np.where(group % count == number, "test", split)
        folds.append(Fold(str(number), 0, split, cast(Any, None), config))
    candidates = ["tft", "mean_linear optimizer.lr=1e-3", "mean_linear optimizer.lr=1e-2"]
    return Plan(config, cast(Any, cohort), kind, folds, candidates, [0], {})


def of_groups(targets):
    return [tuple(targets[name == GROUPS].tolist()) for name in dict.fromkeys(GROUPS)]


def test_groups_of_one_target_exchange_it():
    plan = make_plan(np.repeat(np.arange(12) % 2, 2))
    found = permute(plan, 20)
    assert len({of.tobytes() for of in found}) > 15
    for targets in found:
        assert all(first == second for first, second in of_groups(targets))
        assert sorted(targets) == sorted(plan.cohort.targets)


def test_of_groups_with_several_targets_each_permutes_its_own():
    plan = make_plan(np.arange(24) % 2)
    found = permute(plan, 20)
    assert len({of.tobytes() for of in found}) > 15
    for targets in found:
        assert {tuple(sorted(of)) for of in of_groups(targets)} == {(0, 1)}


def rare():
    """Targets of which permutations leave a test set without a class, often."""
    return np.repeat([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], 2)


def holds_all(plan, targets, subset):
    return all(len(set(targets[fold.split == subset])) == 2 for fold in plan.folds)


def test_every_part_of_a_k_fold_keeps_every_class():
    plan = make_plan(rare())
    for targets in permute(plan, 30):
        assert all(holds_all(plan, targets, subset) for subset in ("train", "val", "test"))


def test_a_tested_group_or_batch_may_lack_a_class():
    plan = make_plan(rare(), kind="site")
    found = permute(plan, 30)
    assert all(holds_all(plan, of, subset) for of in found for subset in ("train", "val"))
    assert not all(holds_all(plan, of, "test") for of in found)


def test_labels_keep_both_values_where_there_are_both():
    labels = np.stack([rare(), np.ones(24, dtype=int)], axis=1)
    plan = make_plan(labels, task="multilabel")
    for targets in permute(plan, 20):
        assert holds_all(plan, targets[:, 0], "val")
        assert (targets[:, 1] == 1).all()


def test_more_permutations_begin_with_the_fewer():
    plan = make_plan(np.repeat(np.arange(12) % 2, 2))
    assert np.array_equal(permute(plan, 9)[:4], permute(plan, 4))


def test_what_no_permutation_allows_is_one_line():
    with pytest.raises(UsageError, match="without a class"):
        permute(make_plan(np.repeat([0] + [1] * 11, 2)), 2)


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (Checks(of=["tft"]), "--of goes with --permutations or --learning-curve"),
        (Checks(9, of=["mean_linea"]), "did you mean 'mean_linear'"),
        (Checks(9, of=["baselines", "nn"]), "'nn' is neither baselines nor one of the networks"),
    ],
)
def test_what_cannot_be_checked_is_said(checks, words):
    with pytest.raises(UsageError, match=words):
        check_checks(make_plan(np.arange(24) % 2), checks)


def test_networks_are_checked_without_baselines():
    plan = make_plan(np.arange(24) % 2, baselines=False)
    check_checks(plan, Checks(9, of=["tft", "mean_linear", "mean_linear optimizer.lr=1e-3"]))
    check_checks(plan, Checks())
    with pytest.raises(UsageError, match="--learning-curve is of baselines"):
        check_checks(plan, Checks(learning_curve=True))
