from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.augmentations import AUGMENTATIONS
from datasets.errors import UsageError
from engine import TrainEvents
from experiments.builders.data import build_data
from experiments.report import pack_samples, sample_source
from experiments.runs import Experiment

CROP = {"name": "crop", "params": {"low": 4000, "high": 9000}}


def test_the_axis_is_what_the_transforms_leave(make_config):
    data = build_data(make_config(**{"data.transforms": ["snip", "tic", CROP, "standardize"]}))
    inside = (data.cohort.axis >= 4000) & (data.cohort.axis <= 9000)
    np.testing.assert_array_equal(data.axis, data.cohort.axis[inside])
    assert data.spec_len == inside.sum() < data.cohort.spec_len
    for side in ("train", "val", "test"):
        assert data.datasets[side].spec_len == data.spec_len
        assert next(iter(data.loaders[side])).spectra.shape[2] == data.spec_len
    (told,) = [line for line in data.describe() if "the transforms leave" in line]
    assert told.startswith(f"the transforms leave {data.spec_len} of {data.cohort.spec_len} points")


def test_without_such_transforms_the_axis_is_the_cohorts_and_nothing_is_said(make_config):
    data = build_data(make_config())
    np.testing.assert_array_equal(data.axis, data.cohort.axis)
    assert not [line for line in data.describe() if "transforms" in line]


def test_the_alignment_says_how_much_there_was_to_align_by(make_config):
    align = {"name": "align", "params": {"min_frequency": 0.3, "half_window": 2, "snr": 2}}
    data = build_data(make_config(**{"data.transforms": ["snip", align, "tic"]}))
    scans = sum(len(rows) for rows in data.datasets["train"].scan_rows)
    (told,) = [line for line in data.describe() if line.startswith("align: ")]
    assert f"of {scans} training scans" in told


@pytest.mark.slow
def test_a_model_of_fewer_points_is_trained_explained_and_reported(make_config):
    experiment = Experiment(
        make_config(**{"data.transforms": ["tic", "sqrt", CROP, "standardize"]})
    )
    experiment.run()
    data = experiment.data
    samples = data.datasets["test"].sample_ids
    source = sample_source(data, samples)
    packed = pack_samples(source, experiment.outputs["test"])
    assert packed["points"] == data.spec_len
    page = (experiment.run_dir / "report" / "index.html").read_text("utf-8")
    assert f"leave {data.spec_len} of" in (experiment.run_dir / "summary.md").read_text("utf-8")
    assert packed["axis"] in page


@pytest.mark.slow
def test_with_every_augmentation_a_resumed_run_ends_as_the_uninterrupted_one(make_config):
    changes = {"data.augmentations": list(AUGMENTATIONS), "report.enabled": False}
    straight = Experiment(make_config(**changes, **{"trainer.max_epochs": 3}))
    straight.setup()
    straight.train()

    cut = Experiment(make_config(**{"exp_name": "cut", "checkpoint.every_steps": 1}))
    cut.setup()

    @cut.trainer.on(TrainEvents.OPTIMIZER_STEPPED)
    def stop(trainer):
        if trainer.state.optimizer_step == 5:  # within the second epoch
            trainer.terminate()

    cut.train()
    resumed = Experiment(make_config(), run_dir=cut.run_dir)
    resumed.setup()
    resumed.train()
    assert resumed.trainer.state.optimizer_step == straight.trainer.state.optimizer_step
    for name, weight in straight.trainer.model.state_dict().items():
        assert torch.equal(weight, resumed.trainer.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "data.task": "regression",
                "data.label": "age",
                "data.labels": None,
                "data.numeric": ["BMI"],
                "data.augmentations": ["mixup"],
            },
            "mixup mixes samples of one class",
        ),
        (
            {"data.transforms": [{"name": "crop", "params": {"low": 1, "high": 2}}]},
            "crop: no point",
        ),
        (
            {"data.transforms": [{"name": "snip", "params": {"window": 2}}]},
            "did you mean 'half_win",
        ),
        ({"data.augmentations": ["mix_up"]}, "did you mean 'mixup'"),
    ],
)
def test_what_cannot_be_done_to_the_spectra_is_one_line(make_config, changes, said):
    with pytest.raises(UsageError, match=said) as error:
        build_data(make_config(**changes))
    assert "\n" not in str(error.value)
