from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.reporting import read_log
from experiments.analysis import Outcome, TestAnalysis
from experiments.config import check_config
from experiments.report.figures import Section, examine
from experiments.report.report_content import content_of, sample_source
from experiments.report.report_page import report_parts
from experiments.report.words import Words
from experiments.runs import Experiment
from tests.experiments.conftest import SMALL_TFT
from tests.experiments.report.opened_page import LATIN

pytestmark = pytest.mark.slow

# Those of a figure's fields that the page's script translates.
TEXTS = {"text", "name", "title", "label", "ticktext", "categoryarray", "hovertext", "x", "y"}


def said(section: Section) -> Iterator[str]:
    """All texts of a section."""
    yield from (section.heading, section.text)
    for row in section.table or ():
        yield from (cell if isinstance(cell, str) else str(cell) for cell in row)
    if section.figure is not None:
        yield from strings(section.figure.to_plotly_json(), "")


def strings(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, str) and key in TEXTS:
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from strings(item, name)
    elif isinstance(value, np.ndarray):
        yield from strings(value.tolist() if value.dtype == object else [], key)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item, key)


@pytest.fixture(scope="module")
def outcome(cohort_dir, tmp_path_factory) -> Outcome:
    """What a short run hands to its exports."""
    config = check_config(
        {
            "runs_dir": str(tmp_path_factory.mktemp("runs")),
            "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
            "model": {"name": "tft", "params": SMALL_TFT},
            "trainer": {"max_epochs": 1, "device": "cpu"},
            "report": {"resamples": 0},
        }
    )
    experiment = Experiment(config)
    handed: list[Outcome] = []

    def keep(outcome: Outcome, _weights: object) -> None:
        handed.append(outcome)
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.runs.experiment.export_run", keep)
        with pytest.raises(InterruptedError):
            experiment.run()
    return handed[0]


@pytest.fixture(scope="module")
def content(outcome):
    return content_of(outcome, report_parts(examine(outcome)))


def test_the_headline_has_the_configured_metrics(outcome, content):
    assert list(content.headline) == list(content.tested) == outcome.config.metrics
    for name, val in content.headline.items():
        assert content.tested[name].value == outcome.results["test"][name]
        assert val == outcome.results["val"][name]
        assert np.isnan(content.tested[name].low)  # none were drawn


def test_the_split_counts_every_sample_group_scan_and_class(outcome, content):
    cohort = outcome.data.cohort
    subsets, samples, _, scans, targets = zip(*content.split, strict=True)
    assert subsets == ("training", "validation", "test")
    assert sum(samples) == len(cohort.sample_ids)
    assert sum(scans) == sum(map(len, cohort.scan_rows))
    for number in range(2):
        total = sum(int(of_subset[number]) for of_subset in targets)
        assert total == int((cohort.targets == number).sum())


def test_warnings_are_those_of_the_model_card_without_its_marks(content):
    assert any(
        line.startswith("fewer than 50 samples in the test set: control")
        for line in content.warnings
    )
    assert not [line for line in (*content.warnings, *content.limits) if "**" in line]
    assert not [line for line in content.warnings if "\\" in line]
    assert any("one cohort" in line for line in content.limits)


def test_it_does_not_tell_on_whose_machine_the_run_was(outcome, content):
    told = json.loads((outcome.run_dir / "environment.json").read_text("utf-8"))
    assert "host" in told
    assert "host" not in content.environment
    assert content.environment["packages"] == told["packages"]
    text = json.dumps([content.settings, dict(content.environment), content.cohort])
    assert str(outcome.run_dir.parent) not in text
    assert str(outcome.data.cohort.root.parent) not in text


def test_what_was_found_out_becomes_parts_of_the_page(content):
    assert [part.name for part in content.parts] == ["importance", "embedding", "attention"]
    assert all(part.sections for part in content.parts)


def test_every_text_of_the_parts_is_said_in_chinese_too(outcome, content):
    table = outcome.data.cohort.samples
    known = {*content.names, *content.class_names, *outcome.outputs["test"].sample_id}
    known |= {*table.columns, *(str(value) for column in table for value in table[column])}
    words = Words("zh", known)
    texts = {text for part in content.parts for section in part.sections for text in said(section)}
    assert len(texts) > 50
    named = re.compile("|".join(map(re.escape, sorted([*known, *LATIN], key=len, reverse=True))))
    chinese = {text: named.sub("", words.translate(text)) for text in texts}
    assert [text for text, left in chinese.items() if re.search("[A-Za-z]{3}", left)] == []


def test_what_was_not_found_out_is_said(outcome):
    nothing = replace(outcome, findings=TestAnalysis())
    for part in report_parts(examine(nothing)):
        assert not part.sections
        assert part.absent.endswith(".")


def test_a_sample_is_found_with_scans_and_covariates(outcome, content):
    cohort, source = outcome.data.cohort, content.samples
    name = outcome.outputs["test"].sample_id[0]
    row = cohort.sample_ids.index(name)
    np.testing.assert_array_equal(source.scan_rows[name], cohort.scan_rows[row])
    assert source.covariates == [*cohort.numeric, *cohort.categorical]
    raw = cohort.samples.iloc[row]
    texts = dict(zip(source.covariates, source.values[name], strict=True))
    assert texts["age"] == f"{raw['age']:.6g} years"
    assert texts["sex"] == raw["sex"]
    features = outcome.data.encoder.feature_columns
    assert [source.covariates[number] for number in source.feature_of] == features


def test_a_missing_value_is_no_text(outcome):
    ids = outcome.data.cohort.sample_ids
    source = sample_source(outcome.data, ids)
    table = outcome.data.cohort.samples
    assert source.values is not None
    for number, column in enumerate(source.covariates):
        absent = [source.values[name][number] == "" for name in ids]
        assert absent == table[column].isna().tolist()
    assert table.isna().any(axis=None)


def test_a_run_that_goes_on_shows_its_last_validation(outcome):
    epochs = [row for row in read_log(outcome.run_dir / "log.jsonl") if row["event"] == "epoch"]
    val = outcome.outputs["val"]
    metrics = {name: epochs[-1]["metrics"][f"val/{name}"] for name in outcome.config.metrics}
    running = replace(outcome, results={"val": metrics}, outputs={"val": val})
    content = content_of(running, epochs=epochs)
    assert (content.status, content.epoch, content.max_epochs) == ("running", 1, 1)
    assert content.outputs is val
    assert content.subset == "validation"
    assert list(content.headline) == outcome.config.metrics
    expected = [epochs[-1]["metrics"][f"val/{name}"] for name in outcome.config.metrics]
    assert list(content.headline.values()) == expected
    nothing_yet = content_of(replace(outcome, results={"val": {}}, outputs={}, epochs=0), epochs=[])
    assert nothing_yet.epoch == 0
    assert nothing_yet.headline == {}
