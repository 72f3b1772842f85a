"""The page of a prediction in two languages, of made-up analyses."""

from __future__ import annotations

import html
import re

import numpy as np
import pandas as pd
import pytest

from engine.statistics import OperatingPoint
from experiments.prediction import (
    PredictionPage,
    Predictions,
    calibrate_sets,
    validate,
    write_prediction_page,
)
from experiments.prediction.drift import NO_SUMMARY
from tests.experiments.prediction.made_samples import check_of, make_samples, summarised
from tests.experiments.report.made_outputs import NAMES, make_outputs

SAMPLES = 120
# Written so in Chinese, too: authors, statistics, names.
LATIN = (
    *("Kolmogorov", "Smirnov", "Fisher", "Hotelling", "Vickers", "Elkin", "Clopper", "Pearson"),
    *("AUROC", "AUPRC", "ECE", "Brier", "PPV", "NPV", "ROC", "MAE", "RMSE", "MSE", "SD", "pp"),
    *("SHAP", "age", "AFP", "sex", "site", "somewhere", "made", "youden", "far_outside", "BMI"),
    *("log", "liver", "heart", "lung", "control", "case", "north", "south", "Cox", "T2", "F1"),
)


def made_page(task, language="zh", drift=True):
    outputs, names = make_outputs(task, SAMPLES), NAMES[task]
    groups = [f"g{n // 2}" for n in range(SAMPLES)]
    points = {name: OperatingPoint("youden", None, 0.4, {}, {}) for name in names}
    table = pd.DataFrame({"site": ["north", "south"] * (SAMPLES // 2)})
    external = validate(outputs, groups, names, points, table=table, resamples=50)
    internal = validate(outputs, groups, names, points, resamples=50)
    predictions = Predictions(
        outputs.sample_id,
        outputs.logits,
        task,
        names,
        np.array(groups),
        outputs.target.numpy(),
        None if task == "regression" else 1.5,
        dict.fromkeys(names, 0.4),
    )
    rng = np.random.default_rng(0)
    summary = summarised(make_samples(rng, 300))
    new = make_samples(rng, SAMPLES, shift=2, gone=[1], rate=0.9, batch=np.ones(512))
    new.table["age"] /= 10
    new.table["sex"] = ["f"] * SAMPLES
    new.table["AFP"] = np.nan
    check, outside = check_of(summary, new)
    return PredictionPage(
        name="made",
        model="somewhere",
        language=language,
        predictions=predictions,
        drift=check.compare(new.predicted) if drift else NO_SUMMARY,
        marked=np.array([bool(text) for text in outside]),
        outside=check.measured if drift else {},
        spectra=summary.spectra if drift else None,
        sets=calibrate_sets(outputs, groups, names, 0.8),
        calibrated_on="the validation set",
        external=external,
        internal=internal,
        internal_source="the run's test set",
    )


def seen_in(path):
    """The texts that a reader sees, without figures."""
    page = path.read_text("utf-8")
    hidden = r"<(script|style|button)\b.*?</\1>"
    body = re.sub(hidden, " ", page[page.index("<body>") :], flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
@pytest.mark.parametrize("drift", [True, False])
def test_the_whole_page_is_said_in_chinese(tmp_path, task, drift):
    path = write_prediction_page(tmp_path / "page.html", made_page(task, drift=drift))
    assert '<html lang="zh-CN">' in path.read_text("utf-8")
    seen = seen_in(path)
    assert "外部验证" in seen
    for name in sorted(LATIN, key=len, reverse=True):
        seen = seen.replace(name, " ")
    assert re.findall("[A-Za-z]{2,}", seen) == []


@pytest.mark.slow
def test_each_finding_is_a_row_of_the_page(tmp_path):
    page = made_page("binary", "en")
    findings = page.drift.findings
    kinds = ("peaks are shifted", "are gone", "covariate age", "missing values of AFP", "rate of")
    assert all(any(kind in finding for finding in findings) for kind in kinds)
    seen = seen_in(write_prediction_page(tmp_path / "page.html", page))
    assert all(f"{finding}." in seen for finding in findings)
