from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from sklearn.metrics import brier_score_loss, r2_score, roc_auc_score

from datasets.audit import Finding
from datasets.errors import UsageError
from engine.reporting import figure_text
from engine.statistics import bootstrap_p_values
from experiments.folds.fold_leaderboard import (
    FoldLeaderboard,
    Permutations,
    always_wrong,
    make_leaderboard,
)
from experiments.folds.fold_page import fold_sections, summary, write_fold_page
from experiments.folds.fold_text import fold_text, folds_table, leaderboard_cells
from tests.experiments.folds.made_folds import MODELS, make_folds, rows_of
from tests.experiments.folds.published_tests import delong_p_value, holm_corrected


def reread(table: pd.DataFrame) -> Any:
    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


def in_markdown(board: FoldLeaderboard) -> str:
    return summary(board, fold_sections(board))


def by_model(board: FoldLeaderboard) -> Any:
    return board.table.set_index("model")


def test_every_figure_follows_from_the_table_of_predictions():
    """By scikit-learn, SciPy and the formulas of the tests, from what is written alone."""
    found = make_folds(seeds=2)
    board = make_leaderboard(found, ["auroc", "brier"])
    oof = reread(found.table())
    oof["positive"] = oof["target"] == "case"
    leaderboard = reread(board.table).set_index("model")
    metrics = reread(board.metrics).set_index(["model", "metric"])
    measures = {"auroc": roc_auc_score, "brier": brier_score_loss}
    areas = {}
    for model in leaderboard.index:
        scores = f"{model}:prob_case"
        for metric, measure in measures.items():
            own = [measure(of["positive"], of[scores]) for _, of in oof.groupby("fold")]
            expected = [np.mean(own), np.std(own, ddof=1), np.median(own)]
            row = metrics.loc[model, metric]
            assert list(row[["mean", "sd", "median"]]) == pytest.approx(expected)
            assert row["pooled"] == pytest.approx(measure(oof["positive"], oof[scores]))
            assert row["low"] < row["pooled"] < row["high"]
            if metric == "auroc":
                areas[model] = np.array(own)
                same = ["mean", "sd", "median", "pooled", "low", "high"]
                assert list(leaderboard.loc[model, same]) == list(row[same])
    assert (leaderboard["n"] == len(oof)).all()
    assert (leaderboard["groups"] == oof["group"].nunique()).all()
    reference, others = "recommended", list(leaderboard.index[1:])
    for model in others:
        row = leaderboard.loc[model]
        ours, theirs = (oof[f"{m}:prob_case"].tolist() for m in (model, reference))
        first, second = (roc_auc_score(oof["positive"], scores) for scores in (ours, theirs))
        assert row["difference"] == pytest.approx(first - second)
        assert row["pooled_test"] == "DeLong"
        assert row["pooled_p"] == pytest.approx(delong_p_value(ours, theirs, oof["positive"]))
        apart = areas[model] - areas[reference]
        # Ten samples are tested and thirty trained on; those of validation are not among the forty.
        t = apart.mean() / math.sqrt((1 / 4 + 10 / 30) * apart.var(ddof=1))
        assert row["t_test_p"] == pytest.approx(2 * student.sf(abs(t), 3))
        assert row["chosen"] == (oof.groupby("fold")["chosen"].first() == model).sum()
    for raw in ("t_test_p", "pooled_p"):
        expected = holm_corrected(list(leaderboard.loc[others, raw]))
        assert list(leaderboard.loc[others, f"{raw}_holm"]) == pytest.approx(expected)
    own = [roc_auc_score(oof["positive"], oof[f"tft@seed{n}:prob_case"]) for n in range(2)]
    assert list(leaderboard.loc["tft", ["seeds_low", "seeds_high"]]) == pytest.approx(sorted(own))


def test_the_definitions_that_figures_are_compared_with_are_right_by_hand():
    # Two cases, two controls. First model: (3, 1) and (0, 2), second: (2, 2) and (1, 3). The cases'
    # mean parts in the difference are (1/2, 0), the controls' (0, 1/2): each variance is 1/8, so
    # z = (1/4) / sqrt(1/8 / 2 + 1/8 / 2) = sqrt(1/2), and p = erfc(z / sqrt(2)).
    p = delong_p_value([3, 1, 0, 2], [2, 2, 1, 3], [True, True, False, False])
    assert p == pytest.approx(math.erfc(1 / 2))
    # In order 0.005 * 4, 0.01 * 3, 0.03 * 2, and the last is no less than the one before it.
    assert holm_corrected([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pooled_tests_follow_the_definitions_with_ties_and_many_models():
    models = {"tft": (1, 0.6), "spectra_svm": (2, 1.2), "covariates_logistic": (3, 0.2)}
    models |= {"spectra_pls": (4, 0.9), "spectra_extra_trees": (5, 0.1)}

    def rounded(outputs):
        return replace(outputs, logits=(10 * outputs.logits).round() / 10)

    found = make_folds(models=models, change=rounded)
    table = by_model(make_leaderboard(found, [])).iloc[1:]
    oof = reread(found.table())
    positive = (oof["target"] == "case").tolist()
    reference = oof["recommended:prob_case"].tolist()
    assert len(set(reference)) < len(reference) / 2
    expected = [delong_p_value(oof[f"{m}:prob_case"].tolist(), reference, positive) for m in models]
    assert list(table.loc[list(models), "pooled_p"]) == pytest.approx(expected)
    corrected = holm_corrected(expected)
    assert list(table.loc[list(models), "pooled_p_holm"]) == pytest.approx(corrected)
    assert corrected != expected


def test_models_stand_in_the_order_of_validation():
    found = make_folds()
    table = make_leaderboard(found, []).table
    assert list(table["model"]) == ["recommended", *found.best_first]
    assert table["kind"].iloc[0] == "recommended"
    assert set(table["kind"]) == {"recommended", "network", "baseline"}
    assert table["validation"].iloc[1:].is_monotonic_decreasing


def test_with_several_samples_of_a_group_the_bootstrap_tests():
    found = make_folds(group_size=2)
    table = by_model(make_leaderboard(found, []))
    names = list(table.index)
    outputs = [found.pooled(name) for name in names]
    expected = bootstrap_p_values(outputs, found.groups, "auroc", 50, 0)
    assert list(table["pooled_p"])[1:] == pytest.approx(expected)
    assert set(table["pooled_test"][1:]) == {"group bootstrap"}


def test_of_few_groups_nothing_is_claimed():
    board = make_leaderboard(make_folds(group_size=5), [])
    assert board.table["pooled_p"].isna().all()
    assert board.table["low"].isna().all()


def test_of_few_groups_the_verdict_is_by_means_of_folds():
    found = make_folds(group_size=5)
    board = make_leaderboard(found, [])
    table = by_model(board)
    assert (table["mean_low"] < table["mean"]).all()
    assert (table["mean_high"] <= 1).all()
    share = 10 / 30
    for model, values in board.folds.items():
        reach = student.ppf(0.975, 3) * math.sqrt((1 / 4 + share) * np.var(values, ddof=1))
        assert table.loc[model, "mean_low"] == pytest.approx(np.mean(values) - reach)
    assert "mean of 4 folds, as the groups are few" in board.verdict
    apart = table.loc["tft", "mean"] - table.loc["spectra_svm", "mean"]
    assert f"difference {apart:.3f} (" in board.verdict


def test_without_resamples_there_are_figures_and_no_intervals():
    table = make_leaderboard(make_folds(resamples=0), []).table
    assert table["pooled"].notna().all()
    assert table[["low", "high", "difference_low"]].isna().all(axis=None)
    assert table["difference"][1:].notna().all()


def test_the_verdict_names_the_recommended_model_and_the_network():
    board = make_leaderboard(make_folds(), [])
    assert board.verdict.startswith("recommended: linear SVM on spectra; auroc 0.")
    assert "without its test samples; tft " in board.verdict
    assert " linear SVM on spectra: auroc 0." in board.verdict
    alone = make_leaderboard(make_folds(models={"tft": (1, 0.6)}), [])
    assert "without its test samples" in alone.verdict
    assert "beat" not in alone.verdict


def test_samples_that_all_models_get_wrong_are_listed():
    found = make_folds()
    listed = {row[0] for row in always_wrong(found)}
    outputs = [found.pooled(name) for name in MODELS]
    wrong = torch.stack([of.predictions != of.target for of in outputs]).all(dim=0)
    assert listed == {outputs[0].sample_id[row] for row in wrong.nonzero()[:, 0].tolist()}
    assert 0 < len(listed) < 40
    of_values = always_wrong(make_folds("regression", metric="r2"))
    assert len(of_values) == 10
    assert all(len(row) == 5 for row in of_values)
    assert all(len(row) == 5 for row in always_wrong(make_folds("multilabel", metric="log_loss")))


def test_a_permutation_p_value_counts_the_observed_one():
    assert Permutations("m", 0.9, [0.1] * 99).p_value == 0.01
    assert Permutations("m", 0.5, [0.4, 0.5, 0.6]).p_value == 0.75
    assert Permutations("m", 0.5, [0.4, 0.6, 0.7], smaller_is_better=True).p_value == 0.5


def test_values_are_compared_too():
    found = make_folds("regression", metric="r2", count=2)
    board = make_leaderboard(found, ["r2"])
    oof = reread(found.table())
    targets = [c.removeprefix("target_") for c in oof if c.startswith("target_")]
    row = by_model(board).loc["spectra_svm"]
    truth, told = (
        oof[[f"{start}{name}" for name in targets]].to_numpy()
        for start in ("target_", "spectra_svm:prediction_")
    )
    assert row["pooled"] == pytest.approx(r2_score(truth, told))


# -- in words ---------------------------------------------------------------------------------


def undefined(found, folds):
    """The same, with one class alone in these folds."""
    keep = []
    for number, models in enumerate(found.test):
        rows = (models["tft"].target == 0).nonzero()[:, 0].tolist()
        keep.append(
            {m: rows_of(of, rows) for m, of in models.items()} if number in folds else models
        )
    return replace(found, test=keep)


def test_undefined_figures_are_left_out_of_the_spread():
    board = make_leaderboard(undefined(make_folds(), {0}), [])
    own = board.folds["tft"]
    assert math.isnan(own[0])
    row = by_model(board).loc["tft"]
    assert row["mean"] == pytest.approx(np.mean(own[1:]))
    assert row["sd"] == pytest.approx(np.std(own[1:], ddof=1))
    assert row["folds"] == 3
    text = fold_text(board)
    assert "auroc is undefined in 1 of 4 folds; its mean" in " ".join(text.split())
    nothing = fold_text(make_leaderboard(undefined(make_folds(), {0, 1, 2, 3}), []))
    assert "auroc is undefined in 4 of 4 folds." in " ".join(nothing.split())
    assert "undefined" in next(x for x in nothing.splitlines() if x.startswith("tft"))


def test_the_terminal_has_audit_leaderboard_and_verdict():
    warned = Finding("order", "warn", 0.9, "It does.")
    board = replace(make_leaderboard(make_folds(), []), audit=[warned])
    lines = fold_text(board).splitlines()
    assert lines[0] == "4 folds; 40 samples of 40 groups, each tested once"
    assert lines[1] == "audit 1 warning"
    assert lines[-1] == f"verdict: {board.verdict}"
    row = next(line for line in lines if line.startswith("tft"))
    validation, mean, sd = by_model(board).loc["tft", ["validation", "mean", "sd"]]
    assert row.split()[1] == figure_text(validation)
    assert row.split()[2][:5] == figure_text(mean)[:5]
    assert figure_text(sd) in row.split()


def test_names_of_the_users_own_do_not_break_tables():
    found = make_folds(kind="site", fold_names=("north|1", "south", "east", "west"))
    board = replace(make_leaderboard(found, ["brier"]), about=["cohort a|b"])
    text = in_markdown(board)
    assert text.startswith("# made: each site left out in turn, 4 of them; 40 samples")
    assert "| cohort a\\|b |" in text
    assert next(line for line in text.splitlines() if line.startswith("| north")).startswith(
        "| north\\|1 | 30 | 0 | 10 |"
    )


def test_the_table_of_folds_has_a_row_per_fold_and_model():
    found = make_folds(kind="run", fold_names=("north", "south", "east", "west"))
    found = replace(found, plan=replace(found.plan, candidates=[]))
    table = folds_table(make_leaderboard(found, ["brier"]))
    assert len(table) == 4 * len(MODELS)
    assert set(table["fold"]) == {"north", "south", "east", "west"}
    assert table.groupby("fold")["chosen"].sum().eq(1).all()
    assert {"auroc", "brier", "val/auroc", "test_samples"} <= set(table)


def test_the_page_holds_audit_verdict_leaderboard_folds_and_curves(tmp_path):
    learning = pd.DataFrame(
        {"share": [0.5, 1.0], "samples": [10, 20], "model": "spectra_svm", "auroc": [0.6, 0.7]}
    )
    board = replace(
        make_leaderboard(make_folds(), []),
        audit=[Finding("order", "warn", 0.9, "It does.")],
        permutations=[Permutations("spectra_svm", 0.9, [0.4, 0.5])],
        learning=learning,
    )
    page = write_fold_page(board, tmp_path).read_text("utf-8")
    places = [page.index(f'<section id="{name}"') for name in (
        *("audit", "verdict", "leaderboard", "metrics", "folds", "roc", "wrong"),
        *("permutations", "learning", "notes", "data"),
    )]  # fmt: skip
    assert places == sorted(places)
    assert page.count("plotly.js v") == 1
    assert "It does." in page
    assert "p = 0.3333" in page
    values = write_fold_page(make_leaderboard(make_folds("regression", metric="r2"), []), tmp_path)
    assert '<section id="predictions"' in values.read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write .*file/folds"):
        write_fold_page(make_leaderboard(make_folds(), []), tmp_path / "file" / "folds")


@pytest.mark.parametrize("unit", [1e-5, 1e9])
def test_figures_keep_their_digits_in_any_unit(unit):
    def scaled(outputs):
        one = slice(0, 1)
        return replace(
            outputs,
            logits=unit * outputs.logits[:, one],
            target=unit * outputs.target[:, one],
            predicted=unit * outputs.predicted[:, one],
            targets=["age"],
        )

    found = make_folds("regression", metric="mae", count=2, change=scaled)
    board = make_leaderboard(replace(found, names=["age"]), [])
    cells = next(row for row in leaderboard_cells(board) if row[0] == "tft")
    told = [float(cell.split()[0]) for cell in cells[1:5]]
    own = by_model(board).loc["tft", ["validation", "mean", "sd", "pooled"]]
    assert told == pytest.approx(list(own), rel=1e-3)


def test_pooled_figures_of_few_groups_are_told_as_unsure():
    text = in_markdown(make_leaderboard(make_folds(group_size=5), ["accuracy"]))
    assert "(too few samples)" in next(x for x in text.splitlines() if x.startswith("| tft"))
    assert "95% intervals of accuracy: Clopper and Pearson (1934)" in text
    assert "No 95% interval of auroc" in text


def test_the_summary_says_that_folds_are_not_independent():
    text = in_markdown(make_leaderboard(make_folds(), []))
    assert "not independent" in text
    assert "Bengio and Grandvalet 2004" in text
    assert "Nadeau and Bengio 2003" in " ".join(text.split())
