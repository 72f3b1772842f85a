from __future__ import annotations

import numpy as np

from experiments.report.figures import importance as shap_figures
from experiments.report.figures.importance import covariate_features, in_one_sense, summary_sections
from tests.experiments.report.made_examined import make_examined
from tests.experiments.report.made_outputs import SAMPLES


def summary():
    examined = make_examined()
    found = in_one_sense(examined.findings.explained[0], examined)
    features = covariate_features(found, examined)
    ids = examined.outputs.sample_id
    sections = summary_sections(features, ids, found.what, "SHAP value", "By this method.")
    return features, {section.name: section for section in sections}


def test_there_is_a_row_a_feature_with_a_point_a_sample():
    features, sections = summary()
    rows = sections["summary"].figure.data
    assert len(rows) == len(features)
    for number, (row, feature) in enumerate(zip(rows, features, strict=True)):
        np.testing.assert_allclose(row.x, feature.attributions, rtol=1e-5)
        np.testing.assert_allclose(row.customdata, feature.values, rtol=1e-5)
        assert np.abs(np.asarray(row.y) - number).max() < 0.5
        assert len(row.text) == SAMPLES


def test_points_are_coloured_by_the_features_value():
    features, sections = summary()
    row = sections["summary"].figure.data[0]
    assert row.marker.color[int(np.argmin(features[0].values))] == 0
    assert row.marker.color[int(np.argmax(features[0].values))] == 1
    order = np.argsort(features[0].values)
    assert (np.diff(np.asarray(row.marker.color)[order]) > 0).all()


def test_points_at_one_place_do_not_hide_each_other():
    _, sections = summary()
    nothing = sections["summary"].figure.data[-1]  # a covariate that has no weight
    assert set(nothing.x) == {0}
    assert len(set(nothing.y)) == SAMPLES


def test_the_means_are_sorted_and_named_as_the_values_are():
    features, sections = summary()
    (bars,) = sections["mean"].figure.data
    np.testing.assert_allclose(bars.x, sorted((f.size for f in features), reverse=True))
    assert sections["mean"].figure.layout.xaxis.title.text == "mean |SHAP value|"
    assert sections["summary"].text.startswith("By this method.")


def test_names_are_shown_as_text():
    _, sections = summary()
    for section in sections.values():
        assert "<b>" not in section.figure.to_json()


def test_of_many_samples_so_many_are_drawn_and_that_is_said(monkeypatch):
    monkeypatch.setattr(shap_figures, "MOST_SAMPLES", 10)
    _, sections = summary()
    assert {len(row.x) for row in sections["summary"].figure.data} == {10}
    assert f"a random 10 of {SAMPLES} samples" in sections["summary"].text


def test_nothing_to_summarise_is_said():
    (section,) = summary_sections([], [], "the logit", "SHAP value", "By this method.")
    assert section.figure is None
