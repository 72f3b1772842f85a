"""The description is enough to preprocess with NumPy alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.covariates import CovariateEncoder
from datasets.transforms import TRANSFORMS, make_transforms
from experiments.config import check_config
from experiments.exporting.description import describe
from tests.experiments.exporting import numpy_transforms

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "export.md"
PARAMS: dict[str, dict[str, Any]] = {
    "snip": {"half_window": 12},
    "tophat": {"half_window": 8},
    "asls": {"lam": 1e4},
    "crop": {"low": 1020.0, "high": 1100.0},
    "resample": {"points": 50},
    "bin": {"width": 7},
    "pick_peaks": {"width": 1},
    "log": {"quantile": 0.1},
    "standardize": {"clip": 2.0},
}
# Its matching of peaks is more than a description can hold: the guide names the class.
NOT_WRITTEN = ("align",)
POINTS = 120
SAMPLES = pd.DataFrame(
    {
        "sample_id": ["a", "b", "c", "d", "e", "f"],
        "age": ["51", "34", "NA", "60.5", "47", "39"],
        "CRP": ["2.5", "0", "110", "", "7.25", "1"],
        "never": ["", "", "", "NaN", "", ""],
        "always": ["3", "3", "3", "3", "3", "3"],
        "sex": ["F", "M", "M", "", "F", "F"],
        "site": ["A", "A", "B", "C", "A", "B"],
    }
)


@pytest.fixture(scope="module")
def guide():
    """The names that the guide's program defines."""
    names = {"__name__": "predict_alone"}
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)
    exec(compile(block, str(GUIDE), "exec"), names)
    return names


def drawn_scans(count, seed=0):
    """Peaks on a falling baseline, with noise."""
    generator = np.random.default_rng(seed)
    points = np.arange(POINTS)
    places, heights = generator.uniform(10, 110, (count, 5)), generator.uniform(3, 30, (count, 5))
    peaks = np.exp(-0.5 * ((points - places[..., None]) / 2) ** 2) * heights[..., None]
    noise = generator.gamma(2.0, 0.3, (count, POINTS))
    return (peaks.sum(1) + 5 * np.exp(-points / 40) + noise).astype(np.float32)


def about(steps=(), encoder=None, axis=None):
    """The description of a model of these, as a reader of its JSON has it."""
    fitted = make_transforms(steps)
    if len(steps):
        fitted.fit(drawn_scans(30), axis=axis)
    trained: Any = SimpleNamespace(
        config=check_config({"exp_name": "x", "data": {"transforms": list(steps)}}),
        sizes={"tab_dim": 0, "spec_len": fitted.spec_len or 0, "num_classes": 2},
        transforms=fitted,
        encoder=encoder or CovariateEncoder([], []).fit(SAMPLES),
        model=torch.nn.Linear(1, 1),
        **{"name": "x", "task": "binary", "class_names": ["a", "b"], "members": {}},
        **{"scaler": None, "temperature": None, "thresholds": {}},
    )
    return fitted, json.loads(json.dumps(describe(trained, "onnx", ["tabular"])))["preprocessing"]


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name not in NOT_WRITTEN])
def test_a_transform_can_be_written_from_its_description(name, guide):
    axis = np.linspace(1000, 1120, POINTS, dtype=np.float32) ** 1.001
    params = PARAMS.get(name, {})
    fitted, told = about(steps=[{"name": name, "params": params}], axis=axis)
    (step,) = told["transforms"]
    assert step["rule"]
    assert step["params"].items() >= params.items()
    scans = drawn_scans(4, seed=1)
    wanted = fitted(scans)
    name = "log" if name == "log1p" else name
    if name in guide["STEPS"]:
        found = guide["STEPS"][name](scans, step["params"], step["state"])
    else:
        before = np.float32(told["axis_in"])
        found = numpy_transforms.STEPS[name](scans, before, step["params"], step["state"])
    assert np.ptp(wanted) > 0.1
    assert not np.allclose(wanted, scans[:, : wanted.shape[1]])
    assert found.shape == wanted.shape == (4, len(told["axis"]))
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("encoding", ["standard", "piecewise"])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"missing_indicators": False}])
def test_covariates_can_be_encoded_from_the_description(encoding, options, guide):
    numeric, categorical = ["age", "CRP", "never", "always"], ["sex", "site"]
    encoder = CovariateEncoder(numeric, categorical, log=["CRP"], encoding=encoding, **options)
    encoder.fit(SAMPLES)
    _, told = about(encoder=encoder)
    rows = SAMPLES.assign(age=["90", "12", "NA", "50", "41", ""], never=["4", *"     "])
    rows["never"] = rows["never"].str.strip()
    rows.loc[1, "site"] = "elsewhere"
    found = [guide["encode"](row, told["covariates"]) for row in rows.to_dict("records")]
    assert np.stack(found) == pytest.approx(encoder.transform(rows), rel=1e-6, abs=1e-6)
    assert len(told["covariates"]["features"]) == len(found[0])
