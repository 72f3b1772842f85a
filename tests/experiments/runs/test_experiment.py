from __future__ import annotations

import csv
import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Events
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from datasets.covariates import CovariateEncoder
from datasets.errors import UsageError
from datasets.transforms import make_transforms
from engine import TrainEvents
from engine.checkpointing import load_checkpoint
from engine.reporting import with_bounds
from experiments.config import load_config
from experiments.run_files import is_finished
from experiments.runs.experiment import Experiment
from handlers.compile import CACHE_VARIABLE, Compile
from tests.experiments.conftest import SMALL_TFT

pytestmark = pytest.mark.slow

EXPECTED_FILES = {
    "audit.json",
    "baselines.skops",
    "config.yaml",
    "resolved.yaml",
    "environment.json",
    "splits.csv",
    "log.jsonl",
    "metrics.csv",
    "metrics.json",
    "predictions.csv",
    "predictions_val.csv",
    "predictions_baselines.csv",
    "predictions_val_baselines.csv",
    "preprocessing.pt",
    "summary.md",
    "model_card.md",
    "whole.zip",
    "events",
    "checkpoints",
    "report",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cohort_dir):
    """One whole run that several tests read."""
    from experiments.config import check_config

    config = check_config(
        {
            "exp_name": "whole",
            "baselines": {"models": ["covariates_logistic"]},
            "runs_dir": str(tmp_path_factory.mktemp("runs")),
            "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
            "model": {"name": "tft", "params": SMALL_TFT},
            "trainer": {"max_epochs": 3, "batch_size": 16, "device": "cpu"},
            "ema": {"decay": 0.9},
            "report": {"resamples": 50, "attribution": {"steps": 8}},
        }
    )
    experiment = Experiment(config)
    experiment.run()
    return experiment


# For tests that look at nothing of it.
OFF = {"report.enabled": False, "audit.enabled": False}


def weights(experiment):
    return torch.cat([p.detach().flatten() for p in experiment.trainer.model.parameters()])


def test_a_run_leaves_behind_what_it_promises(finished):
    run_dir = finished.run_dir
    assert {path.name for path in run_dir.iterdir()} == EXPECTED_FILES
    checkpoints = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert {"last.pt", "best.pt", "model.safetensors"} <= checkpoints
    assert len([name for name in checkpoints if name.startswith("epoch=")]) == 3
    assert list((run_dir / "events").iterdir())
    assert is_finished(run_dir)


def test_it_is_shown_as_a_line_or_a_table(finished):
    assert repr(Experiment(finished.config)) == (
        "Experiment(name=whole, model=tft, epoch=not set up)"
    )
    assert repr(finished) == "Experiment(name=whole, model=tft, cohort=small, epoch=3/3)"
    figure = finished.intervals["auroc"]
    row = f"<tr><th>test/auroc</th><td>{with_bounds(figure)}</td></tr>"
    assert row in finished._repr_html_()
    assert "<tr><th></th><th>val</th><th>test</th></tr>" in finished.results._repr_html_()


def test_predictions_give_the_reported_test_auroc(finished):
    table = pd.read_csv(finished.run_dir / "predictions.csv", dtype={"sample_id": str})
    splits = pd.read_csv(finished.run_dir / "splits.csv", dtype=str)
    test = set(splits.sample_id[splits.split == "test"])
    assert set(table.sample_id) == test
    assert list(table.columns) == [
        "sample_id",
        "target",
        "prediction",
        "prob_control",
        "prob_case",
    ]
    auroc = roc_auc_score(table.target == "case", table.prob_case)
    assert auroc == pytest.approx(finished.results["test"]["auroc"], abs=1e-6)
    metrics = json.loads((finished.run_dir / "metrics.json").read_text())
    assert metrics["test"]["metrics"]["auroc"] == finished.results["test"]["auroc"]


def test_the_metrics_table_has_a_row_an_epoch(finished):
    rows = list(csv.DictReader((finished.run_dir / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["train/loss"]) > 0
    assert float(rows[0]["val/auroc"]) >= 0


def test_exported_weights_are_the_averaged_ones(finished):
    exported = load_file(finished.run_dir / "checkpoints" / "model.safetensors")
    live = finished.trainer.model.state_dict()
    assert exported.keys() == live.keys()
    assert any(not torch.equal(exported[name], live[name]) for name in live)
    finished.trainer.model.load_state_dict(exported)
    again = finished.evaluator.evaluate(finished.data.loaders["test"])
    assert again == pytest.approx(finished.results["test"], nan_ok=True)


def test_fitted_preprocessing_is_exported(finished):
    path = finished.run_dir / "preprocessing.pt"
    fitted = torch.load(path, weights_only=True)
    data = finished.data
    encoder = CovariateEncoder.from_state_dict(fitted["covariates"])
    assert (
        encoder.transform(data.cohort.samples) == data.encoder.transform(data.cohort.samples)
    ).all()
    transforms = make_transforms(["tic", "sqrt", "standardize"])
    transforms.load_state_dict(fitted["transforms"])
    scans = np.array(data.cohort.spectra[:3])
    assert (transforms(scans) == data.transforms(scans)).all()
    assert fitted["class_names"] == ["control", "case"]


def test_the_environment_names_commit_versions_and_checksums(finished):
    environment = json.loads((finished.run_dir / "environment.json").read_text())
    assert environment["packages"]["torch"] == metadata.version("torch")
    assert len(environment["data"]["spectra.npy"]) == 64
    assert environment["command"]


def test_a_saved_configuration_gives_identical_metrics(finished):
    off = [("report.enabled", "false")]
    again = Experiment(load_config(str(finished.run_dir / "config.yaml"), off))
    results = again.run()
    assert again.run_dir != finished.run_dir
    assert again.run_dir.name == "whole-2"
    for side, metrics in finished.results.items():
        assert results[side] == pytest.approx(metrics, rel=0, abs=0, nan_ok=True)
    first = (finished.run_dir / "metrics.csv").read_text()
    assert (again.run_dir / "metrics.csv").read_text() == first


def test_nothing_fitted_has_seen_validation_or_test_scans(make_config, cohort_dir):
    experiment = Experiment(make_config())
    experiment.setup()
    data = experiment.data
    scans = data.datasets["train"].__getitems__(range(5))  # augmented, so only near
    assert abs(float(scans[0].spectra.mean())) < 1
    training = data.cohort.samples[data.split == "train"]
    tabular = data.encoder.transform(training)
    age = data.encoder.feature_names.index("age")
    assert abs(tabular[:, age].mean()) < 1e-4
    assert abs(data.encoder.transform(data.cohort.samples)[:, age].mean()) > 1e-4


def test_a_resumed_run_ends_as_the_uninterrupted_one(make_config):
    straight = Experiment(make_config(**OFF, **{"trainer.max_epochs": 3, "ema.decay": 0.9}))
    straight.setup()
    straight.train()

    cut = Experiment(make_config(**{"exp_name": "cut", "checkpoint.every_steps": 1}))
    cut.setup()

    class CrashError(Exception):
        pass

    @cut.trainer.on(Events.ITERATION_STARTED(once=6))  # within the second epoch
    def crash():
        raise CrashError

    with pytest.raises(CrashError):
        cut.train()
    assert (
        load_checkpoint(cut.run_dir / "checkpoints" / "last.pt")["states"]["trainer"]["iteration"]
        == 5
    )

    resumed = Experiment(make_config(), run_dir=cut.run_dir)
    resumed.setup()
    resumed.train()
    assert torch.equal(weights(straight), weights(resumed))
    rows = list(csv.DictReader((resumed.run_dir / "metrics.csv").open()))
    assert rows == list(csv.DictReader((straight.run_dir / "metrics.csv").open()))


def test_a_run_is_not_continued_on_another_split(make_config):
    experiment = Experiment(make_config(**OFF))
    experiment.setup()
    experiment.train()
    path = experiment.run_dir / "splits.csv"
    rows = path.read_text().splitlines()
    train = next(i for i, row in enumerate(rows) if row.endswith(",train"))
    test = next(i for i, row in enumerate(rows) if row.endswith(",test"))
    rows[train] = rows[train].replace(",train", ",test")
    rows[test] = rows[test].replace(",test", ",train")
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(UsageError, match="split"):
        Experiment(make_config(), run_dir=experiment.run_dir).setup()


def test_own_handlers_attach_in_python(make_config):
    experiment = Experiment(make_config(**OFF))
    experiment.setup()
    norms, steps = [], []

    def look(trainer):
        norms.append(sum(float(p.grad.norm()) for p in trainer.model.parameters()))

    experiment.trainer.add_event_handler(TrainEvents.GRADIENTS_READY, look)

    @experiment.trainer.on(TrainEvents.OPTIMIZER_STEPPED)
    def count(trainer):
        steps.append(trainer.state.optimizer_step)

    experiment.train()
    assert len(norms) == len(steps) == 6
    assert all(norm > 0 for norm in norms)


class Counter:
    """A handler of one's own, with a state."""

    def __init__(self):
        self.steps = 0

    def attach(self, trainer):
        trainer.register_state("counter", self)
        trainer.add_event_handler(TrainEvents.OPTIMIZER_STEPPED, self)

    def __call__(self, trainer):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state_dict):
        self.steps = state_dict["steps"]


def test_a_continued_run_restores_own_handlers_that_it_was_given(make_config):
    first, second = Counter(), Counter()
    cut = Experiment(make_config(**OFF), handlers=[first])
    cut.setup()
    cut.train()
    cut.close()
    again = Experiment(make_config(**{"trainer.max_epochs": 3}), cut.run_dir, handlers=[second])
    again.setup()
    assert second.steps == first.steps == 6
    again.train()
    assert second.steps == 9


def test_own_parts_are_found_by_dotted_path(make_config, tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text(
        """
import torch
from torch import nn
from ignite.engine import Events

SEEN = []

class Halve:
    def __call__(self, scans):
        SEEN.append("halved")
        return scans / 2

class MyModel(nn.Module):
    def __init__(self, spec_len, num_classes, width=4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(spec_len, width), nn.Linear(width, num_classes))

    def forward(self, spectra, mask, tabular):
        mean = (spectra * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return {"logits": self.net(mean)}

class MyHandler:
    def __init__(self, every):
        self.every = every

    def attach(self, trainer):
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self)

    def __call__(self, trainer):
        SEEN.append(trainer.state.iteration)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = make_config(
        **{
            "model": {"name": "my_lab.MyModel", "params": {"width": 3}},
            "handlers": [{"name": "my_lab.MyHandler", "params": {"every": 3}}],
            "data.transforms": ["tic", "my_lab.Halve"],
            **OFF,
        }
    )
    Experiment(config).run()
    my_lab = sys.modules.pop("my_lab")  # which other tests do not have

    assert "halved" in my_lab.SEEN
    assert [seen for seen in my_lab.SEEN if seen != "halved"] == [3, 6]


def test_fp16_on_a_cpu_says_so_and_trains(make_config, capsys):
    experiment = Experiment(
        make_config(**OFF, **{"trainer.precision": "fp16", "trainer.accumulate_steps": 2})
    )
    experiment.setup()
    experiment.train()
    assert experiment.trainer.state.optimizer_step == 4  # three batches: a pair and the tail
    log = (experiment.run_dir / "log.jsonl").read_text()
    assert "bf16" in log
    assert "bf16" in capsys.readouterr().out


def test_a_run_compiles_its_model_and_keeps_what_was_compiled(make_config, monkeypatch, tmp_path):
    made = []

    class Quick(Compile):
        def __init__(self, mode, cache_dir):
            super().__init__(mode, backend="eager", cache_dir=cache_dir)
            made.append(self)

    monkeypatch.setattr("experiments.builders.handlers.Compile", Quick)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "elsewhere"))  # restored afterwards
    cache = {"data.cache_dir": str(tmp_path / "cache")}
    experiment = Experiment(make_config(**OFF, **cache, **{"trainer.compile": "default"}))
    experiment.setup()
    assert experiment.trainer.network is experiment.trainer.model
    results = experiment.run()
    assert experiment.trainer.network is not experiment.trainer.model
    assert [handler.cache_dir for handler in made] == [tmp_path / "cache" / "compiled"] * 2
    assert 0 <= results["test"]["auroc"] <= 1


def test_weights_that_diverged_are_not_tested_and_not_exported(make_config):
    experiment = Experiment(make_config(**OFF, **{"trainer.max_epochs": 1}))
    experiment.setup()

    @experiment.trainer.on(TrainEvents.GRADIENTS_READY)
    def spoil(trainer):
        for parameter in trainer.model.parameters():
            parameter.grad.fill_(float("nan"))

    experiment.train()
    with pytest.raises(UsageError, match=r"diverged.*nan_guard"):
        experiment.validate()
    assert not list(experiment.run_dir.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "tff"}, "model.name: nothing is called 'tff'"),
        ({"model.name": "atuo"}, "model.name: nothing is called 'atuo'; did you mean 'auto'"),
        ({"model.params": {"widht": 1}}, "model.params: TFTMultimodal has no parameter"),
        ({"loss.name": "crossentropy"}, "did you mean 'cross_entropy'"),
        ({"optimizer.name": "adam"}, "optimizer.name: .*did you mean 'adamw'"),
        ({"optimizer.params": {"momentum": 1}}, "optimizer.params: "),
        ({"checkpoint.monitor": "val/aurok"}, "checkpoint.*did you mean 'val/auroc'"),
        (
            {"trainer.early_stopping": {"monitor": "auroc"}},
            "^trainer.early_stopping.monitor.*did you mean 'val/auroc'",
        ),
        (
            {"lr_scheduler": {"name": "plateau", "params": {"monitor": "val/aurok"}}},
            "^lr_scheduler.params.monitor: of 'val/aurok' .*set lr_scheduler.params.mode to max",
        ),
        (
            {"lr_scheduler": {"name": "plateau", "params": {"monitor": "auroc"}}},
            "^lr_scheduler.params.monitor: no metric .*did you mean 'val/auroc'",
        ),
        (
            {"lr_scheduler": {"name": "plateau", "params": {"factor": 1}}},
            "^lr_scheduler.params.factor: a number above 0 and below 1 was expected",
        ),
        ({"optimizer.params": {"eps": "nan"}}, "^optimizer.params.eps: a number was expected"),
        ({"lr_scheduler": {"name": "cosin"}}, "did you mean 'cosine'"),
        ({"handlers": [{"name": "emma"}]}, r"handlers.0.name: .*did you mean 'ema'"),
        ({"handlers": [{"name": "os.getcwd"}]}, "getcwd is no handler, it has no attach"),
        (
            {"handlers": [{"name": "loss_weights", "params": {"weights": {"main_los": 1.0}}}]},
            r"handlers.0.params.weights: .*no term 'main_los'; did you mean 'main_loss'",
        ),
        (
            {"handlers": [{"name": "lr_finder", "params": {"page": f"{__file__}/page.html"}}]},
            r"handlers.0.params.page: cannot write .*takes no file",
        ),
        ({"loss.name": "supcon"}, "leaves '.*' untrained, on which the predictions depend"),
        ({"report": {"sections": ["no_lab.plot"]}}, r"report.sections.0: no module 'no_lab'"),
        ({"trainer.device": "gpu"}, "trainer.device: device 'gpu' is unknown"),
        ({"metrics": ["auc"]}, "did you mean 'auroc'|no metric is called 'auc'"),
        ({"data.transforms": ["tik"]}, "did you mean 'tic'"),
    ],
)
def test_settings_that_cannot_work_leave_no_folder(make_config, settings, changes, message):
    with pytest.raises(UsageError, match=message) as error:
        Experiment(make_config(**changes)).setup()
    assert "\n" not in str(error.value)
    runs = Path(settings["runs_dir"])
    assert not runs.exists() or not list(runs.iterdir())
