from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from datasets.errors import UsageError
from experiments.folds import read_wide
from experiments.folds.out_of_fold import RECOMMENDED, choose, mean_outputs
from tests.experiments.folds.made_folds import MODELS, make_folds, saved
from tests.experiments.made_runs import drawn
from tests.experiments.report.made_outputs import NAMES


def reread(table):
    """As a program has it that reads the file."""
    return pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)


def again(found, val=None, test=None):
    plan, single = found.plan, found.single
    return choose(plan, found.metric, found.names, val or found.val, test or found.test, {}, single)


def test_each_fold_chooses_the_best_on_its_own_validation_samples():
    found = make_folds()
    for number, chosen in enumerate(found.chosen):
        areas = {
            name: roc_auc_score(of.target, of.scores[:, 1])
            for name, of in found.val[number].items()
        }
        assert areas[chosen] == max(areas.values())
        assert found.test[number][RECOMMENDED] is found.test[number][chosen]


def test_test_labels_never_change_what_is_chosen():
    found = make_folds()
    test = [
        {name: replace(of, target=1 - of.target) for name, of in models.items()}
        for models in found.test
    ]
    changed = again(found, test=test)
    assert changed.chosen == found.chosen
    assert changed.best_first == found.best_first


def test_a_folds_validation_labels_change_that_fold_alone():
    found = make_folds()
    flipped = {name: replace(of, target=1 - of.target) for name, of in found.val[1].items()}
    changed = again(found, val=[found.val[0], flipped, *found.val[2:]])
    assert changed.chosen[1] != found.chosen[1]
    assert changed.chosen[2:] == found.chosen[2:]


def test_the_recommended_model_has_the_best_mean_on_validation():
    found = make_folds()
    means = {
        name: np.mean([roc_auc_score(of[name].target, of[name].scores[:, 1]) for of in found.val])
        for name in MODELS
    }
    assert found.best_first == sorted(means, key=lambda name: -means[name])
    assert found.networks == ["tft"]
    assert set(found.baselines) == {"spectra_svm", "covariates_logistic"}


def test_a_smaller_error_is_the_better_one():
    found = make_folds("regression", metric="r2")
    assert found.best_first[0] == "spectra_svm"
    assert make_folds(metric="brier").best_first[0] == "spectra_svm"


def test_several_seeds_predict_the_mean_of_their_probabilities():
    found = make_folds(seeds=3)
    own = [found.pooled(f"tft@seed{seed}") for seed in range(3)]
    expected = torch.stack([of.scores for of in own]).mean(dim=0)
    torch.testing.assert_close(found.pooled("tft").scores, expected)
    assert torch.equal(found.pooled("tft").predictions, expected.argmax(dim=1))
    other = replace(own[0], target=1 - own[0].target)
    with pytest.raises(UsageError, match="other samples"):
        mean_outputs([own[0], other])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_every_task_is_pooled(task):
    metric = "r2" if task == "regression" else "log_loss"
    found = make_folds(task, count=2, metric=metric)
    outputs, pooled = drawn(task, *MODELS["tft"]), found.pooled("tft")
    order = [outputs.sample_id.index(sample) for sample in pooled.sample_id]
    torch.testing.assert_close(pooled.target.float(), outputs.target[order].float())
    torch.testing.assert_close(pooled.scores.float(), outputs.scores[order].float())
    torch.testing.assert_close(pooled.predictions.float(), outputs.predictions[order].float())
    read = read_wide(reread(found.table()))
    assert set(read) == {*MODELS, RECOMMENDED}
    for name, of in read.items():
        assert of.sample_id == pooled.sample_id
        assert torch.equal(of.scores, found.pooled(name).scores)
        assert torch.equal(of.predictions, found.pooled(name).predictions)


def test_the_table_has_a_row_per_sample_and_columns_per_model():
    table = reread(make_folds(group_size=2).table())
    head = ["sample_id", "group", "repeat", "fold", "chosen", "target"]
    assert list(table)[:6] == head
    assert len(table) == table["sample_id"].nunique() == 40
    assert table["group"].nunique() == 20
    assert table.groupby("fold")["chosen"].nunique().eq(1).all()
    assert list(table)[6:9] == ["tft:prediction", "tft:prob_control", "tft:prob_case"]


def test_a_stack_is_built_from_the_table_alone():
    table = pd.read_csv(io.StringIO(make_folds(group_size=2).table().to_csv(index=False)))
    columns = [f"{name}:prob_case" for name in MODELS]
    positive = table["target"] == "case"
    stacked = cross_val_predict(
        LogisticRegression(),
        table[columns],
        positive,
        groups=table["group"],
        cv=GroupKFold(5),
        method="predict_proba",
    )
    weakest = min(roc_auc_score(positive, table[column]) for column in columns)
    assert roc_auc_score(positive, stacked[:, 1]) > weakest


def test_models_of_other_samples_are_refused():
    one, other = (saved(drawn("binary", seed), NAMES["binary"]) for seed in (1, 2))
    other.sample_id.reverse()
    with pytest.raises(UsageError, match="was tested on other samples"):
        mean_outputs([one, other])
