from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import CohortError
from datasets.readers.bruker_flex import BrukerFlexReader, read_parameters, tof_to_mz
from tests.datasets.readers.raw_files import CALIBRATION, mz_to_tof, write_bruker

COUNTS = [3, 10, 0, 70000, 5]
MZ = np.geomspace(1.0, 30000.0, 200)


def test_an_acquisition_is_read_at_the_mz_of_its_calibration(tmp_path, read):
    (scan,) = read(BrukerFlexReader(), write_bruker(tmp_path / "patient7", COUNTS))
    assert scan.intensity.tolist() == COUNTS
    tof = mz_to_tof(scan.mz, *(CALIBRATION[name] for name in ("ML1", "ML2", "ML3")))
    np.testing.assert_allclose(tof, 19462 + 2 * np.arange(5), rtol=1e-12)
    assert scan.centroid is False


def test_names_and_columns_come_from_folders_and_acqu(tmp_path, read):
    fid = write_bruker(tmp_path / "patient7", COUNTS, spot="F9", replicate="3")
    (scan,) = read(BrukerFlexReader(), fid)
    assert (scan.sample_id, scan.scan) == ("patient7_F9", "3")
    assert scan.columns == {
        "label": "patient7",
        "spot": "F9",
        "instrument": "269944.1",
        "shots": "240",
        "acq_date": "2014-05-06",
    }


def test_without_a_position_the_folder_names_the_spot(tmp_path, read):
    fid = write_bruker(tmp_path / "patient7", COUNTS, spot="F9", PATCHNO="<>")
    assert read(BrukerFlexReader(), fid)[0].sample_id == "patient7_F9"


@pytest.mark.parametrize("order", ["<", ">"])
def test_counts_are_read_in_the_byte_order_that_is_said(tmp_path, read, order):
    (scan,) = read(BrukerFlexReader(), write_bruker(tmp_path / "a", COUNTS, order=order))
    assert scan.intensity.tolist() == COUNTS


def test_acqus_serves_where_there_is_no_acqu(tmp_path, read):
    assert read(BrukerFlexReader(), write_bruker(tmp_path / "a", COUNTS, acqu="acqus"))


def test_what_would_have_flown_before_mz_0_is_no_point(tmp_path, read):
    fid = write_bruker(tmp_path / "a", COUNTS, DELAY=CALIBRATION["ML2"] - 3)
    (scan,) = read(BrukerFlexReader(), fid)
    assert scan.intensity.tolist() == COUNTS[2:]


def test_parameters_lose_brackets_and_keep_further_lines(tmp_path):
    fid = write_bruker(tmp_path / "a", COUNTS, CMT1="<caf\xe9>")
    acqu = fid.with_name("acqu")
    acqu.write_bytes(acqu.read_text(encoding="utf-8").encode("latin-1"))
    parameters = read_parameters(acqu)
    assert parameters["CMT1"] == "caf\xe9"
    assert parameters["CALMR"] == "(0..3) 0 0 0 0"


# What is refused, in one line each


def test_a_fid_of_the_wrong_length_is_refused(tmp_path, refusal):
    fid = write_bruker(tmp_path / "a", COUNTS)
    fid.write_bytes(fid.read_bytes()[:-3])
    assert "holds 17 bytes; its acqu says 5 points (TD), which are 20" in refusal(
        BrukerFlexReader(), fid
    )


def test_a_fid_without_its_parameters_is_refused(tmp_path):
    fid = write_bruker(tmp_path / "a", COUNTS)
    fid.with_name("acqu").unlink()
    with pytest.raises(CohortError, match="1SLin/fid has no acqu or acqus beside it"):
        BrukerFlexReader().parts(fid)


REFUSED: dict[str, dict[str, Any]] = {
    "DELAY is missing in its acqu": {"DELAY": None},
    "ML1 is 'x' in its acqu": {"ML1": "x"},
    "BYTORDA is '7'": {"BYTORDA": 7},
    "ML1 0 and DW 2; both must be above 0": {"ML1": 0},
    "has no m/z for its last points": {"DELAY": 1e9},
    "uses high precision calibration (HPC)": {"HPClUse": "yes", "HPClOrd": 10},
    "uses cubic calibration (CTOF2)": {"NTBCal": "<V1.0CTOF2CalibrationConstants 1 2>"},
    "uses LIFT": {"SPType": 2},
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_acquisition_that_cannot_be_calibrated_is_refused(tmp_path, refusal, message):
    fid = write_bruker(tmp_path / "a", COUNTS, **REFUSED[message])
    assert message in refusal(BrukerFlexReader(), fid)


@pytest.mark.slow
@given(
    ml1=st.floats(1e5, 1e8),
    ml2=st.floats(-1000.0, 1000.0),
    ml3=st.one_of(st.just(0.0), st.floats(1e-6, 0.05), st.floats(-0.05, -1e-6)),
)
def test_the_published_equation_is_solved(ml1, ml2, ml3):
    # Beyond its turning point the parabola's other root is no flight time.
    turning = np.inf if ml3 >= 0 else (np.sqrt(1e12 / ml1) / (-2 * ml3)) ** 2
    mz = MZ[turning * 0.9 > MZ]
    tof = mz_to_tof(mz, ml1, ml2, ml3)
    np.testing.assert_allclose(tof_to_mz(tof, ml1, ml2, ml3), mz, rtol=1e-6)


def test_a_vanishing_curvature_loses_no_digits():
    tof = mz_to_tof(MZ, 5.4e6, 417.0, 0.0)
    straight = tof_to_mz(tof, 5.4e6, 417.0, 0.0)
    np.testing.assert_allclose(tof_to_mz(tof, 5.4e6, 417.0, 1e-15), straight, rtol=1e-12)


def test_where_there_is_no_solution_there_is_no_mz():
    assert np.isnan(tof_to_mz(np.array([1e9]), 5.4e6, 417.0, -0.015)).all()
