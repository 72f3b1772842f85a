from __future__ import annotations

import pytest

from experiments.benchmarks.conformal_coverage import (
    ALL,
    BY_GROUP,
    COVERAGE,
    MARGIN,
    cover_all,
    main,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("classes", [2, 3])
def test_coverage_holds_by_class_and_by_group(classes):
    means = cover_all(classes).mean()
    wanted = [*(f"class {number}" for number in range(classes)), ALL, BY_GROUP]
    assert means[wanted].to_dict() == pytest.approx(dict.fromkeys(wanted, COVERAGE), abs=MARGIN)
    assert 1 < means["classes in a set"] < classes


def test_the_figures_are_drawn(tmp_path, capsys):
    out = tmp_path / "coverage.html"
    assert main(["--out", str(out)]) == 0
    assert "2 classes, mean of 20 cohorts" in capsys.readouterr().out
    assert 'id="figure-classes-3"' in out.read_text("utf-8")
