"""What a cohort decides in place of a configuration."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.simulation import simulate_cohort
from experiments import audit_cohort
from experiments.builders import automatic, build_data, read_cohort
from experiments.builders.automatic import NON_NEGATIVE, TREATMENTS, choose_automatically
from experiments.config import check_config, load_config
from experiments.run import main
from experiments.runs import Experiment

SAMPLES = 60
TASKS: dict[str, dict[str, Any]] = {
    "binary": {"labels": {"control": 0, "case": 1}},
    "multiclass": {"task": "multiclass", "label": "stage"},
    "multilabel": {"task": "multilabel", "label": ["diseased", "old"]},
    "regression": {"task": "regression", "label": ["risk", "BMI"]},
}
CLR = TREATMENTS["centred log-ratio"]
QUICK = {
    "trainer": {"max_epochs": 1, "device": "cpu"},
    "report": {"enabled": False, "resamples": 0},
    "audit": {"enabled": False},
    "baselines": {"enabled": False},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A simulated cohort with columns for all tasks."""
    root = tmp_path_factory.mktemp("cohorts") / "small"
    simulate_cohort(root, 3, n_samples=SAMPLES, spec_len=128, max_scans=2)
    samples, truth = pd.read_csv(root / "samples.csv"), pd.read_csv(root / "truth.csv")
    samples["risk"] = truth["both"]
    samples["diseased"] = (samples["label"] == "case").astype(int)
    samples["old"] = (samples["age"] > samples["age"].median()).astype(int)
    samples["stage"] = pd.qcut(truth["both"], 3, labels=["low", "middle", "high"])
    samples.to_csv(root / "samples.csv", index=False)
    return root


def settings(root, task="binary", **data):
    values = {"root": str(root), "transforms": "auto", **TASKS[task], **data}
    return check_config({"data": values, "model": "auto", **QUICK})


def chosen(config, cohort=None, train=None):
    """What is chosen: names of transforms, names of members, and what is told of it."""
    cohort = read_cohort(config.data) if cohort is None else cohort
    train = np.arange(len(cohort.sample_ids)) % 3 > 0 if train is None else train
    told = choose_automatically(config, cohort, train)
    names = [step if isinstance(step, str) else step.name for step in config.data.transforms]
    return names, [member.name for member in config.model.members], told


def steps_of(treatment):
    """Names of its transforms where the spectra are short."""
    steps = [step if isinstance(step, str) else step["name"] for step in TREATMENTS[treatment]]
    return [step for step in steps if step != "bin"]


@pytest.mark.parametrize("task", TASKS)
def test_treatment_and_members_fit_the_task(root, task):
    names, members, told = chosen(settings(root, task))
    kind = "ridge" if task == "regression" else "logistic"
    of_few = "ridge" if task == "regression" else "pca_logistic"
    assert names in [steps_of(treatment) for treatment in TREATMENTS]
    assert members == [
        "pca_mlp",
        *(f"spectra_{own}" for own in (of_few, "extra_trees")),
        *(f"covariates_{own}" for own in (kind, "extra_trees")),
    ]
    assert [line.partition(":")[0] for line in told] == ["treatment", "model"]
    assert all(treatment in told[0] for treatment in TREATMENTS)


def test_the_choice_looks_at_the_training_samples_only(root):
    config = settings(root)
    cohort = read_cohort(config.data)
    train = np.arange(SAMPLES) % 3 > 0
    before = chosen(settings(root), cohort, train)
    spectra = np.array(cohort.spectra)
    others = np.concatenate([cohort.scan_rows[n] for n in np.flatnonzero(~train)])
    spectra[others] = np.random.default_rng(0).normal(size=spectra[others].shape)
    targets = np.where(train, cohort.targets, 1 - cohort.targets)
    changed = replace(cohort, spectra=spectra, targets=targets)
    assert chosen(settings(root), changed, train) == before
    # Of training samples the same change is seen.
    assert chosen(settings(root), changed, ~train) != chosen(settings(root), cohort, ~train)


def test_negative_intensities_leave_out_what_takes_counts(root):
    cohort = read_cohort(settings(root).data)
    spectra = np.array(cohort.spectra)
    spectra[cohort.scan_rows[1][0], 5] = -1
    names, _, told = chosen(settings(root), replace(cohort, spectra=spectra))
    assert names == steps_of("standard normal variate")
    assert not any(treatment in told[0] for treatment in NON_NEGATIVE)


def test_the_treatment_of_the_least_loss_is_taken(root, monkeypatch):
    for wanted in TREATMENTS:
        losses = iter([0.1 if name == wanted else 0.2 for name in TREATMENTS])
        monkeypatch.setattr(automatic, "_loss_of_linear_model", lambda *_, of=losses: next(of))
        assert chosen(settings(root))[0] == steps_of(wanted)


@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_too_few_samples_for_inner_folds_have_a_choice(root, task):
    config = settings(root, task)
    cohort = read_cohort(config.data)
    train = np.zeros(SAMPLES, dtype=bool)
    if task == "regression":
        train[:3] = True
    else:
        labels = cohort.targets if task == "binary" else cohort.targets[:, 0]
        train[[np.flatnonzero(labels == 0)[0], np.flatnonzero(labels == 1)[0]]] = True
    assert chosen(config, cohort, train)[0] in [steps_of(t) for t in TREATMENTS]


def test_a_class_that_few_samples_lack_does_no_harm(root):
    config = settings(root, "multiclass")
    cohort = read_cohort(config.data)
    assert chosen(config, cohort, cohort.targets != 1)[0] in [steps_of(t) for t in TREATMENTS]


def test_neighbours_are_averaged_in_long_spectra_only(root, monkeypatch):
    cohort = read_cohort(settings(root).data)
    spectra = np.repeat(np.array(cohort.spectra), 12, axis=1)
    axis = np.linspace(1000, 2000, spectra.shape[1], dtype=np.float32)
    monkeypatch.setattr(automatic, "TREATMENTS", {"centred log-ratio": CLR})
    assert chosen(settings(root))[0] == ["tic", "clr", "standardize"]
    names = chosen(settings(root), replace(cohort, spectra=spectra, axis=axis))[0]
    assert names == ["tic", "bin", "clr", "standardize"]


def test_without_spectra_or_covariates_members_are_of_the_other(root, tmp_path):
    spectra = settings(root, numeric=[], categorical=[], log=[])
    assert chosen(spectra)[1] == ["pca_mlp", "spectra_pca_logistic", "spectra_extra_trees"]
    alone = tmp_path / "covariates"
    alone.mkdir()
    for name in ("samples.csv", "cohort.yaml"):
        shutil.copy(root / name, alone / name)
    names, members, told = chosen(settings(alone))
    assert names == []
    assert members == ["tabular_only", "covariates_logistic", "covariates_extra_trees"]
    assert told[0] == "treatment: none, there are no spectra"
    assert build_data(settings(alone)).describe().count(told[0]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_an_automatic_run_holds_what_was_chosen(root, tmp_path, task):
    values = settings(root, task).plain() | {"runs_dir": str(tmp_path), "exp_name": "own"}
    first = Experiment(check_config(values))
    first.run()
    saved = load_config(str(first.run_dir / "config.yaml"))
    assert saved.model.name == "ensemble"
    assert "auto" not in saved.data.transforms
    assert saved.data.transforms == first.config.data.transforms
    summary = (first.run_dir / "summary.md").read_text("utf-8")
    assert "treatment: " in summary
    # The same again, without a choice.
    again = Experiment(saved.model_copy(update={"exp_name": "again"}))
    again.run()
    assert torch.equal(again.outputs["test"].logits, first.outputs["test"].logits)


@pytest.mark.slow
def test_an_automatic_run_is_continued_by_the_same_command(root, tmp_path, capsys):
    own = ["auto", "--data.root", str(root), "--data.labels", "{control: 0, case: 1}"]
    own += ["--runs_dir", str(tmp_path), "--audit.enabled", "false", "--report.enabled", "false"]
    own += ["--baselines.enabled", "false", "--trainer.device", "cpu", "--trainer.refit", "false"]
    own += ["--report.resamples", "0"]
    assert main([*own, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "treatment: " in told
    assert "model: an ensemble of pca_mlp, spectra_pca_logistic" in told
    assert main([*own, "--trainer.max_epochs", "1"]) == 0
    assert (
        "members, weighed by samples that they were not trained on: pca_mlp"
        in capsys.readouterr().out
    )
    resume = ["--resume", str(tmp_path / "auto")]
    assert main([*own, "--trainer.max_epochs", "1", *resume]) == 0
    told = capsys.readouterr().out
    assert "is finished" in told
    assert "not used" not in told
    assert main([*own, "--trainer.max_epochs", "2", *resume]) == 0
    assert "epoch 2/2" in capsys.readouterr().out


@pytest.mark.slow
def test_an_automatic_configuration_is_audited(cohort_dir, capsys):
    own = ["--data.root", str(cohort_dir), "--data.labels", "{control: 0, case: 1}"]
    assert audit_cohort.main(["auto", *own]) == 0
    assert "2 notes" in capsys.readouterr().out
