"""From a configuration to metrics: names of the engine's, and those of the user's own."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torchmetrics

from datasets.errors import UsageError
from engine.metrics import CustomMetric, custom_metric, custom_metrics, try_metric
from experiments.config.components import (
    Entry,
    arguments_for,
    construct,
    find_named,
    is_path,
    keyed,
    metric_name,
    split_entry,
)


def build_metrics(
    entries: Sequence[Entry], task: str, width: int | None = None
) -> list[str | CustomMetric]:
    """The metrics of a configuration, those of the user's own imported, built and tried.

    ``entries`` are names of the engine's metrics, or dotted paths to a function ``f(scores, target)
    -> float``, to a torchmetrics class, or to a function that makes one of both. Without ``width``,
    the number of outputs, they are not tried.
    """
    built = [_build(entry, f"metrics.{number}") for number, entry in enumerate(entries)]
    for number, metric in enumerate(built):
        if isinstance(metric, CustomMetric) and width is not None:
            with keyed(f"metrics.{number}"):
                try_metric(metric, task, width)
    with keyed("metrics"):
        custom_metrics(built)
    return built


def recompute_metrics(
    entries: Sequence[Entry], task: str, width: int
) -> tuple[dict[str, CustomMetric], dict[str, str]]:
    """A finished run's own metrics by name, and why others cannot be computed again.

    A run's configuration may be another person's. So nothing is called here with what stands in
    it, but for the classes of torchmetrics and what derives from them.
    """
    found: dict[str, CustomMetric] = {}
    failed: dict[str, str] = {}
    for entry in entries:
        path, params = split_entry(entry)
        name = metric_name(entry)
        if not is_path(path):
            continue
        try:
            _refuse_calls(find_named(path, {}, name), params)
            (metric,) = build_metrics([entry], task, width)
            assert isinstance(metric, CustomMetric)
            found[name] = metric
        except UsageError as error:
            failed[name] = str(error)
    return found, failed


def _refuse_calls(found: Any, params: Mapping[str, Any]) -> None:
    of_torchmetrics = isinstance(found, type) and issubclass(found, torchmetrics.Metric)
    is_plain = inspect.isfunction(found) and not params and _asked_for(found, params)
    if not of_torchmetrics and not is_plain:
        raise UsageError(
            "only functions of scores and target, and torchmetrics classes, are computed again"
        )


def _build(entry: Entry, key: str) -> str | CustomMetric:
    name, params = split_entry(entry)
    if not is_path(name):
        if params:
            raise UsageError(f"{key}: the metric '{name}' takes no params")
        return name
    found = find_named(name, {}, f"{key}.name" if params else key)
    if _makes_a_metric(found, params):
        found = construct(found, params, f"{key}.params")
    elif params:
        found = _with_params(found, params, f"{key}.params")
    with keyed(key):
        return custom_metric(found, metric_name(entry))


def _makes_a_metric(found: Any, params: Mapping[str, Any]) -> bool:
    """Whether it is called once, to make the metric; a metric itself asks for scores and target."""
    if isinstance(found, type):
        return True
    if isinstance(found, torchmetrics.Metric) or not callable(found):
        return False
    return not _asked_for(found, params)


def _asked_for(function: Callable[..., Any], params: Mapping[str, Any]) -> list[str]:
    """The positional parameters that have no default and no value in ``params``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some builtins have none
        return ["scores", "target"]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return ["scores", "target"]
    return [
        p.name
        for p in parameters
        if p.kind in positional and p.default is p.empty and p.name not in params
    ]


def _with_params(function: Callable[..., Any], params: Mapping[str, Any], key: str) -> Any:
    """The function with keywords set; checked like a constructor's parameters."""
    if isinstance(function, torchmetrics.Metric):
        raise UsageError(f"{key}: {type(function).__name__} is built already; give its class")
    given = dict.fromkeys(_asked_for(function, params)[:2])
    arguments = arguments_for(function, params, key, given)
    return functools.partial(function, **{name: arguments[name] for name in params})
