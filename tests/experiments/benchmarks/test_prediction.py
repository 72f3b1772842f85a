"""The script on a small cohort."""

from __future__ import annotations

import re

from experiments.benchmarks.prediction import main


def test_speed_and_memory_are_measured_and_nothing_is_left_behind(tmp_path, capsys):
    words = ["--samples", "300", "--points", "64", "--folder", str(tmp_path)]
    assert main(words) == 0
    assert list(tmp_path.iterdir()) == []
    line = capsys.readouterr().out.splitlines()[-1]
    (rate,) = re.findall(r"(\d+) samples/s", line)
    assert int(rate) > 0
    assert line.startswith("300 samples")
    memory = [int(each) for each in re.findall(r"(\d+) MiB (?:above|more)", line)]
    assert len(memory) == 2
    assert max(memory) < 512


def test_a_size_that_is_none_is_one_line(capsys):
    assert main(["--samples", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
