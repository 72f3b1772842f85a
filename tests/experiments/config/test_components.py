from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.config.components import RENAMED, construct, find_named
from handlers import HANDLERS
from models import MODELS


def test_a_short_name_and_a_dotted_path_find_the_same():
    assert find_named("tft", MODELS, "model.name") is find_named(
        "models.tft_models.TFTMultimodal", {}, "model.name"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tff", "model.name: nothing is called 'tff'; did you mean 'tft'"),
        ("models.tft_model.TFTMultimodal", "model.name: no module 'models.tft_model'"),
        ("models.tft_models.TFTMultimodel", "did you mean 'TFTMultimodal'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(UsageError, match=message):
        find_named(name, MODELS, "model.name")


def test_a_wrong_name_is_told_the_file_and_what_it_defines(tmp_path, monkeypatch):
    (tmp_path / "mine_alone.py").write_text("import math\nfrom torch import nn\nclass Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"mine_alone\.py\) has no 'Yours' \(choices: Mine\)"):
        find_named("mine_alone.Yours", {}, "model.name")
    with pytest.raises(UsageError, match="in this folder or on PYTHONPATH"):
        find_named("mine_nowhere.Mine", {}, "model.name")


def test_a_modules_own_import_error_is_not_blamed_on_the_user(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        find_named("broken_module.Thing", {}, "model.name")


class Thing:
    def __init__(self, width: int, depth: int = 2, *, rate: float = 0.1) -> None:
        if rate > 1:
            raise ValueError("rate must be\nat most 1")
        self.values = (width, depth, rate)


def test_only_arguments_that_a_constructor_names_are_passed():
    offered = {"width": 5, "spec_len": 100}
    assert construct(Thing, {"depth": 3}, "model.params", offered).values == (5, 3, 0.1)
    assert construct(Thing, {"width": 1}, "model.params", offered).values == (1, 2, 0.1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"widht": 3}, "model.params: Thing has no parameter 'widht'; did you mean 'width'"),
        ({}, "model.params: Thing needs 'width'"),
        ({"width": "1_000"}, 'model.params.width: a whole number was expected, got "1_000"'),
        ({"width": 1, "rate": "nan"}, 'model.params.rate: a number was expected, got "nan"'),
        ({"width": True}, "model.params.width: a whole number was expected, got true"),
        ({"width": 1, "rate": 2}, "Thing refuses its parameters: rate must be at most 1"),
    ],
)
def test_wrong_parameters_are_one_line(params, message):
    with pytest.raises(UsageError, match=message) as error:
        construct(Thing, params, "model.params")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_answers_with_the_new_one(old, new):
    with pytest.raises(UsageError, match=f"handlers: '{old}' is now called '{new}'"):
        find_named(old, HANDLERS, "handlers")
    assert new in HANDLERS
