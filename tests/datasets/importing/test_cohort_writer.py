from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.importing.cohort_writer import CohortWriter

IDENTITY = {"axis": "0:3:1", "source": "raw"}
SPECTRA = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "cohort"


def begin(out, **identity):
    return CohortWriter(out, {**IDENTITY, **identity}, checkpoint_seconds=0.0)


def write(writer, rows):
    for row in rows:
        writer.append(SPECTRA[row])
        writer.note({"row": row})
        writer.scan_done()


def finish(writer, keep=None):
    keep = np.ones(writer.progress.rows, dtype=bool) if keep is None else np.array(keep)
    writer.finish(np.arange(3.0), keep)
    writer.publish()


def test_the_folder_appears_whole_and_nothing_stays_beside_it(out):
    writer = begin(out)
    write(writer, range(4))
    assert not out.exists()
    finish(writer)
    assert sorted(path.name for path in out.iterdir()) == ["axis.npy", "spectra.npy"]
    assert [path.name for path in out.parent.iterdir()] == ["cohort"]
    np.save(out.parent / "expected.npy", SPECTRA)
    assert (out / "spectra.npy").read_bytes() == (out.parent / "expected.npy").read_bytes()
    assert np.load(out / "axis.npy").dtype == np.float32


def test_spectra_can_be_left_out_when_all_are_known(out):
    writer = begin(out)
    write(writer, range(4))
    finish(writer, [True, False, False, True])
    np.testing.assert_array_equal(np.load(out / "spectra.npy"), SPECTRA[[0, 3]])


def test_a_cut_import_goes_on_from_its_last_checkpoint(out):
    cut = begin(out)
    write(cut, [0, 1])
    cut.append(SPECTRA[3])  # written, but not yet said to be done
    cut.note({"row": 3})
    cut.close()
    writer = begin(out)
    assert writer.continues
    assert (writer.progress.scans, writer.progress.rows) == (2, 2)
    assert [entry["row"] for entry in writer.entries()] == [0, 1]
    write(writer, [2, 3])
    finish(writer)
    np.testing.assert_array_equal(np.load(out / "spectra.npy"), SPECTRA)


@pytest.mark.parametrize("keep", [[True] * 4, [True, False, True, True]])
def test_an_import_that_is_cut_while_it_finishes_finishes_again(out, keep):
    cut = begin(out)
    write(cut, range(4))
    cut.file_done()
    cut.finish(np.arange(3.0), np.array(keep))
    cut.close()
    writer = begin(out)
    assert (writer.progress.files, writer.progress.scans, writer.progress.rows) == (1, 0, 4)
    finish(writer, keep)
    np.testing.assert_array_equal(np.load(out / "spectra.npy"), SPECTRA[keep])


def test_what_is_discarded_leaves_nothing(out):
    writer = begin(out)
    write(writer, [0])
    writer.discard()
    assert list(out.parent.iterdir()) == []


# What is refused, in one line each


def test_an_existing_folder_is_never_overwritten(out):
    out.mkdir()
    with pytest.raises(CohortError, match="exists; it is never overwritten"):
        begin(out)
    out.rmdir()
    writer = begin(out)
    write(writer, [0])
    out.mkdir()
    with pytest.raises(CohortError, match="exists; it is never overwritten"):
        finish(writer)
    assert list(out.iterdir()) == []


def test_another_import_is_not_gone_on_with(out):
    begin(out).close()
    with pytest.raises(CohortError, match="another axis: 0:3:1, now 0:9:1"):
        begin(out, axis="0:9:1")
    assert begin(out).progress.rows == 0


def test_a_folder_of_someone_else_is_left_alone(out):
    partial = out.with_name("cohort.partial")
    partial.mkdir()
    (partial / "precious.txt").write_text("mine")
    with pytest.raises(CohortError, match="is in the way"):
        begin(out)
    assert (partial / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["spectra.npy", "log.jsonl", "progress.json", "import.json"])
def test_a_damaged_partial_folder_is_refused(out, name):
    writer = begin(out)
    write(writer, range(4))
    writer.close()
    path = out.with_name("cohort.partial") / name
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(CohortError, match=r"is damaged.*; delete"):
        begin(out)
