"""Small cohorts on disk, sound or broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from datasets.cohort import Cohort
from datasets.errors import CohortError

SAMPLES = 24
POINTS = 32


def _default_files() -> dict[str, Any]:
    """24 samples of the labels A, B, C, two in each of 12 groups, with 1 to 3 scans each."""
    rng = np.random.default_rng(0)
    names = [f"{number:03d}" for number in range(SAMPLES)]
    samples = pd.DataFrame(
        {
            "sample_id": names,
            "group": [f"g{number // 2}" for number in range(SAMPLES)],
            "label": ["ABAC"[number % 4] for number in range(SAMPLES)],
            "age": rng.integers(20, 80, SAMPLES).astype(float),
            "crp": rng.lognormal(1, 1, SAMPLES).round(2),
            "sex": [["f", "m"][number % 2] for number in rng.integers(0, 2, SAMPLES)],
        }
    )
    samples.loc[[3, 7], "age"] = np.nan
    counts = [1 + number % 3 for number in range(SAMPLES)]
    scans = pd.DataFrame(
        {
            "sample_id": np.repeat(names, counts),
            "scan": np.concatenate([np.arange(count) for count in counts]),
        }
    )
    return {
        "samples": samples,
        "scans": scans,
        "spectra": rng.random((sum(counts), POINTS)).astype(np.float32),
        "axis": np.linspace(1000, 2000, POINTS).astype(np.float32),
        "roles": None,
    }


@pytest.fixture
def write_cohort() -> Callable[..., Path]:
    """Write a cohort: `write_cohort(folder, samples=..., scans=..., spectra=..., axis=...)`.

    Each part, `roles` of cohort.yaml too, may be given as a value, or as a function that makes it
    from the default one.
    """

    def write(folder: Path, **overrides: Any) -> Path:
        files = _default_files()
        for part, value in overrides.items():
            assert part in files, part
            files[part] = value(files[part]) if callable(value) else value
        folder.mkdir(parents=True, exist_ok=True)
        files["samples"].to_csv(folder / "samples.csv", index=False)
        files["scans"].to_csv(folder / "scans.csv", index=False)
        np.save(folder / "spectra.npy", files["spectra"])
        np.save(folder / "axis.npy", files["axis"])
        if files["roles"] is not None:
            (folder / "cohort.yaml").write_text(yaml.safe_dump({"roles": files["roles"]}))
        return folder

    return write


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Read a cohort that is to be refused, `refusal(folder, **choices)`; return the error line."""

    def read(root: Path, **choices: Any) -> str:
        with pytest.raises(CohortError) as caught:
            Cohort.read(root, **choices)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return read
