from __future__ import annotations

import hashlib
import json
import os
import time

import pytest

from datasets.cohort import checksums as file_digests
from datasets.cohort.checksums import ChecksumCache, file_sha256


@pytest.fixture
def count(monkeypatch):
    """Count how often something is hashed; every file is large and long settled."""
    monkeypatch.setattr(file_digests, "REMEMBERED_FROM_BYTES", 1)
    monkeypatch.setattr(file_digests, "SETTLED_AFTER_S", 0.0)
    hashed = []

    def measure(path):
        hashed.append(path)
        return file_sha256(path)

    return hashed, measure


def write(path, content=b"abc"):
    path.write_bytes(content)
    time.sleep(0.02)  # so that the file is older than the next look at the clock
    return path


def test_an_unchanged_file_is_hashed_once(tmp_path, count):
    hashed, measure = count
    path = write(tmp_path / "spectra.npy")
    expected = hashlib.sha256(b"abc").hexdigest()
    for _ in range(3):
        assert ChecksumCache(tmp_path / "memory").sha256(path, measure) == expected
    assert len(hashed) == 1


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_changed_file_of_old_size_and_time_is_hashed_again(tmp_path, count, keep_time):
    hashed, measure = count
    path, memory = write(tmp_path / "spectra.npy"), ChecksumCache(tmp_path / "memory")
    memory.sha256(path, measure)
    then = path.stat()
    write(path, b"abd")
    if keep_time:
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert memory.sha256(path, measure) == hashlib.sha256(b"abd").hexdigest()
    assert len(hashed) == 2


def test_another_file_of_that_name_is_hashed_again(tmp_path, count):
    hashed, measure = count
    path, memory = write(tmp_path / "a"), ChecksumCache(tmp_path / "memory")
    memory.sha256(path, measure)
    os.replace(write(tmp_path / "b", b"abd"), path)
    assert memory.sha256(path, measure) == hashlib.sha256(b"abd").hexdigest()
    assert memory.sha256(write(tmp_path / "c"), measure) == hashlib.sha256(b"abc").hexdigest()
    assert len(hashed) == 3


def test_only_verify_hashes_a_remembered_file_again(tmp_path, count):
    hashed, measure = count
    path, folder = write(tmp_path / "spectra.npy"), tmp_path / "memory"
    digest = ChecksumCache(folder).sha256(path, measure)
    (entry,) = folder.iterdir()
    forged = json.loads(entry.read_text()) | {"sha256": "forged"}
    entry.write_text(json.dumps(forged))
    assert ChecksumCache(folder).sha256(path, measure) == "forged"
    assert ChecksumCache(folder, verify=True).sha256(path, measure) == digest
    assert ChecksumCache(folder).sha256(path, measure) == digest
    assert len(hashed) == 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, count, monkeypatch):
    """It may be written again within the same tick of its clock."""
    hashed, measure = count
    monkeypatch.setattr(file_digests, "SETTLED_AFTER_S", 60.0)
    path, memory = write(tmp_path / "spectra.npy"), ChecksumCache(tmp_path / "memory")
    memory.sha256(path, measure)
    memory.sha256(path, measure)
    assert len(hashed) == 2


def test_a_file_changed_while_hashed_is_not_remembered(tmp_path, count):
    _, measure = count
    path, memory = write(tmp_path / "spectra.npy"), ChecksumCache(tmp_path / "memory")

    def disturbed(path):
        digest = measure(path)
        write(path, b"abcd")
        return digest

    memory.sha256(path, disturbed)
    assert memory.sha256(path, measure) == hashlib.sha256(b"abcd").hexdigest()


def test_small_files_and_refused_ones_are_not_remembered(tmp_path, count, monkeypatch):
    hashed, measure = count
    path, memory = write(tmp_path / "samples.csv"), ChecksumCache(tmp_path / "memory")

    def refuse(path):
        raise ValueError("NaN")

    with pytest.raises(ValueError, match="NaN"):
        memory.sha256(path, refuse)
    monkeypatch.setattr(file_digests, "REMEMBERED_FROM_BYTES", 1000)
    memory.sha256(path, measure)
    memory.sha256(path, measure)
    assert len(hashed) == 2
    assert not (tmp_path / "memory").exists()


def test_a_damaged_or_read_only_cache_only_costs_time(tmp_path, count):
    hashed, measure = count
    path, folder = write(tmp_path / "spectra.npy"), tmp_path / "memory"
    digest = ChecksumCache(folder).sha256(path, measure)
    (entry,) = folder.iterdir()
    entry.write_text('["half')
    assert ChecksumCache(folder).sha256(path, measure) == digest
    (tmp_path / "file").touch()
    assert ChecksumCache(tmp_path / "file").sha256(path, measure) == digest
    assert ChecksumCache(None).sha256(path, measure) == digest
    assert len(hashed) == 4
