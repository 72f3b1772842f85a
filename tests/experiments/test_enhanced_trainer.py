from __future__ import annotations

import csv
import math

import pandas as pd
import pytest
import torch
from ignite.engine import Events
from torch import nn

from engine import EpochMetrics, Evaluator, Trainer, build_optimizer
from engine.errors import UsageError
from experiments.enhanced_trainer import EnhancedTrainer
from handlers import GradientClipping, LRSchedule, Validation
from models import MeanLinear, SpectraOnly, TFTMultimodal
from models.tft_models import TFTLoss

S, L, D = 3, 48, 4
SMALL = {"patch_size": 16, "d_model": 16, "num_layers": 1}
TRAINED = {"best_model.pt", "training_curves.html"}
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

    assert experiments.EnhancedTrainer is EnhancedTrainer
    with pytest.raises(AttributeError, match="EnhancedTrayner"):
        experiments.EnhancedTrayner  # noqa: B018


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
    again = trained.evaluate(make_loader(seed=2), generate_plots=False)
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
    from experiments.facade.any_loader import to_batch

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
    assert files(only.run_dir) == EVALUATED - {"evaluation_plots.html"}
    silent = make(model_name="silent")
    silent.evaluate(make_loader(), generate_plots=False)
    assert silent.run_dir is None


def test_a_second_training_goes_on_from_the_weights_in_a_folder_of_its_own(make, capsys):
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
    assert files(trainer.run_dir / "evaluation") == EVALUATED


def test_saved_weights_give_the_same_metrics_in_another_trainer(trained, measured, make, tmp_path):
    trained.save_model(tmp_path / "new" / "model.pt")
    other = make(make_model(seed=9))
    assert other.evaluate(make_loader(seed=3), generate_plots=False) != measured
    for path in (tmp_path / "new" / "model.pt", trained.run_dir / "best_model.pt"):
        other.load_model(path)
        assert other.evaluate(make_loader(seed=3), generate_plots=False) == measured


def test_a_model_without_embedding_or_attention_has_pages_that_say_so(make):
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


def test_where_no_epoch_can_be_ranked_the_last_weights_are_kept_and_that_is_said(make, capsys):
    trainer = make()
    val = make_loader()
    for batch in val:
        batch["label"] = torch.zeros_like(batch["label"])
    trainer.train(make_loader(), val, epochs=2)
    assert "best_model.pt holds the last weights" in capsys.readouterr().out
    last = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.load_model(trainer.run_dir / "best_model.pt")
    assert all(torch.equal(last[n], t) for n, t in trainer.model.state_dict().items())


def test_a_training_that_diverges_is_an_error_that_says_what_to_do(make):
    trainer = make(lr=1e38)
    with pytest.raises(UsageError, match=r"diverged: weight .* lower lr"):
        trainer.train(make_loader(), make_loader(), epochs=3)
    assert len(trainer.history["epoch"]) >= 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs must be a whole number"),
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


def test_several_values_are_measured_and_explained_each_by_itself(make):
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
