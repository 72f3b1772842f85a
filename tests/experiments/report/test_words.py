from __future__ import annotations

import copy
import json
import pickle
import re

import pytest

from datasets.errors import UsageError
from datasets.messages import Message, from_plain, sentences, to_plain
from engine.statistics import DEFAULT, RULES
from experiments.report.figures import TEMPLATES
from experiments.report.words import PLACES, Words, read_words

LITERAL = r'"((?:[^"\\]|\\.)*)"'
# Two words, or one with a capital, that are no phrase: classes of elements, a language's own name.
NO_PHRASES = {"", "name soft", "fork minus", "nav a", "English"}
SAID_IN_TEMPLATE = r'(?:\bt\(|attribute\("[\w-]+", |say\(|plot\("[\w-]+", |(?:if|else) )'


def test_a_chinese_phrase_has_the_places_of_the_english_one():
    for english, chinese in read_words().items():
        places = PLACES.findall(chinese)
        assert len(places) == english.count("{}"), english
        assert all(int(place) < len(places) for place in places if place), english


def test_every_message_is_filled_in_chinese():
    words = Words("zh")
    for english, chinese in read_words().items():
        values = [f"{number}.5%" for number in range(english.count("{}"))]
        turn = iter(values)
        expected = PLACES.sub(
            lambda m, t=turn, v=values: v[int(m[1])] if m[1] else next(t),  # type: ignore[misc]
            chinese,
        )
        assert words.translate(Message(english, *values)) == expected


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
    assert words.translate(Message("scan {}", 3)) == "scan 3"
    assert words.translate("epoch") == "epoch"


def test_a_message_is_found_by_the_phrase_that_it_was_filled_from():
    words = Words("zh")
    assert words.translate(Message("component {} ({})", 2, "10%")) == "主成分 2(10%)".replace(
        "(", "\uff08"
    ).replace(")", "\uff09")
    assert words.translate("no phrase of the page") == "no phrase of the page"
    assert words.translate(Message("no phrase of {}", "a")) == "no phrase of a"


def test_places_can_change_their_order():
    told = "95% intervals: {} bootstrap resamples of the {} groups of the test set."
    said = Words("zh").translate(Message(told, 1000, 135))
    assert said.index("135") < said.index("1000")


def test_a_text_is_translated_sentence_by_sentence():
    text = sentences(
        "By integrated gradients (Sundararajan et al. 2017).",
        Message("Attributions of {}, over {} samples.", Message("the logit of {}", "case"), 135),
        "And something else.",
    )
    said = Words("zh", names=["case"]).translate(text)
    assert "Attributions" not in said
    assert "case" in said
    assert said.endswith("And something else.")


def test_names_are_never_translated_alone_or_within_a_message():
    words = Words("zh", names=["training", "prediction"])
    assert words.translate("training") == "training"
    assert words.translate(Message("true {}", "prediction")) == "真实 prediction"
    # A phrase of the page itself is one, whatever else is called so.
    assert words.translate(Message("training")) != "training"
    assert words.translate(Message("true {}", Message("absent"))) == "真实无"


def test_a_list_has_the_separators_of_its_language():
    told = Message(
        "undefined in the test set: {}", [Message("auroc"), "training", Message("mae[{}]", "a")]
    )
    assert told == "undefined in the test set: auroc, training, mae[a]"
    assert Words("zh").translate(told).endswith("AUROC、training、平均绝对误差 [a]")


def test_elements_hold_both_languages_and_escape_them():
    element = Words("zh").say("validation {}", "<b>0.9</b>")
    assert 'data-en="validation &lt;b&gt;' in element
    assert ">验证集 &lt;b&gt;" in element
    assert "<b>" not in element
    attribute = Words("zh").attribute("aria-label", "Sections")
    assert attribute.startswith('aria-label="目录"')
    assert 'data-en-aria-label="Sections"' in attribute


def test_a_message_survives_json_pickles_and_copies():
    told = Message("{} of {}", Message("{} groups", 3), ["a", Message("none")])
    again = from_plain(json.loads(json.dumps(to_plain(told))))
    for one in (again, pickle.loads(pickle.dumps(told)), copy.deepcopy(told)):
        assert one == told == "3 groups of a, none"
        assert one.phrase == told.phrase
        assert Words("zh").translate(one) == Words("zh").translate(told)


def test_there_are_two_languages():
    with pytest.raises(UsageError, match="no language is called 'de'"):
        Words("de")
