"""Which settings a continued run may change: honoured, or refused in one line."""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from datasets.errors import UsageError
from experiments.config.automatic import keep_automatic
from experiments.config.components import Section
from experiments.config.schema import Config
from experiments.config.yaml_text import read_yaml

# They say which run is continued. The run keeps its own.
FINDS_THE_RUN = frozenset({"exp_name", "runs_dir"})


def _keys(names: Mapping[str, str]) -> frozenset[str]:
    return frozenset(
        f"{section}.{name}" if section else name
        for section, listed in names.items()
        for name in listed.split()
    )


TABLE = Path(__file__).with_suffix(".yaml")
_TABLE = read_yaml(TABLE.read_text("utf-8"), TABLE.name)
ANY_TIME, TRAINING = _keys(_TABLE["any_time"]), _keys(_TABLE["training"])
# Key -> why.
REFUSED = {key: why for why, names in _TABLE["refused"].items() for key in _keys(names)}
# These attach or leave out handlers that have a state.
ATTACH = frozenset(
    {"handlers", "lr_scheduler", "trainer.early_stopping", "ema.decay", "report.enabled"}
)
LONGEST_VALUE = 60
ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A setting, by its dotted key, that is not what it was."""

    key: str
    before: Any
    now: Any

    def told(self, why: str) -> str:
        """The key, its new value and, in brackets, ``why`` with its old value in place of {}."""
        return f"{self.key} {_short(self.now)} ({why.format(_short(self.before))})"


def setting_keys(schema: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every setting as a dotted key; a section is one only where it can be left out."""
    keys = []
    for name, field in schema.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
        of_one = bool(sections) and get_origin(field.annotation) is not list
        if not of_one or type(None) in kinds:
            keys.append(prefix + name)
        if of_one:
            keys += setting_keys(sections[0], f"{prefix}{name}.")
    return keys


def training_settings(config: Config) -> dict[str, Any]:
    """What a checkpoint was trained with, in plain types; saved in each checkpoint."""
    settings = copy.deepcopy(config.resolved())
    for key in (*FINDS_THE_RUN, *ANY_TIME):
        *sections, last = key.split(".")
        _find(settings, sections).pop(last, None)
    return settings


def with_training_settings(settings: dict[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run's folder, those of its checkpoint in place of its own."""
    merged = copy.deepcopy(settings)
    for key in setting_keys():
        *sections, last = key.split(".")
        value = _value(saved, key)
        if value is not ABSENT:
            _find(merged, sections)[last] = value
    return merged


def changes_between(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The settings that differ, but for those that only find the run or that one of them lacks."""
    found = []
    sections = {key.rpartition(".")[0] for key in setting_keys()}
    for key in setting_keys():
        old, new = _value(before, key), _value(now, key)
        if key in FINDS_THE_RUN or ABSENT in (old, new):
            continue
        differs = (old is None) != (new is None) if key in sections else old != new
        if differs:
            found.append(Change(key, old, new))
    return found


def refuse_changes(changes: Iterable[Change], run_dir: Path, bucketed: bool = False) -> None:
    """Refuse what cannot be honoured; ``bucketed``: batches are by padded numbers of scans."""
    refused = []
    for change in changes:
        reason = REFUSED.get(change.key)
        if change.key == "data.batching.pad_scans_to" and bucketed:
            reason = REFUSED["data.batching.kind"]
        if reason is None and change.key not in ANY_TIME | TRAINING:
            reason = "nothing says that it may change"
        if reason is not None:
            refused.append(change.told(f"it has {{}}: {reason}"))
    if refused:
        raise UsageError(
            f"the run in {run_dir} cannot be continued with {', '.join(refused)}; "
            "leave it out or start a new run"
        )


def refuse_without_effect(changes: Sequence[Change], run_dir: Path, ended: str) -> None:
    """Refuse changes of the training where nothing is left to train; ``ended`` says why."""
    idle = [change for change in changes if change.key in TRAINING]
    if idle:
        asked = ", ".join(change.told("it has {}") for change in idle)
        raise UsageError(f"{asked} would change nothing in {run_dir}: {ended}")


def describe_changes(changes: Iterable[Change]) -> str:
    """One line on changed settings: "continued with optimizer.lr 1e-05 (before: 0.01)"."""
    return f"continued with {', '.join(change.told('before: {}') for change in changes)}"


def unused_settings(source: str, written: Any, config: Config, own: Config) -> str | None:
    """One line on settings of the file ``source`` (``config``) that the continued run's replace."""
    keys = list(_nested_keys(written))
    keep_automatic(config, own.resolved())
    changes = changes_between(own.resolved(), config.resolved())
    unused = [c for c in changes if any(f"{key}.".startswith(f"{c.key}.") for key in keys)]
    if not unused:
        return None
    told = ", ".join(change.told("the run has {}") for change in unused)
    value = json.dumps(unused[0].now, ensure_ascii=False).strip('"')
    return (
        f"{source}: not used: {told}; the run keeps its own settings; to change one: "
        f"--{unused[0].key} {value}"
    )


def _nested_keys(values: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield f"{prefix}{name}"
            yield from _nested_keys(value, f"{prefix}{name}.")


def _find(settings: Any, sections: Sequence[str]) -> Any:
    for name in sections:
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _value(settings: Mapping[str, Any], key: str) -> Any:
    *sections, last = key.split(".")
    return _find(settings, sections).get(last, ABSENT)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
