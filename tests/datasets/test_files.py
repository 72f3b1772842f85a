from __future__ import annotations

import os

import pytest

from datasets.files import write_whole


def test_a_file_holds_all_that_was_written(tmp_path):
    write_whole(b"new", tmp_path, "a", "b")
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"new", b"new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_copies_are_files_of_their_own(tmp_path):
    write_whole(b"new", tmp_path, "a", "b")
    with open(tmp_path / "a", "r+b") as file:
        file.truncate(1)
    assert (tmp_path / "b").read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, error):
    write_whole(b"old", tmp_path, "a")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        write_whole(b"new", tmp_path, "a")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def noting(name, call):
        def noted(*args):
            calls.append(name)
            return call(*args)

        return noted

    monkeypatch.setattr(os, "fsync", noting("fsync", fsync))
    monkeypatch.setattr(os, "replace", noting("replace", replace))
    write_whole(b"new", tmp_path, "a")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder
    calls.clear()
    write_whole(b"newer", tmp_path, "a", durable=False)
    assert calls == ["replace"]
