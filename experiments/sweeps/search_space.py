"""The settings that a search varies, and the values that it may give them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, nearest
from experiments.config import load_config, read_yaml

# Whatever else a configuration sets decides which figure is measured, of which samples.
SEARCHED = (
    *("model", "loss", "trainer", "optimizer", "lr_scheduler", "ema", "handlers"),
    *("data.transforms", "data.augmentations", "data.batching", "data.covariate_encoding"),
    *("data.numeric", "data.categorical", "data.log", "data.missing_indicators"),
)
FLOAT, INT, CHOICES, LOG, STEP, WHEN = "float", "int", "choices", "log", "step", "when"
KINDS = (FLOAT, INT, CHOICES)
# Which words go with which kind.
WORDS = {FLOAT: (LOG, STEP, WHEN), INT: (LOG, STEP, WHEN), CHOICES: (WHEN,)}
EXPECTED = (
    "expected {float: [LOW, HIGH]} or {int: [LOW, HIGH]} with log or step, or a list of choices"
)

Overrides = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Axis:
    """The values of one setting; ``when`` has others and the choices with which it is searched.

    A range has ``low`` and ``high``; ``choices`` are as a study stores them: plain scalars, lists
    and sections as JSON.
    """

    key: str
    kind: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def is_on(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the setting is searched beside these values."""
        return all(key in chosen and chosen[key] in of for key, of in self.when.items())

    def suggest(self, trial: Any) -> Any:
        """The value that an Optuna trial is given."""
        if self.kind == CHOICES:
            return trial.suggest_categorical(self.key, self.choices)
        if self.kind == FLOAT:
            return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        step = int(self.step or 1)
        return trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log)

    def examples(self) -> tuple[Any, ...]:
        """All choices; of a range its ends, and of floats one between them that is not whole."""
        if self.kind == CHOICES:
            return self.choices
        if self.kind == INT:
            return (int(self.low), int(self.high))
        between = self.low + (self.high - self.low) / math.pi
        return (self.low, self.high, between if self.step is None else self.low + self.step)


@dataclass(frozen=True)
class SearchSpace:
    """The axes in the order of the file; those on which others depend come first."""

    axes: tuple[Axis, ...]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The values of a trial, by key."""
        chosen: dict[str, Any] = {}
        for axis in self.axes:
            if axis.is_on(chosen):
                chosen[axis.key] = axis.suggest(trial)
        return chosen

    def first(self) -> dict[str, Any]:
        """The first choices and the lower ends, by key."""
        chosen: dict[str, Any] = {}
        for axis in self.axes:
            if axis.is_on(chosen):
                chosen[axis.key] = axis.examples()[0]
        return chosen

    def plain(self) -> dict[str, Any]:
        """In plain types, by which two spaces are compared."""
        return {
            axis.key: json.loads(json.dumps({k: v for k, v in vars(axis).items() if k != "key"}))
            for axis in self.axes
        }


def as_overrides(chosen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The values of a trial as a command line has them."""
    return [(key, value_text(value)) for key, value in chosen.items()]


def value_text(value: Any) -> str:
    """A value as YAML; lists and sections are JSON already."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        return value
    return json.dumps(value, ensure_ascii=False)


def read_space(path: Path, source: str, overrides: Overrides = ()) -> SearchSpace:
    """Read a space from YAML: key -> range or choices; each value is checked by the schema.

    UsageError, in one line, for a key or a value that the configuration ``source`` refuses.
    """
    try:
        written = read_yaml(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"--space: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--space: {path} is not UTF-8 text (byte {error.start})") from error
    if not isinstance(written, dict) or not written:
        raise UsageError(f"--space: {path}: expected keys of the configuration with their values")
    axes: dict[str, Axis] = {}
    for key, given in written.items():
        try:
            axes[str(key)] = axis = _read_axis(str(key), given, axes)
            _check_values(axis, source, overrides, axes)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
    return SearchSpace(tuple(axes.values()))


def _read_axis(key: str, given: Any, earlier: Mapping[str, Axis]) -> Axis:
    if isinstance(given, list):
        given = {CHOICES: given}
    if not isinstance(given, dict):
        raise UsageError(f"{key}: {EXPECTED}, got {json.dumps(given)}")
    kinds = [word for word in given if word in KINDS]
    if len(kinds) != 1:
        strange = next((word for word in given if word not in (*KINDS, LOG, STEP, WHEN)), None)
        hint = "" if strange is None else f"{nearest(strange, KINDS)}"
        raise UsageError(f"{key}: {EXPECTED}{hint}")
    kind = kinds[0]
    for word in given:
        if word != kind and word not in WORDS[kind]:
            raise UsageError(f"{key}: {kind} has no '{word}'{nearest(word, WORDS[kind])}")
    when = _read_when(key, given.get(WHEN, {}), earlier)
    if kind == CHOICES:
        return Axis(key, kind, _read_choices(key, given[kind]), when=when)
    return _read_range(key, kind, given, when)


def _read_choices(key: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list) or len(values) < 2:
        raise UsageError(f"{key}: a list of two choices or more was expected")
    choices = tuple(_stored(value) for value in values)
    for number, choice in enumerate(choices):
        # 1, 1.0 and true are equal to Python and to the study.
        if choice in choices[:number]:
            raise UsageError(f"{key}: {value_text(choice)} stands twice")
    return choices


def _stored(value: Any) -> Any:
    """A choice as a study can store it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _read_range(key: str, kind: str, given: Mapping[str, Any], when: Any) -> Axis:
    ends, step, log = given[kind], given.get(STEP), given.get(LOG, False)
    number: Callable[[Any], bool] = _is_whole if kind == INT else _is_number
    called = "whole numbers" if kind == INT else "numbers"
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(number, ends)):
        raise UsageError(f"{key}: {kind}: two {called} were expected, [LOW, HIGH]")
    low, high = ends
    if not low < high:
        raise UsageError(f"{key}: {kind}: the first has to be less than the second, got {ends}")
    if log not in (True, False):
        raise UsageError(f"{key}: log: true or false was expected, got {json.dumps(log)}")
    if step is not None and (not number(step) or step <= 0 or step > high - low):
        raise UsageError(f"{key}: step: a number up to {high - low} was expected, got {step}")
    if log and step is not None:
        raise UsageError(f"{key}: log and step exclude each other; leave one out")
    if log and low <= 0:
        raise UsageError(f"{key}: log: the range has to begin above 0, got {ends}")
    return Axis(key, kind, low=low, high=high, log=log, step=step, when=when)


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _read_when(key: str, given: Any, earlier: Mapping[str, Axis]) -> dict[str, tuple[Any, ...]]:
    if not isinstance(given, dict):
        raise UsageError(f"{key}: when: other keys with their choices were expected")
    found = {}
    for other, values in given.items():
        axis = earlier.get(other)
        if axis is None or axis.kind != CHOICES:
            above = [name for name, of in earlier.items() if of.kind == CHOICES]
            raise UsageError(
                f"{key}: when: '{other}' is no key above it that has choices{nearest(other, above)}"
            )
        chosen = tuple(map(_stored, values if isinstance(values, list) else [values]))
        for value in chosen:
            if value not in axis.choices:
                told = nearest(value, axis.choices)
                raise UsageError(f"{key}: when: {other} is never {value_text(value)}{told}")
        found[other] = chosen
    return found


def _check_values(axis: Axis, source: str, overrides: Overrides, axes: Mapping[str, Axis]) -> None:
    """Refuse what the schema refuses, beside the values with which the axis is searched."""
    for key, _ in overrides:
        if f"{key}.".startswith(f"{axis.key}."):
            raise UsageError(f"{axis.key}: it is searched, so --{key} has no effect; leave one out")
    beside = as_overrides({key: of[0] for key, of in _all_conditions(axis, axes)})
    for value in axis.examples():
        load_config(source, [*overrides, *beside, (axis.key, value_text(value))])
    if not any(f"{axis.key}.".startswith(f"{key}.") for key in SEARCHED):
        raise UsageError(
            f"{axis.key}: it decides which figure is measured, or of what, and cannot be "
            f"searched{nearest(axis.key, SEARCHED)}"
        )
    for key in axes:
        if key != axis.key and f"{key}.".startswith(f"{axis.key}."):
            raise UsageError(f"{axis.key}: it would replace {key}, which stands above it")


def _all_conditions(axis: Axis, axes: Mapping[str, Axis]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The conditions of an axis, after those of the axes that it depends on."""
    for key, of in axis.when.items():
        yield from _all_conditions(axes[key], axes)
        yield key, of
