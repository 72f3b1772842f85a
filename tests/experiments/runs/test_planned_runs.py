from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.config import check_config
from experiments.run_files import FINISHED, write_config
from experiments.runs.terminal_run import state_of

# Running, passing over and continuing is tested with those who plan runs: families and folds.


@pytest.fixture
def config(tmp_path):
    return check_config({"exp_name": "a", "runs_dir": str(tmp_path)})


def test_a_run_is_absent_cut_off_or_finished(config, tmp_path):
    assert state_of(config) == "absent"
    (tmp_path / "a").mkdir()
    write_config(tmp_path / "a", config)
    assert state_of(config) == "cut off"
    (tmp_path / "a" / "log.jsonl").write_text(f'{{"event": "{FINISHED}"}}\n')
    assert state_of(config) == "finished"


def test_a_run_killed_before_its_configuration_is_written_begins_anew(config, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("splits.csv", "environment.json", "audit.json", "resolved.yaml", ".lock"):
        (tmp_path / "a" / name).write_text("{}")
    (tmp_path / "a" / ".config.yaml.part").write_text("exp_name")
    assert state_of(config) == "absent"
    assert not (tmp_path / "a").exists()


def test_a_users_own_files_are_never_taken_for_a_killed_run(config, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "splits.csv").write_text("sample_id,split\n")
    for _ in range(2):
        with pytest.raises(UsageError, match="holds no run that can be continued; move it away"):
            state_of(config)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["splits.csv"]


def test_a_run_with_other_settings_or_no_run_at_all_is_refused(config, tmp_path):
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds no run that can be continued; move it away"):
        state_of(config)
    write_config(tmp_path / "a", check_config(config.plain() | {"seed": 3}))
    with pytest.raises(UsageError, match=r"is a run with another configuration \(seed\)"):
        state_of(config)


def test_a_run_whose_defaults_were_others_is_told_by_their_keys(config, tmp_path):
    (tmp_path / "a").mkdir()
    write_config(tmp_path / "a", config)
    resolved = tmp_path / "a" / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("save_top_k: 3", "save_top_k: 2"))
    with pytest.raises(UsageError, match=r"another configuration \(checkpoint.save_top_k\)"):
        state_of(config)
