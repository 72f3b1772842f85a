from __future__ import annotations

import gzip
import socket
import sys
from typing import Any

import numpy as np
import pytest

from datasets.readers.mzml import MzmlReader
from tests.datasets.readers.raw_files import Spectrum, write_mzml

PROFILE = Spectrum([100.0, 100.5, 101.0], [0.0, 7.0, 1.0])
PEAKS = Spectrum([100.25], [9.0], level=2, kind="centroid spectrum")


def test_spectra_of_the_chosen_level_are_read_in_order(tmp_path, read):
    path = write_mzml(tmp_path / "S1.mzML", [PROFILE, PEAKS, PROFILE])
    scans = read(MzmlReader(), path)
    assert [(scan.sample_id, scan.scan) for scan in scans] == [("S1", "0"), ("S1", "2")]
    assert scans[0].mz.tolist() == PROFILE.mz
    assert scans[0].intensity.tolist() == PROFILE.intensity
    assert scans[0].centroid is False
    assert scans[1].details == {"native_id": "scan=3", "rt_minutes": "2"}
    (peaks,) = read(MzmlReader(ms_level=2), path)
    assert peaks.centroid is True
    assert (peaks.mz.tolist(), peaks.intensity.tolist()) == ([100.25], [9.0])


def test_a_compressed_file_reads_the_same(tmp_path, read):
    path = write_mzml(tmp_path / "S1.mzML", [PROFILE])
    packed = tmp_path / "S1.mzML.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (scan,) = read(MzmlReader(), packed)
    assert scan.sample_id == "S1"
    assert scan.intensity.tolist() == PROFILE.intensity


def test_a_spectrum_without_a_point_is_an_empty_scan(tmp_path, read):
    (scan,) = read(MzmlReader(), write_mzml(tmp_path / "S1.mzML", [Spectrum([], [])]))
    assert scan.points == 0


def test_unknown_terms_are_read_without_the_network(tmp_path, read, monkeypatch):
    asked = []

    def refuse(*arguments, **settings):
        asked.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    path = write_mzml(tmp_path / "S1.mzML", [PROFILE])
    path.write_text(
        path.read_text().replace(
            '<scanList count="1">',
            '<cvParam cvRef="MS" accession="MS:1999999" name="new" value="3"/><scanList count="1">',
        )
    )
    assert len(read(MzmlReader(), path)) == 1
    assert asked == []


def test_it_reads_what_pyteomics_reads(real_data, read):
    mzml = pytest.importorskip("pyteomics.mzml")
    path = real_data / "raw_formats" / "example.mzML"
    scans = read(MzmlReader(), path)
    with mzml.MzML(str(path)) as spectra:
        expected = [spectrum for spectrum in spectra if spectrum["ms level"] == 1]
    assert len(scans) == len(expected) == 2
    for scan, spectrum in zip(scans, expected, strict=True):
        np.testing.assert_array_equal(scan.mz, spectrum["m/z array"])
        np.testing.assert_array_equal(scan.intensity, spectrum["intensity array"])


# What is refused, in one line each


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path, refusal, share):
    path = write_mzml(tmp_path / "S1.mzML", [PROFILE] * 20)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "S1.mzML is damaged after" in refusal(MzmlReader(), path)


def test_a_truncated_compressed_file_is_refused(tmp_path, refusal):
    path = write_mzml(tmp_path / "S1.mzML", [PROFILE] * 20)
    packed = tmp_path / "S1.mzML.gz"
    packed.write_bytes(gzip.compress(path.read_bytes())[:-200])
    assert "is damaged" in refusal(MzmlReader(), packed)


REFUSED: dict[str, dict[str, Any]] = {
    "holds 2 spectra, its header promises 3": {"promised": 3, "spectra": [PROFILE] * 2},
    "no spectrum of MS level 1 (spectra by level: 2: 1); choose with --ms-level": {
        "spectra": [PEAKS]
    },
    "spectrum 1: the axis falls, point 1 is 1 after 2; it falls throughout: reverse": {
        "spectra": [PROFILE, Spectrum([2.0, 1.0], [1.0, 1.0])]
    },
    "spectrum 0: intensity inf at point 1": {"spectra": [Spectrum([1.0, 2.0], [1.0, np.inf])]},
    "spectrum 0: 2 points of the axis, but 1 intensities": {
        "spectra": [Spectrum([1.0, 2.0], [1.0])]
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_damaged_spectrum_is_refused(tmp_path, refusal, message):
    assert message in refusal(MzmlReader(), write_mzml(tmp_path / "S1.mzML", **REFUSED[message]))


CHANGED = {
    "spectrum 0 holds 3 points, its header promises 4": (
        'defaultArrayLength="3"',
        'defaultArrayLength="4"',
    ),
    "spectrum 0 has no arrays of m/z and intensity": ('name="m/z array"', 'name="time array"'),
    "is damaged after 0 spectra": ("<binary>", "<binary>AAAA"),
    "spectrum 0, cannot be read": ('name="zlib compression"', 'name="no compression"'),
    "declares a document type": (
        "<mzML ",
        '<!DOCTYPE mzML [<!ENTITY a "b">]><mzML ',
    ),
}


@pytest.mark.parametrize("message", CHANGED)
def test_a_damaged_text_is_refused(tmp_path, refusal, message):
    path = write_mzml(tmp_path / "S1.mzML", [PROFILE])
    before, after = CHANGED[message]
    path.write_text(path.read_text().replace(before, after))
    assert message in refusal(MzmlReader(), path)


def test_a_missing_package_is_named_with_its_extra(tmp_path, refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyteomics.mzml", None)
    said = refusal(MzmlReader(), write_mzml(tmp_path / "S1.mzML", [PROFILE]))
    assert "mzML needs the package pyteomics" in said
    assert "'scanfire[import]'" in said
