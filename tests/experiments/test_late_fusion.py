from __future__ import annotations

from experiments.benchmarks.late_fusion import main
from experiments.runs import Experiment


def test_the_regression_is_scored_on_the_runs_own_split(make_config, capsys):
    experiment = Experiment(make_config(**{"trainer.max_epochs": 1}))
    experiment.setup()
    assert main([str(experiment.run_dir)]) == 0
    header, row = capsys.readouterr().out.strip().splitlines()
    assert header.split()[2:] == ["spectra", "covariates", "late", "fusion"]
    scores = [float(word) for word in row.split()[1:]]
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "does not exist" in capsys.readouterr().err
