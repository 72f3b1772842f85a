from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from datasets.augmentations import AUGMENTATIONS
from datasets.covariates import CovariateEncoder
from datasets.errors import UsageError
from engine import TrainEvents
from experiments.builders import data as data_builder
from experiments.builders.data import build_data
from experiments.config import check_config, load_config
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


def test_without_axis_transforms_the_axis_is_the_cohorts(make_config):
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
def test_a_model_of_fewer_points_is_a_whole_run(make_config):
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
@pytest.mark.slow
def test_numbers_are_encoded_as_the_configuration_says(cohort_dir, tmp_path):
    written = tmp_path / "piecewise.yaml"
    written.write_text(
        f"""
exp_name: piecewise
runs_dir: {tmp_path / "runs"}
data:
  root: {cohort_dir}
  numeric: [age, CRP]
  categorical: [sex]
  log: [CRP]
  covariate_encoding: piecewise
model: {{name: tabular_only}}
trainer: {{max_epochs: 1, device: cpu}}
report: {{resamples: 0}}
""",
        "utf-8",
    )
    experiment = Experiment(load_config(str(written)))
    experiment.run()
    data, run_dir = experiment.data, experiment.run_dir
    assert data.encoder.feature_columns.count("age") == 8
    assert data.tab_dim == len(data.encoder.feature_names) > 18
    assert data.datasets["test"].tabular.shape[1] == data.tab_dim
    fitted = torch.load(run_dir / "preprocessing.pt", weights_only=True)["covariates"]
    assert fitted["encoding"] == "piecewise"
    restored = CovariateEncoder.from_state_dict(fitted).transform(data.cohort.samples)
    np.testing.assert_array_equal(restored, data.encoder.transform(data.cohort.samples))
    environment = json.loads((run_dir / "environment.json").read_text("utf-8"))
    assert environment["preparation"]["covariate_encoding"] == "piecewise"
    assert sample_source(data, data.datasets["test"].sample_ids).covariates == ["age", "CRP", "sex"]


def test_a_resumed_run_repeats_every_augmentation(make_config):
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


def samples(data, side="val"):
    return data.datasets[side].__getitems__(range(len(data.datasets[side])))


@pytest.fixture
def make(make_config, tmp_path):
    def make(**changes):
        return make_config(**{"data.cache_dir": str(tmp_path / "cache"), **changes})

    return make


@pytest.mark.slow
@pytest.mark.parametrize("transforms", [["tic", "sqrt", "standardize"], ["tic", CROP]])
@pytest.mark.parametrize("labels", [{"control": 0, "case": 1}, {"case": 0}])
def test_wherever_scans_are_kept_samples_are_the_same(make, transforms, labels):
    changes = {"data.transforms": transforms, "data.labels": labels}
    if len(labels) == 1:
        changes = {**changes, "data.task": "regression", "data.label": "age", "data.labels": None}
    kept = {
        where: samples(build_data(make(**changes, **{"data.cache": where})))
        for where in ("memory", "disk", "none", "auto")
    }
    for where in ("disk", "none", "auto"):
        for one, two in zip(kept["memory"], kept[where], strict=True):
            assert one.sample_id == two.sample_id
            np.testing.assert_array_equal(one.spectra, two.spectra)


def test_small_cohorts_are_kept_in_memory_large_ones_on_disk(make, tmp_path, monkeypatch, capsys):
    build_data(make())
    assert not (tmp_path / "cache" / "transformed").exists()
    monkeypatch.setattr(data_builder, "CACHE_LIMIT_BYTES", 1000)
    data = build_data(make())
    assert isinstance(data.datasets["train"].spectra, np.memmap)
    assert data.datasets["train"].transforms is None
    assert data.datasets["train"]._cached is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("transforming ")
    build_data(make())
    assert capsys.readouterr().out == ""


def test_without_transforms_nothing_is_written(make, tmp_path):
    data = build_data(make(**{"data.transforms": [], "data.cache": "disk"}))
    assert not (tmp_path / "cache" / "transformed").exists()
    assert data.datasets["train"]._cached is None


def test_a_full_disk_is_no_error_unless_asked_for(make, monkeypatch, capsys):
    expected = samples(build_data(make()))
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UsageError, match="has room for"):
        build_data(make(**{"data.cache": "disk"}))
    monkeypatch.setattr(data_builder, "CACHE_LIMIT_BYTES", 1000)
    found = samples(build_data(make(**{"data.cache": "auto"})))
    assert capsys.readouterr().out.endswith("they are transformed at each access\n")
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.spectra, two.spectra)


def test_a_cohort_of_covariates_alone_needs_no_store(make, cohort_dir, tmp_path):
    root = tmp_path / "covariates"
    root.mkdir()
    for name in ("samples.csv", "cohort.yaml"):
        shutil.copy(cohort_dir / name, root / name)
    data = build_data(make(**{"data.root": str(root), "data.cache": "disk"}))
    assert data.spec_len == 0
    assert next(iter(data.loaders["train"])).spectra.shape[2] == 0


@pytest.mark.slow
def test_a_run_from_disk_is_the_run_from_memory(make):
    runs = []
    for where in ("memory", "disk"):
        experiment = Experiment(
            make(exp_name=where, **{"data.cache": where, "report.enabled": False})
        )
        experiment.setup()
        experiment.train()
        experiment.test()
        runs.append(experiment)
    one, two = (torch.cat([p.flatten() for p in run.trainer.model.parameters()]) for run in runs)
    assert torch.equal(one, two)
    np.testing.assert_equal(runs[0].results, runs[1].results)  # NaN included


def test_simulated_cohorts_of_other_settings_lie_in_folders_of_their_own(tmp_path):
    def read(**simulated):
        given = {"n_samples": 40, "seed": 1} | simulated
        config = check_config({"data": {"cache_dir": str(tmp_path), "simulated": given}})
        return data_builder.read_cohort(config.data)

    plain = read()
    other = read(technique="nir", covariates="none", subtypes=4, calibration_shift=2.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "simulated-v1-n40-seed1",
        "simulated-v1-n40-seed1-technique-nir-covariates-none-subtypes-4-calibration_shift-2.5",
    ]
    assert (len(plain.numeric), len(other.numeric)) == (7, 0)
    assert (plain.axis[0], other.axis[0]) == (2_000, 1_100)
    assert other.class_names == plain.class_names == ["control", "case"]
