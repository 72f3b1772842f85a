from __future__ import annotations

import numpy as np
import pytest
from pyimzml.ImzMLParser import ImzMLParser
from pyimzml.ImzMLWriter import ImzMLWriter

from datasets.errors import CohortError
from datasets.readers.imzml import ImzmlReader

PIXELS = {(1, 1, 1): ([100.0, 200.0], [1.0, 2.0]), (2, 1, 1): ([150.0], [3.0])}


@pytest.fixture
def image(tmp_path):
    """A small image in processed mode: each pixel has an axis of its own."""
    path = tmp_path / "tissue.imzML"
    with ImzMLWriter(str(path), mode="processed", spec_type="centroid") as writer:
        for coordinates, (mz, intensity) in PIXELS.items():
            writer.addSpectrum(np.array(mz), np.array(intensity), coordinates)
    return path


def test_pixels_are_scans_with_their_places(image, read):
    scans = read(ImzmlReader(), image)
    assert [scan.scan for scan in scans] == ["0", "1"]
    assert {scan.sample_id for scan in scans} == {"tissue"}
    assert scans[1].details == {"x": "2", "y": "1", "z": "1"}
    assert [scan.centroid for scan in scans] == [True, True]
    for scan, (mz, intensity) in zip(scans, PIXELS.values(), strict=True):
        assert scan.mz.tolist() == mz
        assert scan.intensity.tolist() == intensity


def test_it_reads_what_pyimzml_reads(real_data, read):
    path = real_data / "raw_formats" / "Example_Continuous.imzML"
    scans = read(ImzmlReader(), path)
    with ImzMLParser(str(path)) as parser:
        assert len(scans) == len(parser.coordinates) == 9
        for index, scan in enumerate(scans):
            mz, intensity = parser.getspectrum(index)
            np.testing.assert_array_equal(scan.mz, mz)
            np.testing.assert_array_equal(scan.intensity, intensity)
            assert scan.centroid is False


# What is refused, in one line each


def test_numbers_that_end_early_are_refused(image, refusal):
    numbers = image.with_suffix(".ibd")
    numbers.write_bytes(numbers.read_bytes()[:-4])
    assert "tissue.imzML, pixel 1" in refusal(ImzmlReader(), image)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_truncated_description_is_refused(image, refusal, share):
    text = image.read_text()
    image.write_text(text[: int(len(text) * share)])
    assert "tissue.imzML is damaged" in refusal(ImzmlReader(), image)


def test_numbers_of_another_file_are_refused(image, refusal):
    numbers = image.with_suffix(".ibd")
    numbers.write_bytes(bytes(16) + numbers.read_bytes()[16:])
    assert "tissue.ibd belongs to another imzML file" in refusal(ImzmlReader(), image)


def test_a_description_without_numbers_is_refused(image, refusal):
    image.with_suffix(".ibd").unlink()
    assert "has no tissue.ibd beside it" in refusal(ImzmlReader(), image)
    with pytest.raises(CohortError, match=r"no tissue\.ibd"):
        ImzmlReader().parts(image)


def test_a_description_of_something_else_is_refused(image, refusal):
    image.write_text('<?xml version="1.0"?><mzML xmlns="http://psi.hupo.org/ms/mzml"></mzML>')
    assert "tissue.imzML is no complete imzML" in refusal(ImzmlReader(), image)


def test_both_files_are_parts_whatever_the_endings_case(image):
    image.with_suffix(".ibd").rename(image.with_suffix(".IBD"))
    assert [part.name for part in ImzmlReader().parts(image)] == ["tissue.imzML", "tissue.IBD"]
