"""How fast a large cohort is predicted, and in how much memory.

``python experiments/benchmarks/prediction.py --samples 100000`` simulates a cohort of that size in
a temporary folder (removed at the end), trains a small network on a small one, and predicts the
large one into a file. Shown are the samples a second, and by how much at most the memory of the
process rose above what it held with the model loaded: while the cohort is read and checked, and
while it is predicted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from datasets.cohort import SPECTRA_FILE
from datasets.errors import UsageError
from datasets.simulation import simulate_cohort
from datasets.specs import require_whole
from experiments.benchmarks.peak_memory import MEBIBYTE, PeakMemory
from experiments.config import check_config
from experiments.prediction import load_model, predict_file
from experiments.runs import Experiment

TRAINED_ON = 200
NETWORK = {
    **{"patch_size": 16, "d_model": 16, "num_layers": 1},
    **{"spec_emb": 32, "tab_emb": 16, "fusion_dim": 32, "projection_dim": 16},
}


def train(folder: Path, points: int, device: str) -> Path:
    """A finished run of one epoch; returns its folder."""
    cohort = simulate_cohort(
        folder / "small", 1, n_samples=TRAINED_ON, spec_len=points, max_scans=2
    )
    settings = {
        "exp_name": "small",
        "runs_dir": str(folder / "runs"),
        "data": {"root": str(cohort.root), "labels": {"control": 0, "case": 1}},
        "model": {"name": "tft", "params": NETWORK},
        "trainer": {"max_epochs": 1, "batch_size": 32, "device": device},
        **{section: {"enabled": False} for section in ("audit", "baselines")},
        "report": {"enabled": False, "resamples": 0},
    }
    experiment = Experiment(check_config(settings))
    experiment.run()
    return experiment.run_dir


def measure(folder: Path, samples: int, points: int, device: str) -> dict[str, float]:
    """Train, predict, and measure; ``folder`` takes all files."""
    run_dir = train(folder, points, device)
    large = simulate_cohort(folder / "large", 2, n_samples=samples, spec_len=points, max_scans=2)
    size = (large.root / SPECTRA_FILE).stat().st_size / MEBIBYTE
    model = load_model(run_dir)
    with PeakMemory() as reading:
        began = time.perf_counter()
        new = model.check(large.root)
        read_s = time.perf_counter() - began
    with PeakMemory() as predicting:
        began = time.perf_counter()
        predict_file(model, new, folder / "predictions.csv")
        seconds = time.perf_counter() - began
    return {
        "spectra_mib": size,
        "read_s": read_s,
        "samples_per_s": samples / seconds,
        "reading_mib": reading.mebibytes,
        "predicting_mib": predicting.mebibytes,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000, metavar="N")
    parser.add_argument("--points", type=int, default=256, metavar="L", help="a scan")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where the cohorts are written, and removed")
    chosen = parser.parse_args(arguments)
    try:
        for name in ("samples", "points"):
            require_whole(f"--{name}", getattr(chosen, name), 1)
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            found = measure(Path(folder), chosen.samples, chosen.points, chosen.device)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{chosen.samples} samples, {found['spectra_mib']:.0f} MiB of scans of {chosen.points} "
        f"points: read in {found['read_s']:.1f} s, {found['samples_per_s']:.0f} samples/s; "
        f"at most {found['reading_mib']:.0f} MiB above the model while reading, then "
        f"{found['predicting_mib']:.0f} MiB more"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
