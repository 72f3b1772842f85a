from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from engine.reporting import terminal
from engine.reporting.terminal import SafeStream, safe_streams

FILE = terminal.__file__


def pipe_without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def test_what_a_stream_cannot_encode_is_replaced():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    print("Köhler m/z ±", file=SafeStream(stream), flush=True)
    assert raw.getvalue() == b"K?hler m/z ?\n"


def test_a_stream_that_cannot_be_reconfigured_replaces_too():
    class Strict(io.StringIO):
        encoding = "ascii"

        def write(self, text):
            return super().write(text.encode("ascii").decode())

    strict = Strict()
    assert SafeStream(strict).write("Köhler") == 6
    assert strict.getvalue() == "K?hler"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_pipe_whose_reader_is_gone_ends_nothing(monkeypatch, name):
    monkeypatch.setattr(sys, name, pipe_without_reader())
    with safe_streams():
        for _ in range(3):
            print("nobody reads this", file=getattr(sys, name), flush=True)
    getattr(sys, name).close()  # what it still held went nowhere


def test_the_streams_are_as_before_afterwards():
    before = sys.stdout, sys.stderr
    with safe_streams():
        assert isinstance(sys.stdout, SafeStream)
    assert (sys.stdout, sys.stderr) == before


def run_python(code, **options):
    # The module's file alone: nothing of the project, or torch, is to be imported.
    prefix = f"import os, runpy, sys\nsafe_streams = runpy.run_path({FILE!r})['safe_streams']\n"
    return subprocess.run([sys.executable, "-c", prefix + code], timeout=60, **options)


def test_a_process_ends_with_its_own_code_when_the_pipe_breaks():
    done = run_python(
        "with safe_streams():\n    print('x' * 10)\nsys.exit(3)",
        stdout=pipe_without_reader(),
        stderr=subprocess.PIPE,
    )
    assert (done.returncode, done.stderr) == (3, b"")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "os.close(1); os.close(2); sys.stdout = sys.stderr = None\n"
        "with safe_streams():\n"
        f"    file = open({str(tmp_path / 'log')!r}, 'w')\n"
        "    print('to a person'); os.write(2, b'to a person')\n"
        "sys.exit(file.fileno() > 2)"
    )
    assert run_python(code).returncode == 1
    assert (tmp_path / "log").read_text() == ""
