"""Runs of an ensemble: weighed on the validation set, resumed, written and loaded."""

from __future__ import annotations

import json
import re
import zipfile
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Events

from datasets.batches import pad_collate
from datasets.errors import UsageError
from engine.model_call import call_model
from experiments.config import check_config, load_config
from experiments.runs import Experiment
from models import Ensemble, MeanLinear
from models.stacking import stack_weights
from tests.experiments.card_code import check_by_the_card
from tests.experiments.conftest import changed_config, small_settings

pytestmark = pytest.mark.slow

NETWORK: dict[str, Any] = {"name": "pca_mlp", "params": {"hidden_dim": 8}, "members": 2}
MEMBERS = [
    NETWORK,
    {"name": "spectra_logistic"},
    {"name": "covariates_logistic"},
    {"name": "covariates_extra_trees"},
]
NAMES = [member["name"] for member in MEMBERS]


class OwnLoss(MeanLinear):
    """A network with a loss of its own."""

    def compute_loss(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"total_loss": outputs["logits"].sum()}


QUICK = {
    "model": {"name": "ensemble", "members": MEMBERS},
    "report.enabled": False,
    "audit.enabled": False,
    "trainer.max_epochs": 2,
}


def settings_in(cohort_dir, runs_dir, **changes):
    return changed_config(small_settings(cohort_dir, runs_dir), **(QUICK | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cohort_dir):
    """A whole run, with pages and attributions."""
    changes = {"report.enabled": True, "report.attribution": {"steps": 8, "max_samples": 4}}
    config = settings_in(cohort_dir, tmp_path_factory.mktemp("runs"), **changes)
    experiment = Experiment(config)
    experiment.run()
    return experiment


def logits_of(experiment, subset="test"):
    """Weighted and members' logits, by hand."""
    model = experiment.trainer.model.eval()
    with torch.no_grad(), experiment.handlers.averaged_weights():
        outputs = [
            model(batch.spectra, batch.mask, batch.tabular)
            for batch in experiment.data.loaders[subset]
        ]
    return [torch.cat([o[name] for o in outputs]) for name in ("logits", "member_logits")]


def test_predictions_are_those_of_the_members_by_their_weights(finished):
    weights = finished.member_weights
    assert list(weights) == NAMES
    logits, members = logits_of(finished)
    by_hand = sum(w * members[:, n] for n, w in enumerate(weights.values()))
    assert torch.allclose(logits, by_hand, atol=1e-5)
    ids = [name for batch in finished.data.loaders["test"] for name in batch.sample_id]
    table = pd.read_csv(finished.run_dir / "predictions.csv", dtype={"sample_id": str})
    found = table.set_index("sample_id").loc[ids, "prob_case"].to_numpy()
    assert found == pytest.approx(by_hand.softmax(1)[:, 1].numpy(), abs=1e-5)


def test_the_weights_are_not_all_alike_and_validating_again_gives_the_same(finished):
    before, metrics = dict(finished.member_weights), dict(finished.results["val"])
    assert len({round(weight, 6) for weight in before.values()}) > 1
    assert finished.validate() == pytest.approx(metrics, nan_ok=True, abs=0)
    assert finished.member_weights == before


def test_the_weights_are_told_where_results_are_read(finished):
    told = [f"{name} " for name in NAMES]
    for name in ("summary.md", "model_card.md"):
        (line,) = re.findall(
            r".*weighed by samples that they were not trained on.*", text_of(finished, name)
        )
        assert all(each.replace("_", r"\_") in line for each in told)
    assert json.loads(text_of(finished, "metrics.json"))["test"]["member_weights"] == (
        pytest.approx(finished.member_weights)
    )
    page = text_of(finished, "report/index.html")
    assert "Members, weighed by samples that they were not trained on: pca_mlp" in page
    assert "成员及其由未参与训练的样本确定的权重" in page


def text_of(experiment, name):
    return (experiment.run_dir / name).read_text("utf-8")


def test_attributions_say_that_trees_are_left_out(finished):
    told = "ttributions leave out covariates_extra_trees: trees have no gradient"
    assert told in text_of(finished, "report/index.html")
    assert told.replace("_", r"\_") in text_of(finished, "model_card.md")
    (explained,) = finished.findings.explained
    assert len(explained.sample_id) == 4
    # The linear members and the networks are explained.
    assert all(bool(scans.abs().sum() > 0) for scans in explained.scans)
    assert bool((explained.tabular.abs().sum(dim=1) > 0).all())


def test_the_card_loads_an_ensemble_from_the_package(finished, tmp_path, cohort_dir):
    with zipfile.ZipFile(finished.run_dir / "small.zip") as archive:
        archive.extractall(tmp_path)
    check_by_the_card(tmp_path, cohort_dir)


def test_a_killed_ensemble_ends_as_if_it_had_not_been(cohort_dir, tmp_path):
    whole = Experiment(settings_in(cohort_dir, tmp_path / "whole"))
    whole.run()
    cut = Experiment(settings_in(cohort_dir, tmp_path / "cut"))
    cut.setup()

    @cut.trainer.on(Events.EPOCH_COMPLETED(once=1))
    def stop(trainer):
        trainer.terminate()

    cut.train()
    cut.close()
    resumed = Experiment(load_config(str(cut.run_dir / "config.yaml")), cut.run_dir)
    resumed.run()
    states = [e.trainer.model.state_dict() for e in (whole, resumed)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert resumed.member_weights == whole.member_weights
    for subset in ("val", "test"):
        assert torch.equal(resumed.outputs[subset].logits, whole.outputs[subset].logits)


FIVE = [{**NETWORK, "members": 5}, *MEMBERS[1:]]


def test_members_that_leave_out_folds_are_weighed_by_the_training_set_too(cohort_dir, tmp_path):
    changes = {"model.members": FIVE, "trainer.refit": True}
    experiment = Experiment(settings_in(cohort_dir, tmp_path, **changes))
    experiment.setup()
    data = experiment.data
    train, val = data.datasets["train"], data.datasets["val"]
    assert train.fold is not None
    assert train.offset is not None
    groups = data.cohort.groups[data.trained]
    assert all(len(np.unique(train.fold[groups == name])) == 1 for name in np.unique(groups))
    experiment.train()
    experiment.validate()
    model = experiment.trainer.model.eval()
    assert isinstance(model, Ensemble)
    logits = []
    with torch.no_grad(), experiment.handlers.averaged_weights():
        for dataset in (val, train):
            batch = pad_collate([dataset[row] for row in range(len(dataset))])
            assert (batch.fold is None) == (dataset is val)
            logits.append(call_model(model, batch)["member_logits"].numpy())
    # The classical models' are of models without the sample's fold.
    assert np.allclose(logits[1][:, 1:], train.offset)
    targets = np.concatenate([val.targets, train.targets])
    shares = list(np.concatenate(logits).swapaxes(0, 1) / len(NAMES))
    by_hand, _ = stack_weights(shares, targets, "binary", bias=False)
    found = list(experiment.member_weights.values())
    assert found == pytest.approx(by_hand / len(NAMES), abs=1e-3)
    experiment.refit()
    # All its members are trained on all samples.
    assert experiment.data.datasets["train"].fold is None
    assert list(experiment.member_weights.values()) == found
    experiment.close()


def test_samples_of_no_fold_choose_no_weights(cohort_dir, tmp_path):
    """All members were trained on them."""
    experiment = Experiment(settings_in(cohort_dir, tmp_path, **{"model.members": FIVE}))
    experiment.setup()
    train = experiment.data.datasets["train"]
    assert train.fold is not None
    train.fold[train.fold > 0] = -1
    experiment.train()
    model, seen = experiment.trainer.model, []
    assert isinstance(model, Ensemble)
    model.choose_weights = lambda logits, targets, task: seen.append((logits, targets))  # type: ignore[method-assign, assignment]
    experiment.validate()
    ((logits, targets),) = seen
    kept = train.targets[train.fold == 0]
    assert 0 < len(kept) < len(train)
    assert targets.tolist() == [*experiment.data.datasets["val"].targets, *kept]
    assert len(logits) == len(targets)
    experiment.close()


def test_mixed_samples_are_of_no_fold(cohort_dir, tmp_path):
    changes = {"model.members": FIVE, "data.augmentations": ["mixup"]}
    experiment = Experiment(settings_in(cohort_dir, tmp_path, **changes))
    experiment.setup()
    assert experiment.data.datasets["train"].fold is None
    experiment.close()


def test_a_refit_keeps_the_weights_that_the_validation_set_chose(cohort_dir, tmp_path):
    config = settings_in(cohort_dir, tmp_path, **{"trainer.refit": True, "trainer.max_epochs": 1})
    experiment = Experiment(config)
    experiment.run()
    chosen = list(experiment.member_weights.values())
    weights = experiment.trainer.model.state_dict()["member_weights"]
    assert weights.tolist() == pytest.approx(chosen)
    logits, members = logits_of(experiment)
    by_hand = (torch.tensor(chosen)[:, None] * members).sum(dim=1)
    assert torch.allclose(logits, by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"name": "ensemble", "members": 2}}, "'ensemble' has a list of members"),
        ({"model": {"name": "tft", "members": [NETWORK]}}, "'tft' has a number of members"),
        ({"model": {"name": "ensemble", "members": []}}, "needs at least one"),
        (
            {"model": {"name": "ensemble", "members": [NETWORK], "linear_path": True}},
            "linear_path: an ensemble has linear models as members",
        ),
        (
            {"model": {"name": "ensemble", "members": [{**NETWORK, "members": 0}]}},
            "model.members.0.members",
        ),
        ({"model": {"name": "auto", "members": 2}}, "members: the model 'auto' is chosen as a"),
        ({"model": {"name": "auto", "linear_path": True}}, "linear_path: the model 'auto'"),
        ({"data.transforms": ["tic", "auto"]}, "data.transforms: 'auto' chooses all of them"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes, told):
    settings: dict[str, Any] = {}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        settings[section] = {name: value} if name else value
    with pytest.raises(UsageError, match=re.escape(told)) as refused:
        check_config(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("members", "changes", "told"),
    [
        ([NETWORK, {"name": "spectra_logistc"}], {}, "did you mean 'spectra_logistic'?"),
        ([NETWORK, {"name": "pca_mpl"}], {}, "model.members.1.name: nothing is called 'pca_mpl'"),
        ([NETWORK, {"name": "spectra_ridge"}], {}, "nothing is called 'spectra_ridge'"),
        (
            [NETWORK, {"name": "spectra_logistic", "params": {"C": 1}}],
            {},
            "'spectra_logistic' has neither params nor several members",
        ),
        ([{"name": "spectra_logistic"}], {}, "classical models are not trained"),
        ([NETWORK, {"name": f"{__name__}.OwnLoss", "members": 2}], {}, "brings a loss of its own"),
        (
            [NETWORK, {"name": "covariates_logistic"}],
            {"data.numeric": [], "data.categorical": [], "data.log": []},
            "model.members.1.name: 'covariates_logistic' takes covariates",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused(cohort_dir, tmp_path, members, changes, told):
    model = {"model": {"name": "ensemble", "members": members}}
    experiment = Experiment(settings_in(cohort_dir, tmp_path, **model, **changes))
    with pytest.raises(UsageError, match=re.escape(told)) as refused:
        experiment.setup()
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "small").exists()
