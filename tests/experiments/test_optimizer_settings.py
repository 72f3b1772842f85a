from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.runs import Experiment


@pytest.mark.slow
def test_the_configuration_sets_rates_by_depth_and_name(make_config):
    config = make_config(
        **{
            "optimizer.lr": 0.01,
            "optimizer.layer_decay": 0.5,
            "optimizer.groups": [{"match": "head", "lr_scale": 3.0}],
            "model.params.num_layers": 2,
        }
    )
    experiment = Experiment(config)
    experiment.setup()
    experiment.handlers.close()
    groups = experiment.trainer.optimizer.param_groups
    rates = {p: group["initial_lr"] for group in groups for p in group["params"]}
    of = {name: rates[p] for name, p in experiment.trainer.model.named_parameters()}
    assert of["head.1.weight"] == pytest.approx(0.03)
    assert of["tabular_encoder.gate.weight"] == pytest.approx(0.01)
    assert of["spectra_encoder.blocks.1.norm_attention.weight"] == pytest.approx(0.005)
    assert of["spectra_encoder.positions"] == pytest.approx(0.00125)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer.groups": [{"match": "haed"}]}, r"optimizer\.groups: .*'haed'"),
        (
            {"model": {"name": "tabular_only"}, "optimizer.layer_decay": 0.5},
            r"optimizer\.layer_decay: TabularOnly has no nn\.ModuleList",
        ),
        ({"optimizer.layer_decay": 2.0}, r"optimizer\.layer_decay"),
        ({"optimizer.groups": [{"match": "head", "lr_scal": 2}]}, "lr_scal"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(make_config, changes, line):
    with pytest.raises(UsageError, match=line):
        Experiment(make_config(**changes)).setup()
