from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.analysis import TestAnalysis
from experiments.report.figures.figure_page import choices_of
from experiments.report.figures.sections import (
    attention_sections,
    embedding_sections,
    importance_sections,
    shap_sections,
)
from tests.experiments.report.made_examined import PEAKS, make_examined
from tests.experiments.report.made_outputs import NAMES, SAMPLES

TO_CHOOSE = ("multilabel", "regression")


def headings(sections):
    return [section.name for section in sections]


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(NAMES))
def test_what_was_found_out_is_drawn(task):
    examined = make_examined(task)
    torch.manual_seed(0)
    found = replace(
        examined.findings,
        embedding=torch.randn(SAMPLES, 8),
        heads=(torch.randn(SAMPLES, len(NAMES[task])), torch.randn(SAMPLES, len(NAMES[task]))),
    )
    examined = replace(examined, findings=found)
    assert headings(embedding_sections(examined)) == ["pca", "tsne", "variance"]
    assert headings(attention_sections(examined)) == ["agreement"]
    outputs = [f"-{n}" for n in range(len(NAMES[task]))] if task in TO_CHOOSE else [""]
    for sections, names in (
        (importance_sections(examined), ["points", "windows", "covariates"]),
        (shap_sections(examined), ["summary", "mean"]),
    ):
        assert headings(sections) == [name + output for output in outputs for name in names]
        assert choices_of(sections) == (NAMES[task] if task in TO_CHOOSE else [])


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_each_label_or_value_has_sections_of_its_own_to_choose(task):
    sections = importance_sections(make_examined(task, scale=[1.0, 10.0, 100.0]))
    tables = {s.choice: s.table for s in sections if s.heading == "Covariates"}
    assert list(tables) == NAMES[task]
    # Each is twice as strong as the one before, and a unit ten times as large.
    largest = [float(table[1][2]) for table in tables.values() if table is not None]
    np.testing.assert_allclose(np.divide(largest[1:], largest[:-1]), 20, rtol=1e-2)
    words = " ".join(s.text for s in sections)
    assert all(f"of {name}, over" in words for name in NAMES[task])
    assert "most likely" not in words


def test_a_negative_share_is_explained_where_it_stands():
    examined = make_examined("regression")
    (own, *_) = examined.findings.explained
    against = replace(own, tabular=-own.tabular)
    examined = replace(examined, findings=TestAnalysis(explained=[against]))
    text = {s.name: s.text for s in importance_sections(examined)}
    assert "negative share" in text["covariates"]
    assert "negative share" in text["points"]  # of the covariates together
    assert "negative share" not in text["windows"]


def test_outputs_that_are_not_explained_are_counted():
    examined = make_examined("multilabel")
    sets = [replace(one, outputs=7) for one in examined.findings.explained]
    examined = replace(examined, findings=TestAnalysis(explained=sets))
    for sections in (importance_sections(examined), shap_sections(examined)):
        assert "Attributions are of the first 3 of 7 outputs." in sections[0].text


def test_the_sections_of_a_page_have_names_of_their_own():
    examined = make_examined()
    examined = replace(
        examined, findings=replace(examined.findings, embedding=torch.randn(SAMPLES, 8))
    )
    makers = (embedding_sections, attention_sections, importance_sections, shap_sections)
    names = [section.name for make in makers for section in make(examined)]
    assert len(set(names)) == len(names)


def test_where_nothing_was_found_out_there_is_nothing():
    examined = make_examined(findings=TestAnalysis(), inputs=None)
    for make in (embedding_sections, attention_sections, importance_sections, shap_sections):
        assert make(examined) == []


@pytest.mark.parametrize("axis", [None, np.linspace(2000, 2590, 60), np.linspace(9, 1, 60)])
def test_the_windows_are_where_the_peaks_are(axis):
    examined = make_examined(axis=axis)
    figure = importance_sections(examined)[0].figure
    assert figure is not None
    places = np.arange(60) if axis is None else axis
    marked = {(shape.x0, shape.x1) for shape in figure.layout.shapes}
    assert len(marked) == len(PEAKS)  # no other point says anything
    for peak in PEAKS:
        assert any(min(ends) <= places[peak] <= max(ends) for ends in marked)


def test_a_model_of_spectra_alone_has_no_bars_of_covariates():
    examined = make_examined(covariates=[])
    explained = replace(examined.findings.explained[0], tabular=torch.zeros(SAMPLES, 0))
    inputs = replace(examined.inputs, covariates=np.zeros((SAMPLES, 0)))
    examined = replace(examined, findings=TestAnalysis(explained=[explained]), inputs=inputs)
    assert headings(importance_sections(examined)) == ["points", "windows"]
    assert headings(shap_sections(examined)) == ["summary", "mean"]
