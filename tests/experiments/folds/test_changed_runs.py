from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from experiments.config import load_config
from experiments.folds.changed_runs import ChangedRun, run_changed
from experiments.folds.fold_plan import make_plan
from experiments.run_files import RunFile, read_predictions
from experiments.runs import ABSENT, Experiment, run_one, state_of

pytestmark = pytest.mark.slow

LABELS = {
    "two classes": {"labels": {"control": 0, "case": 1}},
    "joined classes": {"label": "site", "labels": {"A": 0, "B": 1, "C": 0}},
    "left-out classes": {"label": "site", "labels": {"A": 0, "C": 1}},
    "several classes": {"label": "site"},
    "labels": {"task": "multilabel", "label": ["seen", "ill"]},
    "values": {"task": "regression", "label": ["age", "BMI"], "numeric": ["CRP", "ALT"]},
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, cohort_dir):
    """The small cohort with further columns, and samples without a class."""
    root = tmp_path_factory.mktemp("changed") / "cohort"
    root.mkdir()
    for path in cohort_dir.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    table = pd.read_csv(root / "samples.csv", dtype=str)
    table["site"] = [*"ABC" * 20]
    table["seen"] = [["True", "False", "true", "0"][n % 4] for n in range(len(table))]
    table["ill"] = (table["label"] == "case").astype(int).astype(str)
    table.loc[5, "site"] = table.loc[6, "ill"] = ""
    table.to_csv(root / "samples.csv", index=False)
    return root


def start(config):
    return run_one(config, state_of(config))


def planned(cohort, folder, of, **data):
    values: dict[str, Any] = {
        "exp_name": "small",
        "runs_dir": str(folder / "runs"),
        "data": {**data, **of},
        "model": {"name": "tabular_only"},
        "trainer": {"max_epochs": 2, "device": "cpu"},
        "report": {"enabled": False, "resamples": 0},
        "audit": {"enabled": False},
    }
    if cohort is not None:
        values["data"]["root"] = str(cohort)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return make_plan(str(path), count=2)


def changed(plan, folder, targets=None, split=None):
    fold = plan.folds[0]
    return ChangedRun(
        next(iter(plan.runs.values())),
        plan.cohort,
        fold.version.preparation["label"],
        plan.cohort.targets if targets is None else targets,
        fold.split if split is None else split,
        folder / "kept" / "run.csv",
    )


def same(found, expected):
    assert found.sample_id == expected.sample_id
    assert torch.equal(found.target, expected.target)
    assert torch.equal(found.logits, expected.logits)


@pytest.mark.parametrize("of", LABELS.values(), ids=LABELS)
def test_an_unchanged_cohort_gives_the_predictions_of_the_fold(cohort, tmp_path, of):
    plan = planned(cohort, tmp_path, of)
    task = changed(plan, tmp_path)
    assert run_changed(start, task) is None
    assert run_one(task.config, ABSENT) is None
    own = task.config.runs_dir / task.config.exp_name / RunFile.PREDICTIONS
    same(read_predictions(task.path)[0], read_predictions(own)[0])


def test_the_simulated_cohort_stays_the_same_one(tmp_path):
    simulated = {"simulated": {"n_samples": 40}, "cache_dir": str(tmp_path)}
    plan = planned(None, tmp_path, {}, **simulated)
    task = changed(plan, tmp_path)
    assert task.config.data.log  # columns that only the simulated cohort has
    assert run_changed(start, task) is None
    assert run_one(task.config, ABSENT) is None
    own = task.config.runs_dir / task.config.exp_name / RunFile.PREDICTIONS
    same(read_predictions(task.path)[0], read_predictions(own)[0])


def see_data(monkeypatch):
    """The data of each run that is exported from now on."""
    whole, seen = Experiment.export, []

    def export(self):
        seen.append(self.data)
        return whole(self)

    monkeypatch.setattr(Experiment, "export", export)
    return seen


def test_other_targets_are_trained_on_and_tested(cohort, tmp_path, monkeypatch):
    plan = planned(cohort, tmp_path, LABELS["two classes"])
    targets = 1 - plan.cohort.targets
    task, seen = changed(plan, tmp_path, targets), see_data(monkeypatch)
    assert run_changed(start, task) is None
    trained = task.split == "train"
    assert np.array_equal(seen[0].datasets["train"].targets, targets[trained])
    found = read_predictions(task.path)[0]
    assert found.target.tolist() == targets[task.split == "test"].tolist()


def test_left_out_samples_are_in_no_part(cohort, tmp_path, monkeypatch):
    plan = planned(cohort, tmp_path, LABELS["values"])
    split = plan.folds[0].split.copy()
    split[np.flatnonzero(split == "train")[::2]] = ""
    task, seen = changed(plan, tmp_path, split=split), see_data(monkeypatch)
    assert run_changed(start, task) is None
    for subset in ("train", "val", "test"):
        rows = np.flatnonzero(split == subset)
        expected = [plan.cohort.sample_ids[row] for row in rows]
        assert seen[0].datasets[subset].sample_ids == expected
    # What is fitted is fitted to those that are left.
    kept = plan.cohort.targets[split == "train"]
    assert seen[0].scaler.state_dict()["mean"] == pytest.approx(kept.mean(axis=0).tolist())


def test_a_cut_run_is_continued_and_a_finished_one_leaves_its_predictions(
    cohort, tmp_path, monkeypatch
):
    plan = planned(cohort, tmp_path, LABELS["two classes"])
    task = changed(plan, tmp_path)
    whole, begun = Experiment.export, []

    def cut(self):
        begun.append(self.resumed_from)
        if len(begun) == 1:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(Experiment, "export", cut)
    with pytest.raises(KeyboardInterrupt):
        run_changed(start, task)
    assert not task.path.exists()
    assert run_changed(start, task) is None
    assert begun == [None, task.folder / "run"]
    assert [path.name for path in task.path.parent.iterdir()] == ["run.csv"]


def test_a_stopped_run_gives_its_exit_code(cohort, tmp_path, monkeypatch):
    def stopped(self):
        self.setup()
        self.handlers.graceful_shutdown.exit_code = 143
        return {}

    task = changed(planned(cohort, tmp_path, LABELS["two classes"]), tmp_path)
    monkeypatch.setattr(Experiment, "run", stopped)
    assert run_changed(start, task) == 143
    assert not task.path.exists()


def test_the_run_says_that_its_cohort_is_another_one(cohort, tmp_path, monkeypatch):
    """Continued by its own configuration it is trained on the changed targets, too."""
    plan = planned(cohort, tmp_path, LABELS["two classes"])
    task, seen = changed(plan, tmp_path, 1 - plan.cohort.targets), []
    whole = Experiment.export

    def keep(self):
        written = load_config(str(self.run_dir / "config.yaml"))
        seen.append((written.data.root, written.data.split.file))
        return whole(self)

    monkeypatch.setattr(Experiment, "export", keep)
    assert run_changed(start, task) is None
    assert seen == [(task.folder / "cohort", task.folder / "splits.csv")]
