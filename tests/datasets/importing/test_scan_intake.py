from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.importing.choices import REASONS
from datasets.importing.imported_cohort import ImportRoles
from datasets.importing.scan_intake import SampleIndex, ScanFilter, ScanIntake
from datasets.readers import Naming, RawScan

AXIS = "0:4:1"


def scan_of(mz, intensity, scan="0", centroid=False, **columns):
    values = np.array(mz, dtype=float), np.array(intensity, dtype=float)
    return RawScan("S1", scan, *values, f"scan {scan}", centroid=centroid, columns=columns)


def take(intake, scan, source="raw/S1.txt"):
    return intake.take(scan, source, one_scan_a_file=True)


def test_a_scan_becomes_a_spectrum_and_a_record():
    record, spectrum = take(ScanIntake(AXIS), scan_of([1, 1.2, 9], [2, 4, 8], spot="A1"))
    assert spectrum.dtype == np.float32
    assert spectrum.tolist() == [0, 3, 0, 0]
    assert (record.sample_id, record.source, record.columns) == ("S1", "raw/S1.txt", {"spot": "A1"})
    assert (record.tic, record.low, record.high) == (6.0, 1.0, 9.0)
    assert (record.empty_bins, record.zero, record.left_out) == (3, False, None)


def test_profiles_are_averaged_and_peaks_summed_by_default():
    points = [1, 1.2], [2, 4]
    assert take(ScanIntake(AXIS), scan_of(*points))[1].tolist()[1] == 3
    assert take(ScanIntake(AXIS), scan_of(*points, centroid=True))[1].tolist()[1] == 6
    assert take(ScanIntake(AXIS, "max"), scan_of(*points, centroid=True))[1].tolist()[1] == 4


def test_profiles_and_peaks_are_not_mixed_by_chance():
    intake = ScanIntake(AXIS)
    take(intake, scan_of([1], [1], "0"))
    with pytest.raises(CohortError, match="scan 1 is a list of peaks, the scans before are profil"):
        take(intake, scan_of([1], [1], "1", centroid=True))
    chosen = ScanIntake(AXIS, "max")
    take(chosen, scan_of([1], [1], "0"))
    take(chosen, scan_of([1], [1], "1", centroid=True))


def test_a_scan_that_is_left_out_has_a_record_but_no_spectrum():
    intake = ScanIntake(AXIS, scan_filter=ScanFilter(["empty"]))
    record, spectrum = take(intake, scan_of([9], [1]))
    assert (record.left_out, spectrum) == ("empty", None)
    assert list(intake.index.samples) == ["S1"]


def test_a_scan_outside_of_the_axis_is_refused():
    with pytest.raises(CohortError, match=r"covers 400 to 4000, nothing of the axis \(0 to 3\)"):
        take(ScanIntake(AXIS), scan_of([400, 4000], [1, 1]))


def test_a_scan_without_points_is_kept_as_zeros():
    record, spectrum = take(ScanIntake(AXIS), scan_of([], []))
    assert spectrum.tolist() == [0, 0, 0, 0]
    assert (record.zero, record.low) == (True, None)


def test_the_first_scan_is_named_and_its_roles_checked():
    intake = ScanIntake(AXIS, naming=Naming(sample=r"S\d"), roles=ImportRoles(label="spot"))
    record, _ = take(intake, scan_of([1], [1], spot="A1"), "raw/S7.txt")
    assert (record.sample_id, record.scan) == ("S7", "raw/S7.txt")
    with pytest.raises(CohortError, match="no column 'plate' for the role group"):
        take(ScanIntake(AXIS, roles=ImportRoles(group="plate")), scan_of([1], [1], spot="A1"))


def test_intensities_beyond_float32_are_refused():
    with pytest.raises(CohortError, match="beyond float32"):
        take(ScanIntake(AXIS), scan_of([1], [1e39]))


@pytest.mark.parametrize("axis", ["own", AXIS])
def test_another_intake_goes_on_as_the_first_had_decided(axis):
    first = ScanIntake(axis)
    record, _ = take(first, scan_of([1, 2], [1, 1], "0"))
    second = ScanIntake(axis)
    second.fix(first.fixed())
    second.remember(record)
    assert second.scans == 1
    with pytest.raises(CohortError, match="duplicate"):
        take(second, scan_of([1, 2], [1, 1], "0"))
    other = scan_of([1, 3], [1, 1], "1") if axis == "own" else scan_of([1], [1], "1", centroid=True)
    with pytest.raises(CohortError, match=r"mixed axes|a list of peaks"):
        take(second, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [(("0:4:1", "median"), "no aggregate 'median'"), (("own", "sum"), "leave the aggregate out")],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(CohortError, match=message):
        ScanIntake(*settings)


@pytest.fixture
def index():
    index = SampleIndex(["label"])
    index.add("S1", "0", "a.txt", {"label": "case", "day": "Monday"})
    return index


def test_samples_keep_the_order_in_which_they_were_met(index):
    index.add("S0", "0", "b.txt", {"label": "control", "day": "Monday"})
    index.add("S1", "1", "c.txt", {"label": "case", "day": "Monday"})
    assert list(index.samples) == ["S1", "S0"]
    assert index.samples["S1"] == {"label": "case", "day": "Monday"}


def test_of_what_a_samples_scans_say_differently_it_has_no_value(index):
    for number, day in enumerate(["Friday", "Monday"], start=1):
        index.add("S1", str(number), "b.txt", {"label": "case", "day": day})
    assert index.samples["S1"] == {"label": "case", "day": ""}


def test_a_decisive_column_is_one_value(index):
    with pytest.raises(CohortError, match=r"two values of 'label': 'case' and, in b\.txt, 'con"):
        index.add("S1", "1", "b.txt", {"label": "control"})


@pytest.mark.parametrize(
    ("file", "where"), [("a.txt", "a.txt, twice"), ("b.txt", "a.txt and b.txt")]
)
def test_a_scan_of_the_same_name_is_a_duplicate(index, file, where):
    with pytest.raises(CohortError, match="duplicate: sample 'S1', scan '0'") as caught:
        index.add("S1", "0", file, {})
    assert where in str(caught.value)


def scan_with(intensity, centroid=None):
    values = np.array(intensity, dtype=float)
    return RawScan("S1", "0", np.arange(len(values)), values, "here", centroid=centroid)


def reason(scan_filter, intensity, **kind):
    scan = scan_with(intensity, **kind)
    return scan_filter.reason(scan, scan.intensity)


def test_without_reasons_nothing_is_left_out():
    nothing = ScanFilter()
    assert reason(nothing, [0, 0]) is None
    assert not nothing.outlying(np.array([1.0, 1e9])).any()
    assert nothing.plain() == {}


def test_what_is_nothing_but_0_is_empty():
    chosen = ScanFilter(["empty"])
    assert reason(chosen, [0, 0]) == "empty"
    assert reason(chosen, []) == "empty"
    assert reason(chosen, [0, -1]) is None


def test_a_top_that_was_cut_off_is_saturation_and_a_peak_is_not():
    chosen = ScanFilter(["saturated"])
    assert reason(chosen, [1, 9, 9, 9, 2]) == "saturated"
    assert reason(chosen, [9, 9, 1, 9, 9]) is None
    assert reason(chosen, [5, 5, 5, 9, 1]) is None
    assert reason(chosen, [0, 0, 0, 0]) is None
    assert reason(chosen, [9, 9, 9], centroid=True) is None
    assert reason(chosen, []) is None


def test_a_ceiling_is_reached_by_one_point():
    chosen = ScanFilter(["saturated"], ceiling=100.0)
    assert reason(chosen, [1, 100, 3]) == "saturated"
    assert reason(chosen, [99, 99, 99]) is None


def test_an_outlying_ion_current_is_found_by_the_spread():
    tic = np.exp(np.random.default_rng(0).normal(0.0, 0.2, 200))
    tic[[3, 50, 120]] = [50.0, 0.01, 0.0]
    outlying = ScanFilter(["tic"]).outlying(tic)
    assert np.flatnonzero(outlying).tolist() == [3, 50, 120]
    assert not ScanFilter(["tic"], spread=5000.0).outlying(tic).any()


def test_ion_currents_that_are_all_but_alike_are_no_outliers():
    tic = np.ones(50)
    tic[:3] = [1.001, 0.97, 1.2]
    assert np.flatnonzero(ScanFilter(["tic"]).outlying(tic)).tolist() == [2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reasons": ["emtpy"]}, "did you mean 'empty'"),
        ({"ceiling": 5.0}, "needs the filter 'saturated'"),
        ({"reasons": REASONS, "spread": 0.0}, "above 0"),
        ({"reasons": REASONS, "spread": float("nan")}, "above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(CohortError) as caught:
        ScanFilter(**settings)
    assert message in str(caught.value)
