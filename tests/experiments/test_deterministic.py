"""``trainer.deterministic``: two runs on a GPU are equal, and nothing else is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.checkpointing import WORKSPACE
from experiments.benchmarks.equal_runs import compare_runs
from experiments.config import read_yaml, write_yaml
from experiments.run import main
from experiments.runs import Experiment

RUN_SCRIPT = str(Path(__file__).resolve().parents[2] / "experiments" / "run.py")
# A user's models: one notes in which mode it computes, the other cannot compute in it.
MODELS = """
import torch

from models import MeanLinear

SEEN = []

class Watched(MeanLinear):
    def forward(self, spectra, mask, tabular):
        measured = "explained" if spectra.requires_grad else "measured"
        mode = "train" if self.training else measured
        SEEN.append((mode, torch.are_deterministic_algorithms_enabled()))
        return super().forward(spectra, mask, tabular)

class WithoutForm(MeanLinear):
    def forward(self, spectra, mask, tabular):
        torch.zeros(2).put_(torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
        return super().forward(spectra, mask, tabular)
"""


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    (tmp_path / "watched_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "watched_models", raising=False)


@pytest.mark.slow
def test_training_measuring_and_explaining_are_deterministic(own_models, make_config):
    config = make_config(
        **{
            "trainer.deterministic": True,
            "model": {"name": "watched_models.Watched"},
            "handlers": [{"name": "attribution", "params": {"every": 1, "steps": 3}}],
        }
    )
    Experiment(config).run()
    seen = sys.modules["watched_models"].SEEN
    assert {mode for mode, _ in seen} == {"train", "measured", "explained"}
    assert all(on for _, on in seen)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("deterministic", ["true", "false"])
def test_what_has_no_deterministic_form_is_one_line(
    own_models, settings, tmp_path, capsys, deterministic
):
    settings["report"]["enabled"] = False
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    model = ["--model", "{name: watched_models.WithoutForm}"]
    code = main([str(path), *model, "--trainer.deterministic", deterministic, "--dry-run"])
    error = capsys.readouterr().err
    if deterministic == "true":
        assert code == 2
        assert error.startswith("error: trainer.deterministic: the operation put_ has no ")
        assert error.count("\n") == 1
        assert not torch.are_deterministic_algorithms_enabled()
    else:
        assert (code, error) == (0, "")


def test_the_run_s_configuration_says_so(make_config):
    experiment = Experiment(make_config(**{"trainer.deterministic": True}))
    experiment.setup()
    saved = read_yaml((experiment.run_dir / "config.yaml").read_text(), "config")
    assert saved["trainer"]["deterministic"] is True


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_on_a_gpu_are_equal_bit_for_bit(settings, tmp_path, precision):
    settings["trainer"] |= {"device": "cuda", "deterministic": True, "precision": precision}
    settings["trainer"] |= {"max_epochs": 3}
    settings["ema"] = {"decay": 0.9}
    settings["log"] = {"every_steps": 1}
    settings["report"] = {"resamples": 50}
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    environment = {key: value for key, value in os.environ.items() if key != WORKSPACE}
    for name in ("first", "second"):
        done = subprocess.run(
            [sys.executable, RUN_SCRIPT, str(path), "--exp_name", name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    runs = Path(settings["runs_dir"])
    found = compare_runs(runs / "first", runs / "second")
    assert found.compared > 0
    assert list(found) == []
