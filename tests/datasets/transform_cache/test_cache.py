from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets import transform_cache
from datasets.cohort import ChecksumCache, file_sha256
from datasets.errors import UsageError
from datasets.transform_cache import NoRoomError, transformed_scans
from datasets.transforms import make_transforms

ROWS = np.array([3, 0, 5, 9, 40, 41, 42, 79])
NAMES = ["tic", "sqrt", "standardize"]


@pytest.fixture
def spectra(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).gamma(2.0, 100.0, (80, 64)).astype(np.float32)
    np.save(tmp_path / "spectra.npy", values)
    return np.load(tmp_path / "spectra.npy", mmap_mode="r")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Three scans a chunk, so that there are several."""
    monkeypatch.setattr(transform_cache, "CHUNK_BYTES", 3 * 64 * 4)


def cached(spectra: np.ndarray, folder: Path, said: list[str] | None = None, **changes: object):
    """Map the transformed scans; what is said is added to ``said``."""
    arguments: dict[str, Any] = {
        "rows": ROWS,
        "transforms": make_transforms(NAMES).fit(spectra),
        "fingerprint": "sha256 of the file",
        "workers": 0,
        **changes,
    }
    lines = [] if said is None else said
    return transformed_scans(spectra, folder=folder, say=lines.append, **arguments)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def only_entry(folder: Path) -> Path:
    (name,) = entries(folder)
    return folder / name


@pytest.mark.parametrize("names", [NAMES, ["snv"], [{"name": "crop", "params": {"low": 8}}]])
def test_it_holds_what_the_transforms_would_have_made(spectra, tmp_path, names):
    transforms = make_transforms(names).fit(spectra, axis=np.arange(64.0))
    found = cached(spectra, tmp_path / "cache", transforms=transforms)
    assert found.rows.tolist() == sorted(ROWS.tolist())
    assert isinstance(found.spectra, np.memmap)
    for row in ROWS:
        np.testing.assert_array_equal(
            found.spectra[found.places(np.array([row]))], transforms(spectra[row : row + 1])
        )


@pytest.fixture
def start_by():
    """Set how processes are started."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield lambda method: multiprocessing.set_start_method(method, force=True)
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
def test_processes_that_are_started_anew_find_all_they_need(spectra, tmp_path, start_by):
    start_by("fork")
    forked = cached(spectra, tmp_path / "fork", workers=1)
    start_by("spawn")
    spawned = cached(spectra, tmp_path / "spawn", workers=1)
    np.testing.assert_array_equal(forked.spectra, spawned.spectra)


def test_several_processes_write_the_same_as_one(spectra, tmp_path):
    alone, helped = (cached(spectra, tmp_path / f"{n}", workers=n) for n in (0, 2))
    np.testing.assert_array_equal(alone.spectra, helped.spectra)
    one, two = (json.loads((only_entry(tmp_path / n) / "manifest.json").read_text()) for n in "02")
    assert one == two
    assert one["sha256"] == file_sha256(only_entry(tmp_path / "2") / "scans.npy")


def test_it_is_computed_once(spectra, tmp_path):
    said: list[str] = []
    first = cached(spectra, tmp_path / "cache", said)
    assert len(said) == 1
    assert said[0].startswith("transforming 8 scans once (0.00 GiB, 1 process) into ")
    file = only_entry(tmp_path / "cache") / "scans.npy"
    before = file.stat()
    again = cached(spectra, tmp_path / "cache", said)
    np.testing.assert_array_equal(first.spectra, again.spectra)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert len(said) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "another"},
        {"rows": ROWS[:-1]},
        {"names": ["tic", "sqrt"]},
        {"names": ["tic", "sqrt", {"name": "standardize", "params": {"min_std": 0.5}}]},
        {"fit": slice(0, 10)},
    ],
)
def test_what_changes_the_result_is_an_entry_of_its_own(spectra, tmp_path, changes):
    first = cached(spectra, tmp_path / "cache")
    names, fit = changes.pop("names", NAMES), changes.pop("fit", slice(None))
    transforms = make_transforms(names).fit(spectra[fit])
    other = cached(spectra, tmp_path / "cache", transforms=transforms, **changes)
    assert len(entries(tmp_path / "cache")) == 2
    np.testing.assert_array_equal(
        other.spectra, transforms(np.array(spectra)[np.sort(changes.get("rows", ROWS))])
    )
    np.testing.assert_array_equal(first.spectra, cached(spectra, tmp_path / "cache").spectra)


def flip(entry: Path, at: int) -> None:
    with (entry / "scans.npy").open("r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def turn_round(entry: Path) -> None:
    header = (entry / "scans.npy").read_bytes()
    (entry / "scans.npy").write_bytes(
        header.replace(b"'fortran_order': False", b"'fortran_order': True ")
    )


def rename_identity(entry: Path) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest["identity"]["spectra"] = "of an older file"
    (entry / "manifest.json").write_text(json.dumps(manifest))


DAMAGES = {
    "a bit in the middle": (lambda entry: flip(entry, 1000), "changed since it was written"),
    "the last bit": (lambda entry: flip(entry, -1), "changed since it was written"),
    "the header": (lambda entry: flip(entry, 0), "magic string"),
    "rows for columns": (turn_round, "it holds float32"),
    "a file cut short": (lambda entry: os.truncate(entry / "scans.npy", 700), ""),
    "an empty file": (lambda entry: os.truncate(entry / "scans.npy", 0), ""),
    "no scans": (lambda entry: (entry / "scans.npy").unlink(), "No such file"),
    "no manifest": (lambda entry: (entry / "manifest.json").unlink(), "No such file"),
    "no JSON": (lambda entry: (entry / "manifest.json").write_text("{"), ""),
    "other JSON": (lambda entry: (entry / "manifest.json").write_text("[]"), ""),
    "of other scans": (rename_identity, "of other scans or transforms"),
    "other scans": (
        lambda entry: np.save(entry / "scans.npy", np.ones((8, 63), np.float32)),
        r"it holds float32 \[8, 63\]",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("remembers", [False, True])
def test_a_damaged_entry_is_computed_again_and_said_to_be(
    spectra, tmp_path, damage, remembers, monkeypatch
):
    monkeypatch.setattr("datasets.cohort.checksums.REMEMBERED_FROM_BYTES", 1)
    monkeypatch.setattr("datasets.cohort.checksums.SETTLED_AFTER_S", 0.0)
    memory = ChecksumCache(tmp_path / "digests") if remembers else None
    folder = tmp_path / "cache"
    expected = np.array(cached(spectra, folder, memory=memory).spectra)
    cached(spectra, folder, memory=memory)
    assert bool(remembers) == (tmp_path / "digests").is_dir()
    spoil, reason = DAMAGES[damage]
    spoil(only_entry(folder))
    said: list[str] = []
    found = cached(spectra, folder, said, memory=memory)
    np.testing.assert_array_equal(found.spectra, expected)
    assert len(said) == 2
    assert "are damaged (" in said[0]
    assert said[0].endswith("): computing them again")
    assert "\n" not in said[0]
    assert reason.replace("\\", "") in said[0]
    cached(spectra, folder, said, memory=memory)
    assert len(said) == 2


def test_a_sound_entry_is_read_to_its_end_once_only(spectra, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.cohort.checksums.REMEMBERED_FROM_BYTES", 1)
    monkeypatch.setattr("datasets.cohort.checksums.SETTLED_AFTER_S", 0.0)
    reads = []

    def count(path: Path) -> str:
        reads.append(path)
        return file_sha256(path)

    monkeypatch.setattr(ChecksumCache.sha256, "__defaults__", (count,))
    memory = ChecksumCache(tmp_path / "digests")
    for _ in range(4):
        cached(spectra, tmp_path / "cache", memory=memory)
    assert len(reads) == 1


def ask(folder: Path, file: Path, together: Any, queue: Any) -> None:
    lines: list[str] = []
    together.wait()
    found = cached(np.load(file, mmap_mode="r"), folder, lines, transforms=slowly)
    queue.put((float(found.spectra.sum()), lines))


def slowly(scans: np.ndarray) -> np.ndarray:
    time.sleep(0.2)
    return scans + 1


@pytest.mark.slow
def test_of_several_processes_one_computes_and_others_wait(spectra, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    parts = (tmp_path / "cache", tmp_path / "spectra.npy", context.Barrier(3), queue)
    asking = [context.Process(target=ask, args=parts) for _ in range(3)]
    for process in asking:
        process.start()
    answers = [queue.get(timeout=60) for _ in asking]
    for process in asking:
        process.join()
    assert len({total for total, _ in answers}) == 1
    said = [line for _, lines in answers for line in lines]
    assert sum(line.startswith("transforming") for line in said) == 1
    assert sum("waiting for it" in line for line in said) == 2
    assert not list((tmp_path / "cache").glob(".*.part"))


def test_without_locks_the_first_process_wins(spectra, tmp_path, monkeypatch):
    def refuse(self, timeout=None):
        raise NotImplementedError

    monkeypatch.setattr(transform_cache.FileLock, "acquire", refuse)
    folder = tmp_path / "cache"
    expected = np.array(cached(spectra, folder).spectra)
    kept = tmp_path / "kept"
    only_entry(folder).rename(kept)

    real = Path.rename

    def late(self: Path, target: Path) -> Path:
        shutil.copytree(kept, target)  # another process was done just before
        return real(self, target)

    monkeypatch.setattr(Path, "rename", late)
    found = cached(spectra, folder)
    np.testing.assert_array_equal(found.spectra, expected)
    assert not list(folder.glob(".*.part"))


def test_a_transform_that_fails_leaves_nothing_behind(spectra, tmp_path):
    def fail(scans: np.ndarray) -> np.ndarray:
        if len(scans) == 2:
            raise KeyError("broken")
        return scans

    with pytest.raises(KeyError, match="broken"):
        cached(spectra, tmp_path / "cache", transforms=fail)
    assert entries(tmp_path / "cache") == []


def test_entries_that_were_not_used_for_the_longest_make_room(spectra, tmp_path):
    folder = tmp_path / "cache"
    entry_bytes = 128 + ROWS.size * 64 * 4
    for age, name in enumerate(["old", "older", "oldest"]):
        cached(spectra, folder, fingerprint=name)
        for entry in folder.glob("*/manifest.json"):
            if json.loads(entry.read_text())["identity"]["spectra"] == name:
                os.utime(entry, (1e9 - age, 1e9 - age))
    cached(spectra, folder, fingerprint="older", limit_bytes=3 * entry_bytes)
    assert len(entries(folder)) == 3
    cached(spectra, folder, fingerprint="new", limit_bytes=3 * entry_bytes)
    left = {
        json.loads(e.read_text())["identity"]["spectra"] for e in folder.glob("*/manifest.json")
    }
    assert left == {"old", "older", "new"}
    cached(spectra, folder, fingerprint="new", limit_bytes=0)
    assert len(entries(folder)) == 1


def test_leftovers_of_a_killed_process_are_removed(spectra, tmp_path):
    folder = tmp_path / "cache"
    cached(spectra, folder)
    entry = only_entry(folder)
    entry.rename(folder / f".{entry.name}.abc.part")
    cached(spectra, folder)
    assert entries(folder) == [entry.name]


def test_what_a_killed_process_left_is_removed_after_a_day(spectra, tmp_path):
    folder = tmp_path / "cache"
    fresh, stale = folder / ".a.part", folder / ".b.part"
    for part in (fresh, stale):
        part.mkdir(parents=True)
    os.utime(stale, (1e9, 1e9))
    cached(spectra, folder)
    assert fresh.exists()
    assert not stale.exists()


def test_a_disk_without_room_is_said_before_anything_is_computed(spectra, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NoRoomError, match=r"transformed scans take .* has room for 0.0 GiB"):
        cached(spectra, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_made_is_one_line(spectra, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot keep transformed scans in .*file/cache"):
        cached(spectra, tmp_path / "file" / "cache")


def test_no_global_random_stream_is_drawn_from(spectra, tmp_path):
    before = torch.get_rng_state()
    cached(spectra, tmp_path / "cache", workers=1)
    assert torch.equal(torch.get_rng_state(), before)
