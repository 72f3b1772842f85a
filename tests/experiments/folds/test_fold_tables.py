from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from datasets.errors import UsageError
from datasets.splits import Folds
from experiments.folds.fold_results import fold_results
from experiments.folds.fold_tables import fold_text, folds_table, summary, write_fold_results
from experiments.run_files import read_runs
from tests.experiments.folds.test_fold_results import part
from tests.experiments.made_runs import drawn, make_run

# What a whole cross-validation writes is tested in test_cross_validate.py.


@pytest.fixture
def make_results(tmp_path):
    """Results of groups, or of k folds, left out one by one."""

    def make(kind="fold", names=("0", "1"), metrics=("auroc", "brier")):
        outputs, count = drawn("binary"), len(names)
        rows = np.arange(40)
        folders = [
            make_run(
                tmp_path / f"run{n}", part(outputs, rows[n::count].tolist()), metrics=[*metrics]
            )
            for n in range(count)
        ]
        folds = Folds(kind, list(names), np.zeros(0, dtype=np.int64))
        return fold_results("made|up", folds, read_runs(folders), ["cohort a|b"], resamples=0)

    return make


def test_names_of_the_users_own_do_not_break_tables(make_results):
    text = summary(make_results("site", ("north|1", "south")))
    assert text.startswith("# made\\|up: each site left out in turn, 2 of them; 40 samples")
    assert "- cohort a\\|b" in text
    row = next(line for line in text.splitlines() if line.startswith("| north"))
    assert row.startswith("| north\\|1 | run0 |")


def test_a_terminal_shows_few_folds_one_by_one(make_results):
    few = fold_text(make_results("group", ("plate A", "plate B")))
    assert re.search(r"group plate A +group plate B +mean +sd +median +pooled\n", few)
    assert re.search(r"\nbrier( +0\.\d{4}){6}\n", few)


@pytest.mark.slow
def test_of_many_folds_a_terminal_shows_the_spread(make_results):
    text = fold_text(make_results(names=tuple(map(str, range(20)))))
    assert "fold 3" not in text
    assert "mean" in text


def test_a_batch_column_called_like_another_one_is_no_trouble(make_results):
    table = folds_table(make_results("run", ("north", "south")))
    assert table["fold"].tolist() == ["north", "south"]
    assert table["run"].tolist() == ["run0", "run1"]


def test_what_predictions_do_not_tell_has_no_pooled_figure(make_results):
    results = make_results(metrics=("auroc",))
    results.pooled.clear()
    row = next(line for line in fold_text(results).splitlines() if line.startswith("auroc"))
    assert row.split()[-1] == "-"


def test_a_folder_that_cannot_be_written_is_one_line(make_results, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write to .*file/folds"):
        write_fold_results(make_results(), tmp_path / "file" / "folds")


@pytest.mark.parametrize("unit", [1e-5, 1e9])
def test_figures_of_folds_keep_their_digits_in_any_unit(tmp_path, unit):
    outputs = drawn("regression")
    one = slice(0, 1)
    outputs = replace(
        outputs, logits=unit * outputs.logits[:, one], target=unit * outputs.target[:, one]
    )
    folders = [
        make_run(
            tmp_path / f"run{n}", part(outputs, list(range(n, 40, 2))), ["age"], metrics=["mae"]
        )
        for n in range(2)
    ]
    folds = Folds("fold", ["0", "1"], np.zeros(0, dtype=np.int64))
    results = fold_results("made", folds, read_runs(folders), [], resamples=50)
    row = next(line for line in fold_text(results).splitlines() if line.startswith("mae"))
    told = [float(number) for number in row.replace("(", "").replace(")", "").split()[1:7]]
    spread = results.spread["mae"]
    own = [own["mae"] for own in results.figures]
    expected = [*own, spread.mean, spread.deviation, spread.median, results.pooled["mae"].value]
    assert told == pytest.approx(expected, rel=1e-3)
    assert f"{results.pooled['mae'].low:.2e}"[:3] in row


def test_pooled_figures_of_few_groups_are_told_as_unsure(tmp_path):
    outputs = drawn("binary")
    groups = {name: f"plate {n % 6}" for n, name in enumerate(outputs.sample_id)}
    folders = [
        make_run(
            tmp_path / f"run{n}",
            part(outputs, [row for row in range(40) if row % 6 % 2 == n]),
            metrics=["auroc", "accuracy"],
            groups=groups,
        )
        for n in range(2)
    ]
    folds = Folds("fold", ["0", "1"], np.zeros(0, dtype=np.int64))
    text = summary(fold_results("made", folds, read_runs(folders), [], resamples=50))
    assert "(too few to tell)" in next(x for x in text.splitlines() if x.startswith("| auroc"))
    assert "95% intervals of accuracy by Clopper and Pearson (1934)" in text
    assert "Too few to tell how far off auroc may be" in text
