"""From names and parameters, as a configuration gives them, to ready objects."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeGuard

from datasets.errors import UsageError, nearest

# A key of the choices, a class, or either of them with parameters.
Spec = str | type | Mapping[str, Any]


def build_each(kind: str, choices: Mapping[str, type], specs: Sequence[Spec]) -> list[Any]:
    """Build the objects of a list of specs, in its order; UsageError with the nearest valid choice.

    A spec is a key of ``choices``, a class, or ``{"name": either, "params": {...}}``.
    """
    if isinstance(specs, str) or not isinstance(specs, Sequence):
        raise UsageError(f"{kind}s: a list was expected, as [{next(iter(choices))}], not {specs!r}")
    return [_build(kind, choices, spec) for spec in specs]


def _build(kind: str, choices: Mapping[str, type], spec: Spec) -> Any:
    name: Any = spec
    params: Any = {}
    if isinstance(spec, Mapping):
        for key in spec:
            if key not in ("name", "params"):
                raise UsageError(
                    f"{kind}: unknown key {key!r} in {dict(spec)}{nearest(key, ['name', 'params'])}"
                )
        name, params = spec.get("name"), spec.get("params") or {}
    if not isinstance(name, type) and not (isinstance(name, str) and name in choices):
        raise UsageError(f"unknown {kind} {name!r}{nearest(name, choices)}")
    cls = name if isinstance(name, type) else choices[name]
    what = f"{kind} {cls.__name__ if name is cls else name!r}"
    if not isinstance(params, Mapping):
        raise UsageError(f"params of {what}: a mapping was expected, not {params!r}")
    _check_params(what, cls, params)
    return cls(**params)


def _check_params(what: str, build: Callable[..., Any], params: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(build).parameters.values()
    except ValueError:  # a built-in type without a signature
        return
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in params:
        if name not in named and not takes_any:
            raise UsageError(f"{what} has no parameter {name!r}{nearest(name, named)}")
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in params:
            raise UsageError(f"{what} needs the parameter {name!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def require_number(what: str, value: object, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``, or a UsageError; ``what`` is its full name."""
    if not _is_number(value) or not math.isfinite(value) or not low <= value <= high:
        raise UsageError(f"{what}: a number{_bounds(low, high)} was expected, not {value!r}")
    return float(value)


def require_whole(what: str, value: object, low: int = 0, high: float = math.inf) -> int:
    """A whole number from ``low`` to ``high``, or a UsageError; 3.0 is whole."""
    if not _is_number(value) or value % 1 or not low <= value <= high:
        raise UsageError(f"{what}: a whole number{_bounds(low, high)} was expected, not {value!r}")
    return int(value)


def optional_whole(what: str, value: object, low: int = 0) -> int | None:
    """As :func:`require_whole`, of at least ``low``; None stays None."""
    return None if value is None else require_whole(what, value, low)


def require_choice(what: str, value: object, choices: Collection[str]) -> str:
    """One of a few words, or a UsageError with the nearest one."""
    if value not in choices:
        raise UsageError(f"{what}: there is no {value!r}{nearest(value, choices)}")
    return str(value)


def _bounds(low: float, high: float) -> str:
    if math.isinf(high):
        return "" if math.isinf(low) else f" at least {low:g}"
    return f" between {low:g} and {high:g}"


def require_range(
    what: str, value: object, low: float, high: float, open_low: bool = False
) -> float:
    """A number from ``low``, with ``open_low`` above it, to below ``high``; or a UsageError."""
    if not _is_number(value) or not low <= value < high or (open_low and value == low):
        bounds = f"{'above' if open_low else 'at least'} {low:g}"
        bounds += "" if math.isinf(high) else f" and below {high:g}"
        raise UsageError(f"{what}: a number {bounds} was expected, not {value!r}")
    return float(value)
