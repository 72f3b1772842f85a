from __future__ import annotations

import re

import pytest

from datasets.errors import UsageError
from engine.statistics import DEFAULT, RULES
from experiments.report.figures import TEMPLATES
from experiments.report.words import ENGLISH_PLACES, LISTED, PLACES, Words, read_words

LITERAL = r'"((?:[^"\\]|\\.)*)"'
# Two words, or one with a capital, that are no phrase: classes of elements, a language's own name.
NO_PHRASES = {"", "name soft", "fork minus", "nav a", "English"}
SAID_IN_TEMPLATE = r'(?:\bt\(|attribute\("[\w-]+", |say\(|plot\("[\w-]+", |(?:if|else) )'


# What stands at a place, by what the place says of it.
VALUES = {"": "X{}", "name": "the Y{}, or Z", "number": "{}.5%", "phrase": "Overview"}


def places_of(english: str) -> list[str]:
    """The kinds of a phrase's places; of a list how its items look."""
    return [match["item"] or match["kind"] for match in ENGLISH_PLACES.finditer(english)]


def filled(english: str, chinese: str, start: int = 0) -> tuple[str, str]:
    """A phrase with values in both languages."""
    values, said, items = [], [], iter(LISTED.findall(chinese))
    for number, place in enumerate(places_of(english), start=start):
        if place in VALUES:
            values.append(VALUES[place].format(number))
            said.append("概览" if place == "phrase" else values[-1])
        else:
            item = next(items)
            pairs = [filled(place, item, start=10 * turn) for turn in (1, 2, 3)]
            values.append(", ".join(pair[0] for pair in pairs))
            said.append("、".join(pair[1] for pair in pairs))
    turn = iter(values)
    in_english = ENGLISH_PLACES.sub(lambda _: next(turn), english)
    turn = iter(said)
    return in_english, PLACES.sub(lambda m: said[int(m[1])] if m[1] else next(turn), chinese)


def test_a_chinese_phrase_has_the_places_of_the_english_one():
    for english, chinese in read_words().items():
        places = PLACES.findall(chinese)
        assert len(places) == len(places_of(english)), english
        assert all(int(place) < len(places) for place in places if place), english
        for item, said in zip(LISTED.findall(english), LISTED.findall(chinese), strict=True):
            assert len(PLACES.findall(said)) == len(places_of(item)), english


def test_every_filled_phrase_is_found_unambiguously():
    words = Words("zh")
    pairs = [filled(english, chinese) for english, chinese in read_words().items()]
    said = {text: (words.translate(text), expected) for text, expected in pairs}
    assert {text: both for text, both in said.items() if both[0] != both[1]} == {}


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("report_*.js")), ids=lambda p: p.name)
def test_every_phrase_of_the_scripts_is_in_the_catalogue(path):
    code = re.sub(r"//.*", "", path.read_text("utf-8"))
    literals = set(re.findall(LITERAL, code)) - NO_PHRASES
    looks = re.compile(r"[a-z]{2,} [a-z{]|^[A-Z][a-z]")
    assert [text for text in literals if looks.search(text) and text not in read_words()] == []


def test_every_phrase_of_the_template_is_in_the_catalogue():
    template = (TEMPLATES / "index.html.j2").read_text("utf-8")
    phrases = set(re.findall(SAID_IN_TEMPLATE + LITERAL, template)) - NO_PHRASES
    assert len(phrases) > 60
    assert [phrase for phrase in phrases if phrase not in read_words()] == []


def test_every_rule_has_a_name_on_the_page():
    script = (TEMPLATES / "report_threshold.js").read_text("utf-8")
    block = script[script.index("const RULES") : script.index("const ruleOf")]
    named = dict(re.findall(r'(\w+): "([^"]+)"', block))
    assert set(named) == {*RULES, DEFAULT}
    assert set(named.values()) <= set(read_words())


def test_english_is_said_as_it_stands():
    words = Words()
    assert words.tag == "en"
    assert words.say("scan {}", 3) == "scan 3"
    assert words.translate("epoch") == "epoch"


def test_a_text_is_found_by_the_phrase_that_it_was_filled_from():
    words = Words("zh")
    assert words.translate("component 2 (10%)") == "主成分 2(10%)".replace("(", "\uff08").replace(
        ")", "\uff09"
    )
    assert words.translate("no phrase of the page") == "no phrase of the page"


def test_places_can_change_their_order():
    said = Words("zh").translate(
        "95% intervals: 1000 bootstrap resamples of the 135 groups of the test set."
    )
    assert said.index("135") < said.index("1000")


def test_a_text_is_translated_sentence_by_sentence():
    words = Words("zh", names=["case"])
    said = words.translate(
        "By integrated gradients (Sundararajan et al. 2017). Attributions of the logit of case, "
        "over 135 samples. And something else."
    )
    assert "Attributions" not in said
    assert "case" in said
    assert said.endswith("And something else.")


def test_names_are_never_translated_alone_or_within_a_phrase():
    words = Words("zh", names=["training", "prediction"])
    assert words.translate("training") == "training"
    assert words.translate("true prediction") == words.say("true {}", "prediction")
    assert "prediction" in words.translate("true prediction")
    # A phrase of the page itself is one, whatever else is called so.
    assert words.say("training") != "training"


def test_elements_keep_what_they_were_made_from_and_escape_it():
    element = Words("zh").element("validation {}", "<b>0.9</b>")
    assert 'data-t="validation {}"' in element
    assert "<b>" not in element
    attribute = Words("zh").attribute("aria-label", "Sections")
    assert attribute.startswith('aria-label="')
    assert attribute.endswith('data-t-aria-label="Sections"')


def test_there_are_two_languages():
    with pytest.raises(UsageError, match="no language is called 'de'"):
        Words("de")
