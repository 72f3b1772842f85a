from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.config import ComponentConfig, check_config
from experiments.report import render_report
from experiments.report.figures import Section
from experiments.report.report_page import check_sections, custom_parts
from tests.experiments.report.made_examined import make_examined
from tests.experiments.report.made_report import make_content

HERE = __name__


def counted(outputs, classes, unit="samples"):
    """A section of a user's."""
    return Section(
        "tsne", "Counted", text=f"{len(outputs.sample_id)} {unit}, {len(classes)} classes"
    )


def two(outputs):
    return [Section("one", "First"), Section("two", "Second")]


def nothing(outputs):
    return None


def configured(*entries):
    return check_config({"report": {"sections": list(entries)}}).report.sections


def test_a_function_is_given_what_it_names_and_its_params():
    entries = configured(f"{HERE}.counted", {"name": f"{HERE}.counted", "params": {"unit": "mice"}})
    check_sections(entries)
    examined = make_examined()
    parts = list(custom_parts(entries, examined))
    samples = len(examined.outputs.sample_id)
    assert [part.sections[0].text for part in parts] == [
        f"{samples} samples, 2 classes",
        f"{samples} mice, 2 classes",
    ]


def test_its_sections_stand_on_the_page_beside_equal_names():
    entries = configured(f"{HERE}.counted", f"{HERE}.two")
    parts = list(custom_parts(entries, make_examined()))
    text = render_report(make_content("binary", parts=parts))
    assert '<section id="custom-0"' in text
    assert '<a href="#custom-1"' in text
    assert ">First<" in text
    assert ">Second<" in text
    names = [section.name for part in parts for section in part.sections]
    assert names == ["custom-0-tsne", "custom-1-one", "custom-1-two"]


@pytest.mark.parametrize(
    ("name", "params", "complaint"),
    [
        ("counted", {}, "report.sections.0: nothing is called 'counted'"),
        (f"{HERE}.count", {}, "report.sections.0: module .* has no 'count'; did you mean"),
        (f"{HERE}.HERE", {}, r"report.sections.0: .*HERE is no function"),
        (
            f"{HERE}.counted",
            {"units": "a"},
            "counted has no parameter 'units'; did you mean 'unit'",
        ),
        (f"{HERE}.configured_by", {}, "configured_by needs 'model', which is not given"),
    ],
)
def test_what_cannot_be_called_is_refused_before_training(name, params, complaint):
    with pytest.raises(UsageError, match=complaint):
        check_sections([ComponentConfig(name=name, params=params)])


def configured_by(model):
    return Section("a", model)


def test_what_is_no_section_is_refused():
    with pytest.raises(UsageError, match=r"nothing returned None; a Section or a list of Sections"):
        list(custom_parts(configured(f"{HERE}.nothing"), make_examined()))
