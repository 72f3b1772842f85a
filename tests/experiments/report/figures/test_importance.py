from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.report.figures import importance as importance_figures
from experiments.report.figures.importance import (
    MOST_BARS,
    covariate_features,
    feature_bars,
    feature_section,
    in_one_sense,
    spectrum_figure,
    spectrum_section,
)
from tests.experiments.report.made_examined import PEAKS, POINTS, WEIGHTS, make_examined

WINDOWS = [(8, 13), (38, 43)]


def found_in(examined):
    return in_one_sense(examined.findings.explained[0], examined)


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def test_the_mean_spectrum_stands_over_its_points_attributions():
    examined = make_examined()
    found = found_in(examined)
    figure = spectrum_figure(found, examined, WINDOWS)
    drawn = traces(figure)
    np.testing.assert_allclose(drawn["mean spectrum"].y, examined.inputs.spectrum, rtol=1e-6)
    np.testing.assert_allclose(drawn["mean spectrum"].x, examined.axis)
    signed = drawn["mean attribution, with sign"]
    np.testing.assert_allclose(signed.y, found.points.mean(axis=0), rtol=1e-5, atol=1e-9)
    assert {int(i) for i in np.flatnonzero(signed.y)} == set(PEAKS)
    assert figure.layout.yaxis.title.text == "mean raw intensity"
    assert figure.layout.xaxis3.title.text == "m/z"


def test_the_windows_are_marked_where_they_are_on_the_axis():
    figure = spectrum_figure(found_in(make_examined()), make_examined(), WINDOWS)
    marked = {(shape.x0, shape.x1) for shape in figure.layout.shapes}
    # Half-way to the next points, ten apart.
    assert marked == {(2075.0, 2125.0), (2375.0, 2425.0)}


def test_without_an_axis_the_points_are_numbered():
    examined = make_examined(axis=None)
    figure = spectrum_figure(found_in(examined), examined)
    assert list(figure.data[0].x) == list(range(POINTS))
    assert figure.layout.xaxis3.title.text == "point"


def test_of_a_long_axis_no_peak_is_lost(monkeypatch):
    monkeypatch.setattr(importance_figures, "MOST_POINTS", 7)
    examined = make_examined()
    examined.inputs.spectrum[33] = 1e4
    found = found_in(examined)
    drawn = traces(spectrum_figure(found, examined))
    assert len(drawn["mean spectrum"].y) <= 7
    assert max(drawn["mean spectrum"].y) == pytest.approx(1e4)
    total = float(found.points.mean(axis=0).sum())
    assert sum(drawn["mean attribution, with sign"].y) == pytest.approx(total, rel=1e-4)


def test_the_shares_of_the_modalities_are_said():
    examined = make_examined()
    found = found_in(examined)
    share = found.share(found.points.sum(axis=1))
    text = spectrum_section(found, examined, "By this method.", WINDOWS).text
    assert text.startswith("By this method. Attributions of the log-odds of case")
    assert f"account for {share:.0%} of the score's mean square" in text
    assert f"the covariates for {1 - share:.0%}." in text
    assert "the 2 regions" in text


def test_nothing_found_makes_a_section_too():
    examined = make_examined()
    found = found_in(examined)
    found.points[:], found.covariates[:], found.change[:] = 0, 0, 0
    assert "account for" not in spectrum_section(found, examined, "By this method.").text
    features = covariate_features(found, examined)
    assert feature_section("covariates", "Covariates", features, examined).figure is not None


def test_bars_are_sorted_and_coloured_by_direction():
    examined = make_examined()
    features = covariate_features(found_in(examined), examined)
    figure = feature_bars(features, "binary", examined.classes)
    assert list(figure.layout.yaxis.categoryarray)[:2] == ["sex=m", "age"]
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "for case": ["age"],
        "for control": ["sex=m"],
        "no clear direction": ["&lt;b&gt;CRP&lt;/b&gt;"],
    }


def test_the_table_says_the_same_in_words_and_numbers():
    examined = make_examined()
    features = covariate_features(found_in(examined), examined)
    section = feature_section("c", "Covariates", features, examined)
    assert section.table is not None
    _, first, second, last = section.table
    mean = np.abs(examined.inputs.covariates[:, 1]).mean() * -WEIGHTS[1]
    assert first[:3] == ("sex=m", "for control", f"{mean:.3g}")
    assert first[4] == "-1.00"
    assert second[:2] == ("age", "for case")
    assert last == ("<b>CRP</b>", "no clear direction", "0", "0.0%", "undefined")


def test_of_many_covariates_the_largest_are_shown():
    examined = make_examined()
    feature = covariate_features(found_in(examined), examined)[0]
    many = [replace(feature, name=f"c{n}") for n in range(99)]
    section = feature_section("covariates", "Covariates", many, examined)
    assert section.figure is not None
    assert [len(trace.y) for trace in section.figure.data] == [MOST_BARS]
