from __future__ import annotations

import shutil
import zipfile

import pytest
import torch
from torch import Tensor, nn

from datasets.errors import UsageError
from engine.losses import FocalLoss, HuberLoss, SupervisedContrastive, WeightedLoss
from experiments import audit_cohort
from experiments.builders.model import build_configured_optimizer, build_loss
from experiments.config import OptimizerConfig, write_yaml
from experiments.run import main
from experiments.run_files import read_package
from experiments.runs import Experiment
from models import MODELS
from tests.experiments.card_code import check_by_the_card

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
def test_covariates_alone_are_a_whole_run(covariates_alone, make_config, model):
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
    covariates_alone, make_config, tmp_path
):
    experiment = Experiment(make_config(**{"report.enabled": False}))
    experiment.run()
    with zipfile.ZipFile(experiment.run_dir / "small.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    model = check_by_the_card(tmp_path / "elsewhere", covariates_alone)
    assert model.fitted.modalities == {"covariates"}


def test_covariates_alone_are_resumed_and_audited(covariates_alone, make_config, tmp_path, capsys):
    changes = {"report.enabled": False, "trainer.max_epochs": 1}
    begun = Experiment(make_config(**changes))
    begun.run()
    longer = Experiment(make_config(**{"trainer.max_epochs": 2}), begun.run_dir)
    longer.run()
    assert longer.trainer.state.epoch == 2
    assert audit_cohort.main([str(covariates_alone)]) == 0
    assert "covariates alone, no spectra" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["pca_mlp", "spectra_only", "spectra_cnn", "mean_linear"])
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
    "model",
    [m for m in MODELS if m not in ("pca_mlp", "spectra_only", "spectra_cnn", "mean_linear")],
)
def test_a_model_of_covariates_is_refused_where_none_is_named(
    spectra_alone, make_config, tmp_path, capsys, model
):
    assert refusal(make_config, tmp_path, capsys, model) == (
        f"error: model.name: '{model}' takes covariates, and none is named for the cohort small; "
        "name some by data.numeric and data.categorical, or choose pca_mlp, spectra_only, "
        "spectra_cnn or mean_linear"
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
    own = {"name": "tests.experiments.builders.test_model.Unasked", "params": {}}
    Experiment(make_config(model=own)).setup()


CLASSES = torch.tensor([0, 0, 0, 1])
LABELS = torch.tensor([[1, 0], [0, 1], [0, 1], [0, 1]])
VALUES = torch.zeros(4, 1)


def test_a_composition_is_built_term_by_term_by_name():
    terms = {
        "main": {"name": "focal", "params": {"gamma": 3.0, "alpha": "balanced"}},
        "aux_spec": {"name": "cross_entropy", "on": "aux_logits_spec", "weight": 0.3},
        "contrast": {"name": "supcon", "weight": 0.02, "optional": True},
        "pair": "info_nce",
    }
    loss = build_loss("weighted", {"terms": terms}, "binary", CLASSES, 2)
    assert isinstance(loss, WeightedLoss)
    main, aux, contrast, pair = loss.terms.values()
    assert isinstance(main.loss, FocalLoss)
    assert main.loss.gamma == 3.0
    assert main.loss.alpha is not None
    assert main.loss.alpha.tolist() == pytest.approx([2 / 3, 2.0])
    assert (aux.on, aux.weight) == ("aux_logits_spec", 0.3)
    assert isinstance(contrast.loss, SupervisedContrastive)
    assert contrast.optional
    assert pair.weight == 1.0


def test_balanced_is_filled_from_the_training_part():
    loss = build_loss("cross_entropy", {"class_weights": "balanced"}, "binary", CLASSES, 2)
    assert isinstance(loss.class_weights, Tensor)
    assert loss.class_weights.tolist() == pytest.approx([2 / 3, 2.0])
    loss = build_loss("bce", {"pos_weight": "balanced"}, "multilabel", LABELS, 2)
    assert isinstance(loss.pos_weight, Tensor)
    assert loss.pos_weight.tolist() == pytest.approx([3.0, 1 / 3])


def test_an_own_loss_is_found_by_path_also_as_a_term(tmp_path, monkeypatch):
    (tmp_path / "my_loss.py").write_text(
        "from torch import nn\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, power=1): super().__init__(); self.power = power\n"
        "    def forward(self, outputs, targets, aux=None):\n"
        "        missed = (outputs['logits'] - targets).abs()\n"
        "        return {'total_loss': missed.pow(self.power).mean()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    terms = {
        "main": {"name": "my_loss.Mine", "params": {"power": 2}},
        "aux": {"name": "my_loss.Mine", "on": "aux_logits_tab", "weight": 0.5},
    }
    loss = build_loss("weighted", {"terms": terms}, "regression", VALUES, 1)
    outputs = {"logits": VALUES + 3, "aux_logits_tab": VALUES + 4}
    assert loss(outputs, VALUES)["total_loss"].item() == 9 + 0.5 * 4


def test_parameters_reach_the_loss():
    assert build_loss("huber", {"delta": 0.5}, "regression", VALUES, 1).delta == 0.5
    assert isinstance(build_loss("huber", {}, "regression", VALUES, 1), HuberLoss)


def terms(**spec):
    return {"terms": {"main": {"name": "focal", **spec}}}


@pytest.mark.parametrize(
    ("name", "params", "task", "message"),
    [
        ("focall", {}, "binary", "loss.name: nothing is called 'focall'; did you mean 'focal'"),
        ("focal", {"gama": 1}, "binary", "loss.params: FocalLoss .* 'gama'; did you mean 'gamma'"),
        (
            "focal",
            {"gamma": -1},
            "binary",
            r"focal\.gamma: a number at least 0 was expected, not -1",
        ),
        ("bce", {}, "binary", r"'bce' does not fit task 'binary' \(choices: cross_entropy, tft"),
        ("cross_entropy", {}, "regression", r"does not fit task 'regression' \(choices: mse, hub"),
        ("mse", {}, "multilabel", r"'mse' does not fit task 'multilabel' \(choices: focal, bce"),
        (
            "tft",
            {"class_weights": [1, 2, 3]},
            "binary",
            "loss.params.class_weights: 3 numbers given, 2 are needed",
        ),
        (
            "cross_entropy",
            {"class_weights": "balancd"},
            "binary",
            r"class_weights must be numbers from 0 \(or 'balanced'\)",
        ),
        ("weighted", {}, "binary", "WeightedLoss needs 'terms'"),
        ("weighted", {"terms": 3}, "binary", "terms must map at least one name"),
        (
            "weighted",
            terms(name="focl"),
            "binary",
            "loss.params.terms.main.name: .*did you mean 'focal'",
        ),
        ("weighted", terms(weigth=1), "binary", "main.weigth'; did you mean '.*main.weight'"),
        ("weighted", terms(weight=-1), "binary", "main.weight: .*greater than or equal to 0"),
        ("weighted", terms(on=3), "binary", "main.on: .*valid string, got 3"),
        ("weighted", terms(params={"x": 1}), "binary", "main.params: FocalLoss has no .*'x'"),
        ("weighted", terms(), "regression", "main.name: 'focal' does not fit task 'regression'"),
        ("weighted", {"terms": {"main": 3}}, "binary", "loss.params.terms.main: .*got 3"),
        ("weighted", {"terms": {"f1": "focal"}}, "binary", "a term cannot be called 'f1'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(name, params, task, message):
    targets = {"binary": CLASSES, "multilabel": LABELS, "regression": VALUES}[task]
    with pytest.raises(UsageError, match=message) as error:
        build_loss(name, params, task, targets, 1 if task == "regression" else 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "params",
    [
        {"betas": [0.9]},
        {"betas": [0.9, 0.99, 0.999]},
        {"fused": True, "foreach": True},
    ],
)
def test_parameters_that_fail_in_a_step_are_refused(params):
    settings = OptimizerConfig(name="adamw", params=params)
    with pytest.raises(UsageError, match=r"optimizer\.params: AdamW refuses its parameters"):
        build_configured_optimizer(settings, torch.nn.Linear(2, 1))


@pytest.mark.distributed
def test_processes_share_what_the_first_one_fitted(two_processes):
    first, second = two_processes["tests.experiments.fitted_network_work"]
    assert first["linear_path"]["buffers"]["spectra_weight"].any()
    assert first["linear_path"]["buffers"]["network.1.rotation"].any()
    assert first["linear_path"]["offset"].std() > 0
    trees = [buffer for name, buffer in first["ensemble"]["buffers"].items() if "value" in name]
    assert trees[0].shape[1] > 1
    torch.testing.assert_close(first, second, rtol=0, atol=0)
