from __future__ import annotations

import csv
import io
import json
import math
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Events
from sklearn.metrics import classification_report
from torch import nn

from datasets.errors import UsageError
from engine import EpochMetrics, Evaluator, Trainer, build_optimizer
from engine.reporting import as_json
from experiments.enhanced_trainer.trainer import EnhancedTrainer
from handlers import GradientClipping, LRSchedule, Validation
from models import MeanLinear, SpectraOnly, TFTMultimodal
from models.tft_loss import TFTLoss

pytestmark = pytest.mark.slow

S, L, D = 3, 48, 4
SMALL = {"patch_size": 16, "d_model": 16, "num_layers": 1}
TRAINED = {"best_model.pt", "training_curves.html"}
REPORTS = {
    "predictions.csv",
    "classification_report.json",
    "classification_report.csv",
    "classification_report.txt",
}
EVALUATED = {
    "evaluation_plots.html",
    "feature_importance.html",
    "shap_analysis.html",
    "pca_analysis.html",
    "attention_analysis.html",
}
TASKS = ("binary", "multiclass", "multilabel", "regression")
OUTPUTS = {"binary": 2, "multiclass": 3, "multilabel": 2, "regression": 1}


def make_loader(samples=24, task="binary", seed=0, batch_size=8):
    """Batches whose label is in the covariates and, faintly, in the scans."""
    generator = torch.Generator().manual_seed(seed)
    tabular = torch.randn(samples, D, generator=generator)
    label = {
        "binary": (tabular[:, 0] > 0).long(),
        "multiclass": torch.arange(samples) % 3,
        "multilabel": (tabular[:, :2] > 0).long(),
        "regression": tabular[:, 0],
    }[task]
    scans = torch.randint(1, S + 1, (samples,), generator=generator)
    mask = torch.arange(S) < scans[:, None]
    spectra = torch.randn(samples, S, L, generator=generator) * mask[..., None]
    return [
        {
            "spectra": spectra[i : i + batch_size],
            "mask": mask[i : i + batch_size],
            "tabular": tabular[i : i + batch_size],
            "label": label[i : i + batch_size],
        }
        for i in range(0, samples, batch_size)
    ]


def make_model(task="binary", seed=0, **params):
    torch.manual_seed(seed)
    return TFTMultimodal(D, L, num_classes=OUTPUTS[task], **SMALL, **params)  # type: ignore[arg-type]


@pytest.fixture
def make(tmp_path):
    """Build a trainer that writes to this test's own folder."""

    def build(model=None, **settings):
        settings = {"model_name": "tft", "device": "cpu", "save_dir": tmp_path, **settings}
        return EnhancedTrainer(model or make_model(), **settings)

    return build


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training and evaluation that several tests read."""
    trainer = EnhancedTrainer(
        make_model(),
        model_name="tft",
        device="cpu",
        lr=3e-3,
        save_dir=tmp_path_factory.mktemp("results"),
    )
    trainer.train(make_loader(seed=1), make_loader(seed=2), epochs=4)
    return trainer


@pytest.fixture(scope="module")
def measured(trained):
    """What the trained model reaches on samples of its own, shown on pages."""
    return trained.evaluate(make_loader(seed=3))


def files(folder):
    return {path.name for path in folder.iterdir() if not path.name.endswith(".png")}


def test_it_is_found_in_the_package_itself():
    import experiments
    from experiments.enhanced_trainer.trainer import EnhancedTrainer as Described

    assert experiments.EnhancedTrainer is Described is EnhancedTrainer
    with pytest.raises(AttributeError, match="EnhancedTrayner"):
        getattr(experiments, "EnhancedTrayner")  # noqa: B009


def test_it_is_shown_as_a_line_or_a_table(trained, measured):
    parameters = f"{sum(p.numel() for p in trained.model.parameters()):,}"
    told = f"name=tft, model=TFTMultimodal, parameters={parameters}, device=cpu, epochs=4"
    assert repr(trained) == f"EnhancedTrainer({told})"
    auroc = f"{trained.history['val/auroc'][-1]:.4g}"
    assert f"<tr><th>val/auroc</th><td>{auroc}</td></tr>" in trained._repr_html_()
    assert "<th>auroc</th>" in measured._repr_html_()
    assert "predictions" not in measured._repr_html_()


def test_training_and_evaluating_leave_the_named_files(trained, measured):
    assert 0 <= measured["auroc"] <= 1
    assert files(trained.run_dir) >= TRAINED | EVALUATED
    assert trained.run_dir == trained.save_dir / "tft"


def test_the_history_is_what_the_log_says(trained):
    rows = list(csv.DictReader((trained.run_dir / "metrics.csv").open()))
    assert trained.history["epoch"] == [1, 2, 3, 4]
    for name in ("train/loss", "val/loss", "val/auroc", "lr"):
        assert [float(row[name]) for row in rows] == pytest.approx(trained.history[name])


def test_a_training_ends_with_the_weights_of_its_best_epoch(trained):
    again = trained.eval_epoch(make_loader(seed=2))
    assert again["auroc"] == max(trained.history["val/auroc"])
    saved = torch.load(trained.run_dir / "best_model.pt", weights_only=True)["states"]["model"]
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, saved[name])


def test_it_is_the_engine_that_trains_with_the_very_same_result(make):
    face = make(lr=1e-2, weight_decay=0.1)
    face.train(make_loader(), make_loader(seed=1), epochs=3, save_best=False)
    model, by_hand = make_model(), [dict_to_batch(batch) for batch in make_loader()]
    trainer = Trainer(model, build_optimizer(model, lr=1e-2, weight_decay=0.1), TFTLoss())
    val = [dict_to_batch(batch) for batch in make_loader(seed=1)]
    evaluator = Evaluator(model, TFTLoss(), EpochMetrics())
    plateau = LRSchedule("plateau", monitor="val/loss", mode="min", factor=0.5, patience=5)
    trainer.attach(GradientClipping(1.0), plateau, Validation(evaluator, val))
    # Dropout draws from the global stream, which the face leaves alone before the first step.
    torch.manual_seed(0)
    make_model()
    trainer.fit(by_hand, max_epochs=3)
    for name, tensor in face.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], atol=0, rtol=0)


def dict_to_batch(parts):
    from experiments.enhanced_trainer.any_loader import to_batch

    return to_batch(parts, "x")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_measured_and_shown(make, task):
    trainer = make(make_model(task), model_name=task)
    history = trainer.train(make_loader(task=task), make_loader(task=task, seed=1), epochs=2)
    metrics = trainer.evaluate(make_loader(task=task, seed=2))
    assert len(history["val/loss"]) == 2
    assert math.isfinite(metrics["loss"])
    assert ("mae" if task == "regression" else "auroc") in metrics
    assert files(trainer.run_dir) >= TRAINED | EVALUATED


def test_early_stopping_ends_the_training(make):
    never = make(lr=1e-12)
    history = never.train(make_loader(), make_loader(seed=1), epochs=9, early_stopping_patience=2)
    assert len(history["epoch"]) == 3
    always = make(lr=1e-12)
    history = always.train(
        make_loader(), make_loader(seed=1), epochs=4, early_stopping_patience=None
    )
    assert len(history["epoch"]) == 4


def test_gradients_are_clipped_and_the_rate_falls_on_a_plateau(make):
    trainer = make(lr=1e-12)
    norms = []

    class Look:
        def attach(self, engine):
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

        def __call__(self, engine):
            norms.append(float(engine.state.gradient_norm))

    history = trainer.train(
        make_loader(), make_loader(), 9, early_stopping_patience=None, handlers=[Look()]
    )
    assert len(norms) == 27
    assert history["lr"][0] == pytest.approx(1e-12)
    assert history["lr"][-1] == pytest.approx(0.5e-12)


def test_what_is_switched_off_is_not_written(make):
    trainer = make(enable_visualization=False, enable_interpretability=False)
    trainer.train(make_loader(), make_loader(), epochs=1)
    trainer.evaluate(make_loader())
    assert not [name for name in files(trainer.run_dir) if name.endswith(".html")]
    only = make(model_name="only", enable_visualization=False)
    only.evaluate(make_loader())
    assert files(only.run_dir) == (EVALUATED | REPORTS) - {"evaluation_plots.html"}
    silent = make(model_name="silent")
    silent.evaluate(make_loader(), generate_plots=False)
    assert silent.run_dir is None


def test_a_second_training_continues_in_its_own_folder(make, capsys):
    first = make()
    first.train(make_loader(), make_loader(), epochs=1)
    folder, weights = first.run_dir, (first.run_dir / "best_model.pt").read_bytes()
    before = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    capsys.readouterr()
    rate = first.lr
    first.lr = 1e-12
    first.train(make_loader(), make_loader(), epochs=1)
    first.lr = rate
    assert first.run_dir == folder.with_name("tft-2")
    assert f"{folder} exists and is left as it is" in capsys.readouterr().out
    assert (folder / "best_model.pt").read_bytes() == weights
    for name, tensor in first.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=1e-9, rtol=0)


def test_a_second_evaluation_leaves_the_pages_of_the_first(make):
    trainer = make()
    trainer.train(make_loader(), make_loader(), epochs=1)
    trainer.evaluate(make_loader(seed=2))
    first = (trainer.run_dir / "evaluation_plots.html").read_bytes()
    trainer.evaluate(make_loader(seed=3))
    assert (trainer.run_dir / "evaluation_plots.html").read_bytes() == first
    assert files(trainer.run_dir / "evaluation") == EVALUATED | REPORTS


def test_saved_weights_give_the_same_metrics_in_another_trainer(trained, measured, make, tmp_path):
    trained.save_model(tmp_path / "new" / "model.pt")
    other = make(make_model(seed=9))
    assert other.evaluate(make_loader(seed=3), generate_plots=False) != measured
    for path in (tmp_path / "new" / "model.pt", trained.run_dir / "best_model.pt"):
        other.load_model(path)
        assert other.evaluate(make_loader(seed=3), generate_plots=False) == measured
        assert other.history.keys() == trained.history.keys()
        for name, values in trained.history.items():  # a precision may be undefined
            np.testing.assert_array_equal(other.history[name], values)


def test_a_model_is_saved_and_loaded_with_its_history_by_default(make, capsys):
    trainer = make(MeanLinear(L))
    trainer.train(make_loader(), make_loader(seed=1), epochs=3)
    trainer.save_model()
    again = make(MeanLinear(L))
    again.load_model()
    assert again.history == trained_history(trainer.run_dir / "best_model.pt") == trainer.history
    assert again.run_dir == trainer.run_dir
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
    assert not again.save_dir.joinpath("tft-2").exists()


def trained_history(path):
    return torch.load(path, weights_only=True)["states"]["history"]


def test_an_untrained_model_is_never_saved_over_a_trained_one(make, capsys):
    trainer = make(MeanLinear(L))
    trainer.train(make_loader(), make_loader(seed=1), epochs=1)
    best = (trainer.run_dir / "best_model.pt").read_bytes()
    other = make(MeanLinear(L))
    other.save_model()
    assert other.run_dir == trainer.run_dir.with_name("tft-2")
    assert (trainer.run_dir / "best_model.pt").read_bytes() == best
    other.load_model()
    assert other.history == {}
    capsys.readouterr()
    third = make(MeanLinear(L))
    third.load_model()
    assert third.history == trainer.history
    first, second = (folder / "best_model.pt" for folder in (trainer.run_dir, other.run_dir))
    assert capsys.readouterr().out == f"loaded {first}; there are also {second}\n"


def test_a_training_that_is_cut_off_leaves_the_history_so_far(make):
    class Cut:
        def attach(self, engine):
            engine.add_event_handler(Events.EPOCH_STARTED(once=3), self)

        def __call__(self):
            raise KeyboardInterrupt

    trainer = make(MeanLinear(L), lr=1e-2)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(make_loader(), make_loader(), epochs=5, handlers=[Cut()])
    saved = trained_history(trainer.run_dir / "best_model.pt")
    assert saved["epoch"]
    assert saved["val/loss"] == trainer.history["val/loss"][: len(saved["epoch"])]


# -- epoch by epoch -------------------------------------------------------------------------------


def test_epochs_one_by_one_are_those_of_one_training(make):
    whole, parts = make(lr=1e-2), make(make_model(), lr=1e-2)
    torch.manual_seed(5)  # of dropout
    history = whole.train(make_loader(), make_loader(), 3, None, save_best=False)
    torch.manual_seed(5)
    metrics = [parts.train_epoch(make_loader()) for _ in range(3)]
    for name in ("loss", "auroc"):
        assert [epoch[name] for epoch in metrics] == history[f"train/{name}"]
        assert parts.history[f"train/{name}"] == history[f"train/{name}"]
    assert parts.history["epoch"] == [1, 2, 3]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], tensor)


def test_the_rate_falls_over_calls_until_weights_change(make, tmp_path):
    trainer = make(MeanLinear(L), lr=1e-12)
    trainer.save_model(tmp_path / "model.pt")
    rates = [trainer.train_epoch(make_loader())["lr"] for _ in range(8)]
    assert rates[0] == pytest.approx(1e-12)
    assert rates[-1] == pytest.approx(0.5e-12)
    trainer.load_model(tmp_path / "model.pt")
    assert trainer.train_epoch(make_loader())["lr"] == pytest.approx(1e-12)
    assert trainer.history["epoch"] == [1]


def test_epochs_one_by_one_write_nothing(make, tmp_path):
    trainer = make()
    trainer.train_epoch(make_loader())
    trainer.eval_epoch(make_loader(), collect_embeddings=True)
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_of_another_length_is_refused(make):
    trainer = make()
    trainer.train_epoch(make_loader())
    with pytest.raises(UsageError, match="train_epoch: 2 batches, expected 3 as in the epochs"):
        trainer.train_epoch(make_loader(samples=16))


@pytest.mark.parametrize("task", TASKS)
def test_an_epoch_is_measured_and_its_samples_are_collected(make, task):
    trainer, loader = make(make_model(task)), make_loader(task=task)
    found = trainer.eval_epoch(loader, collect_embeddings=True)
    plain = trainer.eval_epoch(loader)
    assert {name: found[name] for name in plain} == plain
    trainer.model.eval()
    with torch.no_grad():
        parts = [trainer.model(b["spectra"], b["mask"], b["tabular"]) for b in loader]
    embedding = torch.cat([part["embedding"] for part in parts])
    assert found["embeddings"] == pytest.approx(embedding.numpy(), abs=1e-6)
    labels = torch.cat([batch["label"] for batch in loader]).numpy()
    assert found["labels"].reshape(labels.shape) == pytest.approx(labels)
    assert found["sample_id"] == [str(number) for number in range(24)]
    weights = torch.cat([part["attention_weights"]["scan_pooling"] for part in parts])
    assert len(found["attention_weights"]["scan_pooling"]) == 24
    assert found["attention_weights"]["scan_pooling"][3] == pytest.approx(weights[3].numpy())
    assert ("probabilities" in found) is (task != "regression")
    if task in ("binary", "multiclass"):
        assert (found["probabilities"].argmax(axis=1) == found["predictions"]).all()


# -- reports --------------------------------------------------------------------------------------


def test_an_evaluation_returns_and_writes_predictions_and_report(make):
    trainer = make(make_model("multiclass"), class_names=["a", "b", "c"])
    loader = make_loader(task="multiclass", seed=3)
    found = trainer.evaluate(loader)
    labels = [int(label) for batch in loader for label in batch["label"]]
    own = classification_report(
        labels,
        found["predictions"],
        target_names=list("abc"),
        output_dict=True,
        zero_division=math.nan,
    )
    report = found["classification_report"]
    for name in "abc":
        assert report[name] == pytest.approx(own[name], nan_ok=True)
    assert report["accuracy"] == pytest.approx(own["accuracy"]) == found["accuracy"]
    assert report["weighted avg"]["recall"] == pytest.approx(own["weighted avg"]["recall"])
    rows = pd.read_csv(trainer.run_dir / "predictions.csv", dtype={"sample_id": str})
    assert list(rows["prediction"]) == ["abc"[number] for number in found["predictions"]]
    assert list(rows["target"]) == ["abc"[number] for number in labels]
    written = json.loads((trainer.run_dir / "classification_report.json").read_text())
    assert written["a"]["support"] == own["a"]["support"] == 8
    assert written == json.loads(json.dumps(as_json(report)))
    table = pd.read_csv(trainer.run_dir / "classification_report.csv", index_col="class")
    assert table.loc["a", "recall"] == pytest.approx(report["a"]["recall"])
    assert "weighted avg" in (trainer.run_dir / "classification_report.txt").read_text()


def test_every_evaluation_of_a_training_has_reports_of_its_own(make):
    trainer = make(MeanLinear(L))
    trainer.train(make_loader(), make_loader(), epochs=1)
    for seed, folder in ((1, "."), (2, "evaluation"), (3, "evaluation-2")):
        found = trainer.evaluate(make_loader(seed=seed), generate_plots=False)
        rows = pd.read_csv(trainer.run_dir / folder / "predictions.csv")
        names = ["class 0", "class 1"]
        assert list(rows["prediction"]) == [names[number] for number in found["predictions"]]
    assert not (trainer.run_dir / "evaluation_plots.html").exists()


# -- values ---------------------------------------------------------------------------------------


class Tabular(nn.Module):
    """A line through the covariates, which learns standardised values in a few epochs."""

    def __init__(self, width=1):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(D, width)

    def forward(self, spectra, mask, tabular):
        return {"logits": self.head(tabular)}


def values_in(unit, offset=0.0, **settings):
    loader = make_loader(task="regression", **settings)
    for batch in loader:
        batch["label"] = unit * (batch["label"].double() + offset)
    return loader


@pytest.mark.parametrize(("unit", "offset"), [(1.0, 0.0), (1e4, 5.0), (1e-6, -3.0)])
def test_values_are_learned_alike_in_every_unit(make, unit, offset):
    plain = make(Tabular(), lr=5e-2, enable_visualization=False, enable_interpretability=False)
    history = plain.train(values_in(1.0), values_in(1.0, seed=1), epochs=6)
    other = make(Tabular(), lr=5e-2, enable_visualization=False, enable_interpretability=False)
    found = other.train(values_in(unit, offset), values_in(unit, offset, seed=1), epochs=6)
    assert found["val/loss"] == pytest.approx(history["val/loss"], rel=1e-3)
    assert found["val/mae"] == pytest.approx([unit * mae for mae in history["val/mae"]], rel=1e-3)
    metrics = other.evaluate(values_in(unit, offset, seed=2))
    assert metrics["r2"] == pytest.approx(plain.evaluate(values_in(1.0, seed=2))["r2"], rel=1e-3)
    rows = pd.read_csv(other.run_dir / "predictions.csv")
    true = torch.cat([batch["label"] for batch in values_in(unit, offset, seed=2)])
    assert list(rows["target_target 0"]) == pytest.approx(true.tolist(), rel=1e-5)
    assert (rows["prediction_target 0"] - rows["target_target 0"]).abs().mean() == pytest.approx(
        metrics["mae"], rel=1e-3
    )


@pytest.mark.parametrize("name", ["best_model.pt", "checkpoints/best.pt"])
def test_a_loaded_regression_predicts_in_its_units(make, name):
    trainer = make(Tabular(), lr=5e-2)
    trainer.train(values_in(1e4, 5.0), values_in(1e4, 5.0), epochs=3)
    metrics = trainer.eval_epoch(values_in(1e4, 5.0, seed=2))
    again = make(Tabular())
    again.load_model(trainer.run_dir / name)
    assert again.eval_epoch(values_in(1e4, 5.0, seed=2)) == metrics


def test_models_of_values_are_compared_each_in_its_own_scale(make):
    near, far = make(Tabular(), lr=5e-2), make(Tabular(), lr=5e-2)
    near.train(values_in(1e4, 5.0), values_in(1e4, 5.0), epochs=3)
    far.train(values_in(1e4, 9.0), values_in(1e4, 9.0), epochs=3)
    test = values_in(1e4, 5.0, seed=2)
    table = make(Tabular()).compare_models({"near": near, "far": far}, test)
    assert list(table["mae"]) == [t.eval_epoch(test)["mae"] for t in (near, far)]
    assert table.loc[0, "mae"] < table.loc[1, "mae"]


@pytest.mark.parametrize("width", [1, 2])
def test_whole_numbers_are_regressed_where_the_task_says_so(make, width):
    loader = make_loader(task="regression")
    for batch in loader:
        years = (40 + 10 * batch["tabular"][:, :width]).round().long()
        batch["label"] = years[:, 0] if width == 1 else years
    trainer = make(Tabular(width), lr=5e-2, task="regression")
    history = trainer.train(loader, loader, epochs=4)
    error = "mae" if width == 1 else "mae[target 0]"
    assert history[f"val/{error}"][-1] < history[f"val/{error}"][0] < 30
    true = torch.cat([batch["label"] for batch in loader]).reshape(24, width)
    found = trainer.eval_epoch(loader, collect_embeddings=True)
    assert found["labels"] == pytest.approx(true.numpy())
    # What was learned is what is measured, also where the labels look like classes.
    again = make(Tabular(width))
    again.load_model(trainer.run_dir / "best_model.pt")
    assert again.eval_epoch(loader)[error] == found[error]


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 3)])
def test_zeros_and_ones_that_are_taken_as_values_are_said_to_be(make, capsys, shape):
    width = shape[1] if len(shape) == 2 else 1
    loader = make_loader(task="regression")
    for batch in loader:
        batch["label"] = (batch["tabular"][:, :width] > 0).float().reshape(shape)
    trainer = make(Tabular(width), enable_visualization=False, enable_interpretability=False)
    error = "mae" if width == 1 else "mae[target 0]"
    assert f"val/{error}" in trainer.train(loader, loader, epochs=1)
    trainer.evaluate(loader)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("train_loader: labels 0.0 and 1.0 are floating point")
    assert "task='multilabel'" in said[0]
    asked = make(Tabular(width), task="multilabel", enable_interpretability=False)
    if len(shape) == 2:
        assert "val/auroc" in asked.train(loader, loader, epochs=1)
        assert capsys.readouterr().err == ""


# -- pages ----------------------------------------------------------------------------------------


def sections_of(page):
    return re.findall(r'<section id="([\w-]+)">', page.read_text("utf-8"))


def test_one_page_holds_all_about_the_outcome(trained, measured):
    found = sections_of(trained.run_dir / "evaluation_plots.html")
    assert found[:5] == ["ranking", "confusion", "scores", "thresholds", "tsne"]
    assert "scans-0" in found
    assert found[-1] == "metrics"


def test_the_outcome_is_shown_without_interpretability_too(make):
    trainer = make(enable_interpretability=False)
    trainer.evaluate(make_loader())
    assert {"tsne", "scans-0"} <= set(sections_of(trainer.run_dir / "evaluation_plots.html"))
    assert not (trainer.run_dir / "feature_importance.html").exists()


def test_pages_say_that_embedding_and_attention_are_absent(make):
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(D, 2)

        def forward(self, spectra, mask, tabular):
            return {"logits": self.head(tabular)}

    trainer = make(Bare())
    trainer.evaluate(make_loader())
    folder = trainer.run_dir
    assert "returns no attention_weights" in (folder / "attention_analysis.html").read_text("utf-8")
    assert "model&#39;s logits" in (folder / "pca_analysis.html").read_text("utf-8")


def test_a_gpu_that_is_not_there_is_said_in_one_line(make, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trainer = make(device="cuda")
    assert trainer.device == torch.device("cpu")
    assert capsys.readouterr().err.splitlines() == [
        "device 'cuda': no CUDA device is available here, using the CPU"
    ]
    with pytest.raises(UsageError, match="device 'gpu' is unknown"):
        make(device="gpu")


def test_without_a_ranked_epoch_the_last_weights_are_kept(make, capsys):
    trainer = make()
    val = make_loader()
    for batch in val:
        batch["label"] = torch.zeros_like(batch["label"])
    trainer.train(make_loader(), val, epochs=2)
    assert "best_model.pt holds the last weights" in capsys.readouterr().out
    last = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.load_model(trainer.run_dir / "best_model.pt")
    assert all(torch.equal(last[n], t) for n, t in trainer.model.state_dict().items())


def test_a_diverged_training_is_an_error_with_advice(make):
    trainer = make(lr=1e38)
    with pytest.raises(UsageError, match=r"diverged: weight .* lower lr"):
        trainer.train(make_loader(), make_loader(), epochs=3)
    assert len(trainer.history["epoch"]) >= 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs: a whole number"),
        ({"early_stopping_patience": 0}, "early_stopping.patience"),
    ],
)
def test_a_setting_that_is_refused_leaves_no_folder(make, settings, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        make().train(make_loader(), make_loader(), **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_name": "a/b"}, "cannot be a folder's name"),
        ({"class_names": ["one"]}, "class_names: 1 given, but there are 2"),
        ({"covariate_names": ["a"] * 3}, "covariate_names: 3 given, but there are 4"),
        ({"axis": torch.arange(7).numpy()}, "axis: 7 given, but there are 48"),
        ({"task": "regresion"}, "did you mean 'regression'"),
    ],
)
def test_what_does_not_fit_is_one_line(make, settings, words):
    with pytest.raises(UsageError, match=words):
        make(**settings).evaluate(make_loader())


@pytest.mark.parametrize(
    "own",
    [
        lambda mask, scores: {"attention_weights": mask.float()},
        lambda mask, scores: {"attention_weights": [mask.float(), None]},
        lambda mask, scores: {"attention_weights": None, "embedding": None, "gated_spec": None},
        lambda mask, scores: {"spec_embedding": scores, "tab_embedding": 2 * scores},
    ],
    ids=["tensor", "list", "none", "of modalities"],
)
def test_optional_outputs_of_every_documented_form_are_shown(make, own):
    class Own(Tabular):
        def forward(self, spectra, mask, tabular):
            scores = self.head(tabular)
            return {"logits": scores, **own(mask, scores)}

    trainer = make(Own(2))
    trainer.train(make_loader(), make_loader(), epochs=1)
    trainer.evaluate(make_loader())
    assert files(trainer.run_dir) >= TRAINED | EVALUATED | REPORTS
    page = (trainer.run_dir / "pca_analysis.html").read_text("utf-8")
    if "spec_embedding" in own(torch.ones(1), 1):
        assert "model&#39;s spec_embedding and tab_embedding" in page


def test_malformed_optional_outputs_are_refused_first(make, tmp_path):
    class Wrong(Tabular):
        def forward(self, spectra, mask, tabular):
            return {"logits": self.head(tabular), "embedding": tabular[:, 0]}

    for work in ("train", "evaluate"):
        with pytest.raises(UsageError, match=r"model Wrong gives embedding of shape \[8\]"):
            getattr(make(Wrong(2)), work)(*[make_loader()] * (2 if work == "train" else 1))
    assert list(tmp_path.iterdir()) == []


def test_models_are_compared_on_the_same_samples(trained, measured, make):
    torch.manual_seed(0)
    other = SpectraOnly(L, patch_size=16, d_model=16, num_layers=1)
    table = make().compare_models(
        {"tft": trained, "engine": trained.trainer, "spectra": other}, make_loader(seed=3)
    )
    assert list(table["model"]) == ["tft", "engine", "spectra"]
    for name in ("auroc", "accuracy"):
        assert table.loc[0, name] == table.loc[1, name] == measured[name]
    assert table.loc[0, "parameters"] == sum(p.numel() for p in trained.model.parameters())
    assert table.loc[2, "parameters"] == sum(p.numel() for p in other.parameters())
    cross_entropy = measured["main_loss"]
    assert table.loc[0, "loss"] == pytest.approx(cross_entropy, abs=1e-6)


def test_a_comparison_leaves_its_files_and_never_overwrites_one(make, tmp_path):
    trainer = make()
    for folder in ("comparison", "comparison-2"):
        table = trainer.compare_models({"tft": trainer, "mean": MeanLinear(L)}, make_loader())
        assert files(tmp_path / folder) == {
            "model_comparison.csv",
            "model_comparison.html",
            "roc_comparison.html",
        }
        read = pd.read_csv(tmp_path / folder / "model_comparison.csv")
        pd.testing.assert_frame_equal(read, table)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_models_of_every_task_can_be_compared(make, task, tmp_path):
    trainer = make(make_model(task))
    models = {"one": trainer, "other": make_model(task, seed=1)}
    table = trainer.compare_models(models, make_loader(task=task))
    assert len(table) == 2
    assert table["loss"].notna().all()
    has_roc = (tmp_path / "comparison" / "roc_comparison.html").exists()
    assert has_roc is (task != "regression")


def test_several_values_are_measured_separately(make):
    model = TFTMultimodal(D, L, num_classes=2, **SMALL)  # type: ignore[arg-type]
    trainer = make(model, class_names=["dose", "age"])
    loader = make_loader(task="regression")
    for batch in loader:
        batch["label"] = torch.stack([batch["label"], 1000 * batch["tabular"][:, 1]], dim=1)
    history = trainer.train(loader, loader, epochs=1)
    assert {"val/mae[dose]", "val/rmse[age]", "train/mse[age]", "val/r2"} <= history.keys()
    assert not {"val/mae", "val/mse", "val/rmse"} & history.keys()
    metrics = trainer.evaluate(loader)
    assert metrics["mae[age]"] > 100 * metrics["mae[dose]"]
    for name in ("feature_importance", "shap_analysis"):
        text = (trainer.run_dir / f"{name}.html").read_text("utf-8")
        assert "<option>dose</option><option>age</option>" in text
        for target in ("dose", "age"):
            assert f"the prediction of {target}" in text
    table = trainer.compare_models({"one": trainer}, loader)
    assert {"mae[dose]", "mae[age]"} <= set(table.columns)


def test_what_cannot_be_compared_is_said_in_a_line(make):
    with pytest.raises(UsageError, match="no model to compare"):
        make().compare_models({}, make_loader())
    with pytest.raises(UsageError, match="'x' is a str, no model"):
        make().compare_models({"x": "model"}, make_loader())
    with pytest.raises(UsageError, match=r"not of one task \(a: binary \[2\], b: multiclass \[3\]"):
        make().compare_models({"a": make_model(), "b": make_model("multiclass")}, make_loader())


def test_a_closed_pipe_does_not_end_a_training(make, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    trainer = make()
    trainer.save_dir.joinpath(trainer.model_name).mkdir(parents=True)
    monkeypatch.setattr(sys, "stdout", Closed())
    assert trainer._claim(trainer.model_name).is_dir()


def test_a_path_in_the_home_folder_is_found(make, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    trainer = make()
    trainer.save_model("~/kept.pt")
    assert (tmp_path / "kept.pt").is_file()
    trainer.load_model("~/kept.pt")
