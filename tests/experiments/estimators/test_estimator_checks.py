"""scikit-learn's own checks, and the guide's table of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sklearn
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from experiments.estimators import ScanfireClassifier, ScanfireRegressor
from tests.experiments.estimators.quick import QUICK

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "estimator.md"
ESTIMATORS = [ScanfireClassifier(**QUICK), ScanfireRegressor(**QUICK)]


@pytest.mark.slow
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_check(estimator, check):
    check(estimator)


def test_the_guide_lists_the_checks():
    text = GUIDE.read_text("utf-8")
    version = re.findall(r"scikit-learn (\d+\.\d+\.\d+)", text)
    if sklearn.__version__ not in version:
        pytest.skip(f"the guide's table is of scikit-learn {version}")
    rows = re.findall(r"^\| `(check_\w+)` \| (.*) \| (.*) \|$", text, re.MULTILINE)
    for column, estimator in enumerate(ESTIMATORS, start=1):
        checks = {check.func.__name__ for _, check in estimator_checks_generator(estimator)}
        listed = {row[0] for row in rows if row[column] != "not applicable"}
        assert listed == checks
