"""The shipped configurations on real cohorts; the folder comes from the environment."""

from __future__ import annotations

import pytest

from experiments.config import load_config
from experiments.runs import Experiment

pytestmark = pytest.mark.slow


def run(name, root, tmp_path, *overrides):
    config = load_config(
        name,
        [
            ("data.root", str(root)),
            ("runs_dir", str(tmp_path)),
            ("report.enabled", "false"),
            ("report.resamples", "0"),
            ("baselines.enabled", "false"),
            *overrides,
        ],
    )
    experiment = Experiment(config)
    experiment.run()
    return experiment


def test_species_are_told_apart_without_an_error(real_data, tmp_path):
    # A tenth of the configuration's epochs: what has been learnt by then is enough.
    few = ("trainer.max_epochs", "30")
    experiment = run("species", real_data / "species_maldi", tmp_path, few)
    assert experiment.results["test"]["accuracy"] == 1.0
    assert experiment.data.num_classes == 4


def test_hcc_on_an_unseen_plate_is_far_above_chance(real_data, tmp_path):
    few = ("trainer.max_epochs", "5")
    experiment = run("hcc", real_data / "hcc_serum_glycome_maldi", tmp_path, few)
    data = experiment.data
    groups = {
        side: set(data.cohort.groups[data.split == side]) for side in ("train", "val", "test")
    }
    assert not groups["test"] & (groups["train"] | groups["val"])
    assert data.cohort.excluded == {"HC": 86}
    assert "plate" not in " ".join(data.encoder.feature_names)
    assert experiment.results["test"]["auroc"] > 0.8


def test_too_few_patients_of_a_group_are_refused_not_trained_on(real_data, tmp_path):
    from datasets.errors import UsageError

    with pytest.raises(UsageError, match="group"):
        run(
            "species",
            real_data / "fiedler2009_subset_maldi",
            tmp_path,
            ("data.group", "location"),
        )
