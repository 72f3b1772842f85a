from __future__ import annotations

import hashlib
import pickle
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datasets.cohort.cohort import Cohort
from datasets.errors import CohortError
from datasets.splits import read_splits, write_splits


def set_cell(column, row, value):
    """Return a change of a table: one cell, whatever the column's type."""

    def change(table):
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


# What is read


def test_what_was_written_is_read(write_cohort, tmp_path):
    root = write_cohort(tmp_path / "trial")
    cohort = Cohort.read(root, numeric=["age", "crp"], categorical=["sex"])
    written = pd.read_csv(root / "samples.csv", dtype={"sample_id": str})
    assert cohort.root == root
    assert cohort.sample_ids == written["sample_id"].tolist()
    assert cohort.groups.tolist() == written["group"].tolist()
    assert cohort.samples["sex"].tolist() == written["sex"].tolist()
    np.testing.assert_array_equal(cohort.samples["age"], written["age"])
    assert cohort.samples["age"].isna().sum() == 2
    assert cohort.class_names == ["A", "B", "C"]
    assert [cohort.class_names[target] for target in cohort.targets] == written["label"].tolist()
    assert cohort.targets.dtype == np.int64
    assert cohort.excluded == {}
    assert cohort.spec_len == 32
    np.testing.assert_array_equal(cohort.spectra, np.load(root / "spectra.npy"))
    assert (cohort.numeric, cohort.categorical) == (["age", "crp"], ["sex"])


def test_spectra_stay_on_disk_and_read_only(write_cohort, tmp_path):
    cohort = Cohort.read(write_cohort(tmp_path))
    assert isinstance(cohort.spectra, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cohort.spectra[0, 0] = 1


def test_a_pickled_cohort_maps_its_spectra_again(write_cohort, tmp_path):
    root = write_cohort(
        tmp_path, spectra=lambda x: np.resize(x, (len(x), 5000)), axis=np.arange(5000.0)
    )
    cohort = Cohort.read(root)
    pickled = pickle.dumps(cohort)
    assert len(pickled) < cohort.spectra.nbytes / 4
    again = pickle.loads(pickled)
    assert isinstance(again.spectra, np.memmap)
    np.testing.assert_array_equal(again.spectra, cohort.spectra)


def test_names_that_look_like_numbers_stay_text(write_cohort, tmp_path):
    root = write_cohort(
        tmp_path, samples=lambda s: s.assign(group=[f"{i // 2:02d}" for i in s.index])
    )
    cohort = Cohort.read(root)
    assert cohort.sample_ids[7] == "007"
    assert cohort.groups[2] == "01"


def test_none_is_a_category_but_a_label_only_where_it_is_listed(write_cohort, tmp_path):
    root = write_cohort(
        tmp_path, samples=lambda s: s.assign(label=["None", "B"] * 12, sex=["None", "m"] * 12)
    )
    cohort = Cohort.read(root, {"B": 1, "None": 0}, categorical=["sex"])
    assert cohort.class_names == ["None", "B"]
    assert cohort.samples["sex"].isna().sum() == 0
    assert cohort.missing == {}
    with pytest.raises(CohortError, match=r"'B' kept leaves 1 class, .*\(labels: B\)"):
        Cohort.read(root)


def test_cells_without_a_label_are_counted_by_what_stands_there(write_cohort, tmp_path):
    cells = ["NA", "None", "", "NaN"] + ["control", "case"] * 10
    root = write_cohort(tmp_path, samples=lambda s: s.assign(label=cells))
    cohort = Cohort.read(root)
    assert cohort.class_names == ["control", "case"]
    assert len(cohort.sample_ids) == 20
    assert cohort.excluded == {"(missing)": 4}
    said = "samples without a label: 4, left out (NA 1, None 1, empty 1, NaN 1)"
    assert said in cohort.describe().splitlines()


def test_scans_stand_in_their_order_whatever_the_order_of_rows(write_cohort, tmp_path):
    order = np.random.default_rng(1).permutation(48)
    root = write_cohort(tmp_path, scans=lambda s: s.iloc[order], spectra=lambda x: x[order])
    straight = Cohort.read(write_cohort(tmp_path / "straight"))
    shuffled = Cohort.read(root)
    for rows, others in zip(shuffled.scan_rows, straight.scan_rows, strict=True):
        np.testing.assert_array_equal(shuffled.spectra[rows], straight.spectra[others])


def test_scans_are_ordered_as_numbers_or_as_text(write_cohort, tmp_path):
    def one_sample(names):
        def change(scans):
            scans = scans.astype({"scan": object})
            scans.loc[scans["sample_id"] == "002", "scan"] = names
            return scans

        return change

    numbers = Cohort.read(write_cohort(tmp_path / "a", scans=one_sample([10, 9, 2])))
    assert numbers.scan_rows[2].tolist() == [5, 4, 3]
    names = Cohort.read(write_cohort(tmp_path / "b", scans=one_sample(["r2", "r1", "r3"])))
    assert names.scan_rows[2].tolist() == [4, 3, 5]


def test_scan_rows_follow_the_kept_samples(write_cohort, tmp_path):
    root = write_cohort(tmp_path)
    cohort = Cohort.read(root, labels={"B": 0, "C": 1})
    scans = pd.read_csv(root / "scans.csv", dtype=str)
    for name, rows in zip(cohort.sample_ids, cohort.scan_rows, strict=True):
        assert rows.dtype == np.int64
        assert scans["sample_id"].iloc[rows].eq(name).all()
        assert len(rows) == scans["sample_id"].eq(name).sum()


def test_what_is_left_out_may_be_incomplete(write_cohort, tmp_path, refusal):
    def spoil(samples):
        samples = samples.astype({"age": object})
        samples.loc[3, ["group", "age"]] = ["", "n.d."]
        return samples

    root = write_cohort(
        tmp_path,
        samples=spoil,
        scans=lambda s: s[s["sample_id"] != "003"],
        spectra=lambda x: x[1:],
    )
    assert Cohort.read(root, labels={"A": 0, "B": 1}, numeric=["age"]).excluded == {"C": 6}
    assert "no 'group'" in refusal(root, numeric=["crp"])


def test_describe_says_what_is_there(write_cohort, tmp_path):
    cohort = Cohort.read(write_cohort(tmp_path / "trial"), labels={"A": 0, "B": 1}, numeric=["age"])
    said = cohort.describe()
    for part in ["trial", "18 samples", "36 scans", "A 12, B 6", "groups: 12", "age", "C 6"]:
        assert part in said


def test_fingerprint_is_each_files_checksum(write_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.cohort.checksums.HASH_BYTES", 100)
    cohort = Cohort.read(write_cohort(tmp_path, roles={"numeric": ["age"]}))
    found = cohort.fingerprint()
    names = ["samples.csv", "scans.csv", "spectra.npy", "axis.npy", "cohort.yaml"]
    assert list(found) == names
    for name in names:
        assert found[name] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_large_spectra_are_checked_when_hashed_not_when_opened(
    write_cohort, tmp_path, monkeypatch, refusal
):
    def spoil(spectra):
        spectra[17, 5] = np.inf
        return spectra

    root = write_cohort(tmp_path, spectra=spoil)
    line = refusal(root)
    assert "spectra.npy, row 17 (sample '008', scan 2): inf at point 5; finite" in line
    monkeypatch.setattr("datasets.cohort.cohort.CHECKED_AT_ONCE_BYTES", 0)
    cohort = Cohort.read(root)
    with pytest.raises(CohortError) as caught:
        cohort.fingerprint()
    assert str(caught.value) == line


@pytest.mark.parametrize("order", ["C", "F"])
def test_spectra_of_any_layout_are_hashed_as_their_file(write_cohort, tmp_path, order):
    root = write_cohort(tmp_path, spectra=lambda x: np.asarray(x, order=order))
    with (root / "spectra.npy").open("ab") as file:
        file.write(b"more")  # which NumPy passes over
    expected = hashlib.sha256((root / "spectra.npy").read_bytes()).hexdigest()
    assert Cohort.read(root).fingerprint()["spectra.npy"] == expected


@pytest.mark.slow
def test_a_large_cohort_opens_without_reading_its_spectra(tmp_path):
    """100,000 samples of 8 scans of 2,048 points; the 6.5 GB are a hole in the file."""
    samples, scans, points = 100_000, 8, 2048
    names = [f"P{number:06d}" for number in range(samples)]
    rows = [f"{n},g{i // 2},{'AB'[i % 2]},{i % 70},{i % 9 / 8}" for i, n in enumerate(names)]
    (tmp_path / "samples.csv").write_text("\n".join(["sample_id,group,label,age,crp", *rows]))
    listed = [f"{name},{scan}" for name in names for scan in range(scans)]
    (tmp_path / "scans.csv").write_text("\n".join(["sample_id,scan", *listed]))
    np.save(tmp_path / "axis.npy", np.arange(points, dtype=np.float32))
    shape = (samples * scans, points)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with (tmp_path / "spectra.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    began = time.process_time()
    cohort = Cohort.read(tmp_path, labels={"A": 0, "B": 1}, numeric=["age", "crp"])
    assert time.process_time() - began < 2  # it takes some 0.9 s; other programs do not count
    assert len(cohort.scan_rows) == samples
    assert cohort.spectra.nbytes > 6.5e9


# Covariates alone


def without_spectra(root):
    for name in ("spectra.npy", "scans.csv", "axis.npy"):
        (root / name).unlink()
    return root


def test_covariates_alone_have_one_scan_of_no_points_each(write_cohort, tmp_path):
    root = without_spectra(write_cohort(tmp_path))
    cohort = Cohort.read(root, labels={"A": 0, "C": 1}, numeric=["age"], categorical=["sex"])
    assert not cohort.has_spectra
    assert (cohort.spec_len, cohort.spectra.shape) == (0, (24, 0))
    assert [rows.tolist() for rows in cohort.scan_rows] == [[n] for n in range(24) if n % 4 != 1]
    assert "18 samples, covariates alone, no spectra" in cohort.describe()
    assert list(cohort.fingerprint()) == ["samples.csv"]
    again = pickle.loads(pickle.dumps(cohort))
    assert again.spectra[np.concatenate(again.scan_rows)].shape == (18, 0)


def test_spectra_are_missed_where_only_a_part_of_them_is_gone(write_cohort, tmp_path, refusal):
    root = write_cohort(tmp_path)
    (root / "spectra.npy").unlink()
    (root / "axis.npy").unlink()
    assert "no file" in refusal(root, numeric=["age"])


def test_a_cohort_without_spectra_and_covariates_is_refused(write_cohort, tmp_path, refusal):
    root = without_spectra(write_cohort(tmp_path))
    assert "no column of samples.csv is named as a covariate" in refusal(root)


# What is refused, in one line each

REFUSED_PARTS: dict[str, dict[str, Any]] = {
    "duplicate sample_id '004'": {"samples": set_cell("sample_id", 5, "004")},
    "empty sample_id in row 6": {"samples": set_cell("sample_id", 5, "")},
    "sample '005' has no 'group'": {"samples": set_cell("group", 5, np.nan)},
    "'unknown' of sample '005' is not a finite number": {"samples": set_cell("age", 5, "unknown")},
    "'inf' of sample '006' is not a finite number": {"samples": set_cell("age", 6, "inf")},
    "numeric covariate 'age'": {"samples": lambda s: s.drop(columns="age")},
    "has no label column 'label'; did you mean 'labels'?": {
        "samples": lambda s: s.rename(columns={"label": "labels"})
    },
    "has no group column 'group'; did you mean 'groups'?": {
        "samples": lambda s: s.rename(columns={"group": "groups"})
    },
    "has no needed column 'sample_id'": {"samples": lambda s: s.drop(columns="sample_id")},
    "has no needed column 'scan'": {"scans": lambda s: s.drop(columns="scan")},
    "has no rows": {"samples": lambda s: s.iloc[:0]},
    "unknown sample '01X' (1 such rows)": {"scans": set_cell("sample_id", 7, "01X")},
    "no scan of sample '003' (1 of 24 samples have none)": {
        "scans": lambda s: s[s["sample_id"] != "003"],
        "spectra": lambda x: x[1:],
    },
    "sample '001' has scan '0' more than once": {"scans": set_cell("scan", 2, 0)},
    "no scan number in row 3": {"scans": set_cell("scan", 2, "")},
    "has 47 spectra, but scans.csv has 48 rows": {"spectra": lambda x: x[1:]},
    "spectra of 31 points, but axis.npy has 32": {"spectra": lambda x: x[:, 1:]},
    "holds float64 [48, 32]; float32": {"spectra": lambda x: x.astype(np.float64)},
    "holds float32 [1536]; float32 [scans, points]": {"spectra": lambda x: x.ravel()},
    "Python objects": {"spectra": lambda x: x.astype(object)},
    "not strictly increasing: point 3 is": {"axis": lambda a: a[[0, 1, 2, 2, *range(4, 32)]]},
    "reverse the axis": {"axis": lambda a: a[::-1].copy()},
    "holds nan at point 4": {"axis": lambda a: np.where(np.arange(32) == 4, np.nan, a)},
    "holds <U1 [2]": {"axis": np.array(["a", "b"])},
    "holds float32 [0]; float32 [L]": {"axis": lambda a: a[:0], "spectra": lambda x: x[:, :0]},
    "unknown role 'numerics'; did you mean 'numeric'?": {"roles": {"numerics": ["age"]}},
    "categorical is 'sex'; a list": {"roles": {"categorical": "sex"}},
    "label is ['label']; one column's name": {"roles": {"label": ["label"]}},
}


@pytest.mark.parametrize("message", REFUSED_PARTS)
def test_a_broken_folder_is_refused(write_cohort, tmp_path, message, refusal):
    root = write_cohort(tmp_path, **REFUSED_PARTS[message])
    assert message in refusal(root, numeric=["age"])


# Real cohorts


def test_the_hcc_cohort_is_read(real_data):
    cohort = Cohort.read(
        real_data / "hcc_serum_glycome_maldi",
        labels={"HCC": 1, "LC": 0, "CHB": 0},
        numeric=["age", "AST", "ALT", "GGT", "ALB", "TBIL", "TP", "AFP"],
        categorical=["sex"],
    )
    assert cohort.class_names == ["LC+CHB", "HCC"]
    assert np.bincount(cohort.targets).tolist() == [217, 229]
    assert cohort.excluded == {"HC": 86}
    assert len(set(cohort.groups)) == 6
    assert cohort.spec_len == 3000
    assert "446 samples, 446 scans" in cohort.describe()


@pytest.mark.parametrize(
    ("name", "samples", "scans"), [("species_maldi", 32, 3), ("fiedler2009_subset_maldi", 8, 2)]
)
def test_cohorts_with_replicates_are_read(real_data, name, samples, scans):
    cohort = Cohort.read(real_data / name)
    assert [len(rows) for rows in cohort.scan_rows] == [scans] * samples
    assert len(cohort.spectra) == samples * scans


def test_names_that_look_like_numbers_or_missing_are_kept(write_cohort, tmp_path):
    odd = ["007", "7", "7.0", "1e5", "100000", "NA", "nan", "None", "null", "20240101120000001"]
    new = {f"{number:03d}": name for number, name in enumerate([*odd, "20240101120000002"])}

    def rename(table):
        return table.assign(sample_id=table["sample_id"].replace(new))

    root = write_cohort(tmp_path, samples=rename, scans=rename)
    cohort = Cohort.read(root, group="sample_id")
    assert cohort.sample_ids[: len(new)] == list(new.values())
    assert cohort.groups.tolist() == cohort.sample_ids
    split = np.array(["train", "val", "test"] * 8)
    write_splits(tmp_path / "splits.csv", cohort.sample_ids, cohort.groups, split)
    again = read_splits(tmp_path / "splits.csv", cohort.sample_ids, cohort.groups)
    assert again.tolist() == split.tolist()


def test_samples_are_read_without_their_targets(write_cohort, tmp_path):
    root = write_cohort(tmp_path)
    labelled = Cohort.read(root, numeric=["age"])
    table = pd.read_csv(root / "samples.csv", dtype=str, keep_default_na=False)
    table.drop(columns="label").to_csv(root / "samples.csv", index=False)
    cohort = Cohort.read(root, numeric=["age"], task="unlabelled")
    assert cohort.sample_ids == labelled.sample_ids
    assert (cohort.task, cohort.label, cohort.class_names) == ("unlabelled", [], [])
    assert cohort.targets.shape == (len(cohort.sample_ids), 0)
    assert f"{len(cohort.sample_ids)} samples" in cohort.describe()
