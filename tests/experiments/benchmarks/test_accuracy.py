from __future__ import annotations

from experiments.benchmarks import accuracy
from experiments.benchmarks.accuracy import compare_precisions, print_accuracy
from experiments.config import load_config
from experiments.run_files import write_config


def test_precisions_are_held_against_the_first_of_the_same_seed(capsys, tmp_path, monkeypatch):
    overrides = [
        ("data.simulated.n_samples", "450"),
        ("data.cache_dir", str(tmp_path / "cache")),
        ("model.params", "{patch_size: 256, d_model: 16, num_layers: 1, dropout: 0.5}"),
    ]
    write_config(tmp_path, load_config(accuracy.CONFIG, overrides))
    monkeypatch.setattr(accuracy, "CONFIG", str(tmp_path / "config.yaml"))
    rows = compare_precisions(["fp32", "bf16"], [0], epochs=1, device="cpu")
    assert [(row["seed"], row["precision"], row["epochs"]) for row in rows] == [
        (0, "fp32", 1),
        (0, "bf16", 1),
    ]
    for side in ("val", "test"):
        assert rows[0][f"{side}_difference"] == 0
        assert rows[1][f"{side}_difference"] == rows[1][side] - rows[0][side]
        assert rows[0][side] > 0.5
    capsys.readouterr()
    rows[1]["val_difference"] = -0.02
    print_accuracy(rows)
    shown = capsys.readouterr().out
    assert "largest difference 0.0200: MORE than 0.01" in shown
    assert shown.count("bf16") == 1
