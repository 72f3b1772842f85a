from __future__ import annotations

from datasets.messages import Message, sentences


def test_a_message_is_its_text_and_keeps_its_phrase():
    told = Message("{} of {} are missing: {}", 2, "CRP", ["a", "b"])
    assert told == "2 of CRP are missing: a, b"
    assert told.phrase == "{} of {} are missing: {}"


def test_empty_sentences_are_left_out():
    assert sentences("It rains.", "", Message("{} are wet.", 3)) == "It rains. 3 are wet."
