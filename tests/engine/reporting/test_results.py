"""Metrics as a table."""

from __future__ import annotations

import json

from engine.reporting import Results


def test_subsets_are_columns():
    results = Results()
    results["val"] = {"auroc": 0.75, "loss": 1.0}
    results["test"] = {"auroc": 0.5}
    table = results._repr_html_()
    assert "<tr><th></th><th>val</th><th>test</th></tr>" in table
    assert "<tr><th>auroc</th><td>0.7500</td><td>0.5000</td></tr>" in table
    assert "<tr><th>loss</th><td>1.0000</td><td></td></tr>" in table


def test_what_is_no_number_is_left_out():
    results = Results(auroc=0.75, predictions=[0, 1], report={"case": {"recall": 1.0}})
    table = results._repr_html_()
    assert "<tr><th>auroc</th><td>0.7500</td></tr>" in table
    assert "predictions" not in table
    assert "report" not in table


def test_it_is_a_dict():
    results = Results(auroc=0.75)
    assert results == {"auroc": 0.75}
    assert json.loads(json.dumps(results)) == results
