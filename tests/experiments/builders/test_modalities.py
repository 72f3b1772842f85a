from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from experiments import audit_cohort
from experiments.config import write_yaml
from experiments.run import main
from experiments.run_files import read_package
from experiments.runs import Experiment
from models import MODELS

pytestmark = pytest.mark.slow


@pytest.fixture
def covariates_alone(cohort_dir, tmp_path, settings):
    """The cohort without its scans; the settings name it and a model that does without them."""
    root = tmp_path / "covariates"
    root.mkdir()
    for name in ("samples.csv", "cohort.yaml"):
        shutil.copy(cohort_dir / name, root / name)
    settings["data"]["root"] = str(root)
    settings["model"] = {"name": "tabular_only", "params": {}}
    return root


@pytest.fixture
def spectra_alone(settings):
    """No column of the cohort is a covariate."""
    settings["data"] |= {"numeric": [], "categorical": [], "log": []}
    settings["model"] = {"name": "spectra_only", "params": {"patch_size": 16, "d_model": 16}}


@pytest.mark.parametrize("model", ["tabular_only", "tabular_transformer"])
def test_covariates_alone_are_trained_tested_explained_reported_and_packed(
    covariates_alone, make_config, model
):
    experiment = Experiment(make_config(**{"model.name": model}))
    batch = next(iter(experiment_batches(experiment)))
    assert batch.spectra.shape[1:] == (1, 0)
    assert bool(batch.mask.all())
    experiment.train()
    experiment.validate()
    assert 0 <= experiment.test()["auroc"] <= 1
    page = experiment.export()
    assert "covariates alone, no spectra" in (experiment.run_dir / "summary.md").read_text("utf-8")
    assert page.name == "index.html"
    assert "model.safetensors" in str(read_package(experiment.run_dir / "small.zip"))
    assert {found.name.partition(":")[0] for found in experiment.audit} <= {"counts", "shares"}


def experiment_batches(experiment):
    experiment.setup()
    return experiment.data.loaders["train"]


def test_the_card_of_covariates_alone_loads_what_was_packed(
    covariates_alone, make_config, tmp_path, monkeypatch
):
    experiment = Experiment(make_config(**{"report.enabled": False}))
    experiment.run()
    with zipfile.ZipFile(experiment.run_dir / "small.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = Path("model_card.md").read_text("utf-8")
    assert "`predict` takes of one sample a one-row table of its covariates" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    loaded: dict[str, Any] = {}
    exec(code, loaded)
    cohort = experiment.data.cohort
    for _, row in pd.read_csv("predictions.csv", dtype={"sample_id": str}).iterrows():
        sample = cohort.samples.iloc[[cohort.sample_ids.index(row["sample_id"])]]
        said = loaded["predict"](sample)
        assert said.tolist() == pytest.approx([row["prob_control"], row["prob_case"]], abs=1e-5)


def test_covariates_alone_are_resumed_and_audited(covariates_alone, make_config, tmp_path, capsys):
    changes = {"report.enabled": False, "trainer.max_epochs": 1}
    begun = Experiment(make_config(**changes))
    begun.run()
    longer = Experiment(make_config(**{"trainer.max_epochs": 2}), begun.run_dir)
    longer.run()
    assert longer.trainer.state.epoch == 2
    assert audit_cohort.main([str(covariates_alone)]) == 0
    assert "covariates alone, no spectra" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["spectra_only", "spectra_cnn", "mean_linear"])
def test_spectra_alone_are_trained_tested_and_reported(spectra_alone, make_config, model):
    params = {} if model != "spectra_only" else {"patch_size": 16, "d_model": 16, "num_layers": 1}
    quick = {"trainer.max_epochs": 1, "audit.enabled": False, "report.attribution": {"steps": 8}}
    experiment = Experiment(make_config(**{"model": {"name": model, "params": params}}, **quick))
    results = experiment.run()
    assert experiment.data.tab_dim == 0
    assert 0 <= results["test"]["auroc"] <= 1
    assert (experiment.run_dir / "report" / "index.html").is_file()


def refusal(make_config, tmp_path, capsys, model):
    path = tmp_path / "refused.yaml"
    path.write_text(write_yaml(make_config(**{"model": {"name": model, "params": {}}}).plain()))
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (tmp_path / "runs").exists()
    return line


@pytest.mark.parametrize("model", [m for m in MODELS if not m.startswith("tabular")])
def test_a_model_of_spectra_is_refused_where_there_are_none(
    covariates_alone, make_config, tmp_path, capsys, model
):
    assert refusal(make_config, tmp_path, capsys, model) == (
        f"error: model.name: '{model}' takes spectra, and the cohort covariates has none (no "
        "spectra.npy); choose tabular_only or tabular_transformer"
    )


@pytest.mark.parametrize(
    "model", [m for m in MODELS if m not in ("spectra_only", "spectra_cnn", "mean_linear")]
)
def test_a_model_of_covariates_is_refused_where_none_is_named(
    spectra_alone, make_config, tmp_path, capsys, model
):
    assert refusal(make_config, tmp_path, capsys, model) == (
        f"error: model.name: '{model}' takes covariates, and none is named for the cohort small; "
        "name some by data.numeric and data.categorical, or choose spectra_only, spectra_cnn or "
        "mean_linear"
    )


class Unasked(nn.Module):
    """Knows what to do with no covariates."""

    def __init__(self, tab_dim: int, num_classes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.layer = nn.Linear(tab_dim, num_classes) if tab_dim else None

    def forward(self, spectra, mask, tabular):
        logits = self.bias.expand(len(tabular), -1)
        return {"logits": logits if self.layer is None else logits + self.layer(tabular)}


def test_a_model_of_the_users_own_is_asked_itself(spectra_alone, make_config):
    own = {"name": "tests.experiments.builders.test_modalities.Unasked", "params": {}}
    Experiment(make_config(model=own)).setup()
