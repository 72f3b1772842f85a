from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from datasets.cohort import Cohort
from datasets.errors import UsageError
from datasets.splits import SUBSETS, make_split, write_splits
from experiments.builders.data import build_data, read_cohort
from experiments.builders.split import make_folds, split_cohort
from experiments.config import check_config
from experiments.runs import Experiment


@pytest.fixture
def plates(cohort_dir, tmp_path, settings):
    """The cohort on eight plates of which two hold cases alone; the settings name it."""
    root = tmp_path / "plates"
    root.mkdir()
    for path in cohort_dir.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    table = pd.read_csv(root / "samples.csv", dtype=str)
    place = table["label"].rank(method="first").astype(int) - 1  # cases first
    table["group"] = [f"plate{number // 4 if number < 8 else 2 + number % 6}" for number in place]
    table["site"] = np.where(table["group"].isin(["plate2", "plate3", "plate4"]), "north", "south")
    table.to_csv(root / "samples.csv", index=False)
    settings["data"]["root"] = str(root)
    settings["audit"] = {"enabled": False}
    return root


def sides_and_cohort(config):
    data = build_data(config)
    for group in set(data.cohort.groups):
        assert len(set(data.split[data.cohort.groups == group])) == 1
    return data.split, data.cohort


def test_the_default_is_the_stratified_holdout(make_config):
    split, cohort = sides_and_cohort(make_config())
    expected = make_split(cohort.targets, cohort.groups, (0.7, 0.15, 0.15), seed=1)
    np.testing.assert_array_equal(split, expected)


def test_each_fold_of_a_kfold_is_tested_in_turn(make_config):
    tested = []
    for fold in range(4):
        config = make_config(**{"data.split": {"kind": "kfold", "folds": 4, "fold": fold}})
        split, cohort = sides_and_cohort(config)
        tested += [
            name for name, side in zip(cohort.sample_ids, split, strict=True) if side == "test"
        ]
    assert sorted(tested) == sorted(cohort.sample_ids)


def test_validation_gets_its_share_of_what_is_not_tested(make_config):
    split = {"kind": "kfold", "folds": 4, "fractions": [0.45, 0.45, 0.1]}
    sides, _ = sides_and_cohort(make_config(**{"data.split": split}))
    train, val, test = (int((sides == side).sum()) for side in SUBSETS)
    assert abs(train - val) <= 1
    assert test == 15


@pytest.mark.parametrize("fold", [3, "plate3"])
def test_one_group_is_left_out_by_number_or_by_name(plates, make_config, fold):
    config = make_config(**{"data.split": {"kind": "leave_one_group_out", "fold": fold}})
    split, cohort = sides_and_cohort(config)
    assert set(cohort.groups[split == "test"]) == {"plate3"}


@pytest.mark.parametrize(
    ("split", "tested"),
    [
        (
            {"kind": "leave_one_group_out", "fold": 1},
            "tested on group 1 (fold number 0, of 0 to 3)",
        ),
        (
            {"kind": "leave_one_group_out", "fold": 0},
            "tested on group 1 (fold number 0, of 0 to 3)",
        ),
        ({"kind": "leave_one_group_out", "fold": 3}, "tested on group 12 (fold number 3, of 0"),
        (
            {"kind": "leave_one_batch_out", "batch": "day", "fold": 2},
            "tested on day 2 (fold number",
        ),
        ({"kind": "kfold", "folds": 4, "fold": 2}, "tested on fold number 2, of 0 to 3"),
    ],
)
def test_a_name_wins_over_a_number_and_what_is_tested_is_said(
    plates, make_config, tmp_path, split, tested
):
    path = plates / "samples.csv"
    table = pd.read_csv(path, dtype=str)
    table["group"] = [["1", "6", "7", "12"][number % 4] for number in range(len(table))]
    table["day"] = [["2", "5", "9", "11"][number % 4] for number in range(len(table))]
    table.to_csv(path, index=False)
    data = build_data(make_config(**{"data.split": split}))
    assert any(line.startswith(tested) for line in data.describe())
    if split["kind"] != "kfold":
        column, name = tested.split()[2:4]
        assert set(data.cohort.samples[column][data.split == "test"]) == {name}


def test_one_batch_is_left_out(plates, make_config):
    split = {"kind": "leave_one_batch_out", "batch": "site", "fold": "north"}
    sides, cohort = sides_and_cohort(make_config(**{"data.split": split}))
    assert set(cohort.samples["site"][sides == "test"]) == {"north"}
    assert set(cohort.samples["site"][sides != "test"]) == {"south"}


def test_by_hash_new_patients_move_nobody(cohort_dir, make_config, tmp_path, settings):
    settings["data"]["split"] = {"kind": "hash", "seed": 2, "fractions": [0.5, 0.25, 0.25]}
    split, _ = sides_and_cohort(make_config())
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for path in cohort_dir.iterdir():
        (fewer / path.name).write_bytes(path.read_bytes())
    table = pd.read_csv(fewer / "samples.csv", dtype=str).iloc[:-9]
    table.to_csv(fewer / "samples.csv", index=False)
    scans = pd.read_csv(fewer / "scans.csv", dtype=str)
    kept = scans["sample_id"].isin(table["sample_id"])
    scans[kept].to_csv(fewer / "scans.csv", index=False)
    np.save(fewer / "spectra.npy", np.load(fewer / "spectra.npy")[kept])
    before, _ = sides_and_cohort(make_config(**{"data.root": str(fewer)}))
    np.testing.assert_array_equal(split[:-9], before)


@pytest.mark.slow
def test_a_test_set_of_one_class_is_reported(plates, make_config):
    split = {"kind": "leave_one_group_out", "fold": "plate0"}
    experiment = Experiment(make_config(**{"data.split": split}))
    results = experiment.run()
    assert np.isnan(results["test"]["auroc"])
    assert not np.isnan(results["val"]["auroc"])
    assert (experiment.run_dir / "small.zip").is_file()
    again = Experiment(make_config(**{"trainer.max_epochs": 3}), experiment.run_dir)
    again.run()
    np.testing.assert_array_equal(again.data.split, experiment.data.split)


def test_a_split_file_of_one_class_needs_its_kind(plates, make_config, tmp_path):
    split = {"kind": "leave_one_group_out", "fold": "plate0"}
    data = build_data(make_config(**{"data.split": split}))
    path = tmp_path / "splits.csv"
    write_splits(path, data.cohort.sample_ids, data.cohort.groups, data.split)
    with pytest.raises(UsageError, match="split 'test' has no sample of class 'control'"):
        build_data(make_config(**{"data.split": {"file": str(path)}}))
    again = build_data(make_config(**{"data.split": {**split, "file": str(path)}}))
    np.testing.assert_array_equal(again.split, data.split)


REFUSED = {
    "a holdout has no folds; set data.split.kind to kfold, leave_one_group_out or": {"fold": 2},
    "a hash has no folds": {"kind": "hash", "fold": 2},
    "fold 5 is out of range: there are 5, from 0 to 4": {"kind": "kfold", "fold": 5},
    "data.split.folds: input should be greater than or equal to 2": {"kind": "kfold", "folds": 1},
    "no group is called 'plate9'; did you mean 'plate7'": {
        "kind": "leave_one_group_out",
        "fold": "plate9",
    },
    "needs batch, the column of the batches": {"kind": "leave_one_batch_out"},
    "folds goes with kind kfold, which is holdout": {"folds": 7},
    "folds goes with kind kfold, which is hash": {"kind": "hash", "folds": 3},
    "batch goes with kind leave_one_batch_out": {"batch": "site"},
    "no column 'sites' to take batches from; did you mean 'site'": {
        "kind": "leave_one_batch_out",
        "batch": "sites",
    },
    "group 'plate0' stands in several batches of 'sex': F, M": {
        "kind": "leave_one_batch_out",
        "batch": "sex",
    },
    "no fold is called 'first'": {"kind": "kfold", "fold": "first"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_split_that_cannot_be_is_refused_in_a_line(plates, make_config, message):
    with pytest.raises(UsageError) as caught:
        build_data(make_config(**{"data.split": REFUSED[message]}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["holdout", "kfold"])
def test_numbers_taken_for_classes_are_always_refused(cohort_dir, make_config, kind):
    config = make_config(
        **{
            "data.label": "age",
            "data.labels": None,
            "data.numeric": ["CRP"],
            "data.split.kind": kind,
        }
    )
    cohort = read_cohort(config.data)
    with pytest.raises(UsageError, match="to regress them set data\\.task to regression"):
        split_cohort(cohort, config.data, None)


# Real cohorts


def test_each_plate_of_the_hcc_cohort_can_be_left_out(real_data):
    root, labels = real_data / "hcc_serum_glycome_maldi", {"HCC": 1, "LC": 0, "CHB": 0}
    cohort = Cohort.read(root, labels=labels)
    for kind, count in (("leave_one_group_out", {}), ("kfold", {"folds": 3})):
        settings = check_config({"data": {"split": {"kind": kind, **count}}}).data
        folds = make_folds(cohort, settings)
        assert len(folds.names) == (3 if count else 6)
        for number in range(len(folds.names)):
            split = folds.split(number, cohort.targets, cohort.groups, 0.2, 0)
            assert all(len(set(split[cohort.groups == g])) == 1 for g in set(cohort.groups))
            assert all(set(cohort.targets[split == side]) == {0, 1} for side in SUBSETS)
