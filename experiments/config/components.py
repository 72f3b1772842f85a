"""What sections of a configuration are made of, and what the names in them stand for."""

import importlib
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    model_validator,
)
from typing_extensions import Self

from datasets.errors import UsageError, nearest
from datasets.paths import as_path


def _no_boolean(value: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number was expected")
    return value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def several(value: Any) -> Any:
    """A list; a bare name stands for a list of it."""
    return [value] if isinstance(value, str) else value


def one_of(choices: Collection[str], what: str, ends: str = "") -> AfterValidator:
    """A validator of a name or of a list of names; ``what`` begins its error (``no schedule``).

    Only what stands before ``ends`` has to be one of the choices, where that is not empty.
    """

    def check(names: Any) -> Any:
        for name in several(names):
            if (name.partition(ends)[0] if ends else name) not in choices:
                raise ValueError(f"{what} is called '{name}'{nearest(name, choices)}")
        return names

    return AfterValidator(check)


def _path(value: Any) -> Any:
    return as_path(value) if isinstance(value, str | Path) else value


def _finite(given: Any, key: str = "") -> Any:
    """Refuse NaN and infinity, however deep."""
    params = given
    if isinstance(params, float) and not math.isfinite(params):
        raise ValueError(f"{key} has to be a finite number, not {params}")
    if isinstance(params, list | tuple):
        params = dict(enumerate(params))
    for name, value in params.items() if isinstance(params, dict) else ():
        _finite(value, f"{key}.{name}" if key else str(name))
    return given


# Counters and lengths that a 32-bit integer holds, here and in other programs.
MOST = 2**31 - 1
Whole = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
Positive = Annotated[Whole, Field(ge=1, le=MOST)]
Count = Annotated[Whole, Field(ge=0, le=MOST)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Text = Annotated[str, AfterValidator(_not_blank)]
Texts = Annotated[list[Text], BeforeValidator(several)]
Place = Annotated[Path, BeforeValidator(_path)]
Params = Annotated[dict[str, Any], AfterValidator(_finite)]
# What is read is found again from any working folder: a saved configuration has it absolute.
Source = Annotated[
    Place, PlainSerializer(lambda path: str(path.absolute()), when_used="json-unless-none")
]


class Section(BaseModel):
    """A section refuses keys it does not know, and knows which values the user did not choose."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)
    # Derived fields: name -> the value before it was derived.
    _chosen: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_bare_name(cls, values: Any) -> Any:
        """A bare name stands for a section in which only the name is given."""
        named = isinstance(values, str) and "name" in cls.model_fields
        return {"name": values} if named else values

    def derive(self, name: str, value: Any) -> None:
        """Set a field to what follows from other settings; :meth:`plain` leaves it as chosen."""
        self._chosen.setdefault(name, getattr(self, name))
        setattr(self, name, value)

    def is_open(self, name: str) -> bool:
        """Whether the user chose no value of a field."""
        return name in self._chosen or getattr(self, name) is None

    def derived(self, prefix: str = "") -> dict[str, Any]:
        """Dotted key -> value of all that was not chosen, but follows from other settings."""
        found = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in self._chosen:
                found[prefix + name] = value
            elif isinstance(value, Section):
                found |= value.derived(f"{prefix}{name}.")
        return found

    def plain(self) -> dict[str, Any]:
        """The values as chosen, in plain types: what is derived is null or empty."""
        return self._as_chosen("json")

    def resolved(self) -> dict[str, Any]:
        """All values in plain types, the derived ones too."""
        return self.model_dump(mode="json")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A checked copy with other values; what follows from them is derived anew."""
        changes = {
            name: value._as_chosen("python") if isinstance(value, Section) else value
            for name, value in (update or {}).items()
        }
        return self.model_validate(self._as_chosen("python") | changes)

    def _as_chosen(self, mode: Literal["json", "python"]) -> dict[str, Any]:
        values = self.model_dump(mode=mode)
        for name in values:
            section = getattr(self, name)
            if isinstance(section, Section):
                values[name] = section._as_chosen(mode)
        return values | self._chosen


class ComponentConfig(Section):
    """Something chosen by name: a short name or a dotted import path, and its arguments."""

    name: Text
    params: Params = {}


# Plain types as a person calls them.
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}
# Short names that earlier versions used.
RENAMED = {"interrupts": "graceful_shutdown", "data_parallel": "distributed_training"}


def find_named(name: str, known: Mapping[str, Any], key: str) -> Any:
    """What a name stands for: a key of ``known`` (objects or dotted paths), or a dotted path.

    ``key`` is the configuration key it came from, for the error.
    """
    found = known.get(name, name)
    if not isinstance(found, str):
        return found
    name = found
    if name in RENAMED:
        raise UsageError(f"{key}: '{name}' is now called '{RENAMED[name]}'")
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        raise UsageError(
            f"{key}: nothing is called '{name}'{nearest(name, known)}"
            ", or give a dotted path such as my_package.my_module.MyClass"
        )
    try:
        module = import_by_name(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, and something it imports is not: its own bug
        raise UsageError(
            f"{key}: no module '{error.name}' to import '{name}' from, in this folder or on "
            "PYTHONPATH"
        ) from error
    if not hasattr(module, attribute):
        package = module_name.partition(".")[0]
        public = [
            n
            for n, value in vars(module).items()
            if not n.startswith("_") and str(getattr(value, "__module__", "")).startswith(package)
        ]
        raise UsageError(
            f"{key}: module '{module_name}' ({module.__file__}) has no '{attribute}'"
            f"{nearest(attribute, public)}"
        )
    return getattr(module, attribute)


# Before the names of this project's packages: "scanfire." in a wheel, otherwise nothing.
PREFIX = __name__.partition("experiments")[0]


def import_by_name(name: str) -> ModuleType:
    """Import a module; in a wheel this project's may be given by the short names of a checkout."""
    try:
        return importlib.import_module(PREFIX + name)
    except ModuleNotFoundError as error:
        if not PREFIX or error.name is None or not f"{PREFIX}{name}.".startswith(f"{error.name}."):
            raise
    return importlib.import_module(name)


@contextmanager
def keyed(key: str) -> Iterator[None]:
    """Put a key in front of what UsageErrors say."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error


def parameter_types(make: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a constructor's parameters; empty where they cannot be evaluated."""
    with suppress(NameError, TypeError, AttributeError):
        return typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    return {}


def alternatives(wanted: Any) -> list[Any]:
    """The types of a union, without their constraints."""
    origin = get_origin(wanted)
    if origin is Annotated:
        return alternatives(get_args(wanted)[0])
    if origin in (Union, types.UnionType):
        return [kind for one in get_args(wanted) for kind in alternatives(one)]
    if origin is Literal:
        return list(dict.fromkeys(map(type, get_args(wanted))))
    return [wanted]


def _fits(value: Any, kinds: Sequence[Any]) -> bool:
    """Whether a plain value is of one of the types; unknown where one of them is no plain type."""
    if not all(isinstance(kind, type) and kind in WORDS for kind in kinds):
        return True
    if float in kinds:
        kinds = [*kinds, int]
    return type(value) in kinds


def arguments_for(
    make: Callable[..., Any],
    params: Mapping[str, Any],
    key: str,
    offered: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Parameters from a configuration as arguments of a call, checked against its signature.

    ``offered`` arguments (such as the number of classes) are passed only where it has them and
    ``params`` does not set them; ``key`` is the configuration key of ``params``.
    """
    parameters = inspect.signature(make).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    label = getattr(make, "__name__", str(make))
    for name in params:
        if name not in named and not takes_any:
            raise UsageError(f"{key}: {label} has no parameter '{name}'{nearest(name, named)}")
    arguments = {n: v for n, v in (offered or {}).items() if n in named} | dict(params)
    missing = [n for n, p in named.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise UsageError(f"{key}: {label} needs '{missing[0]}', which is not given")
    types_of = {n: alternatives(kind) for n, kind in parameter_types(make).items() if n in params}
    for name, kinds in types_of.items():
        if Path in kinds and isinstance(params[name], str):
            with keyed(f"{key}.{name}"):
                arguments[name] = as_path(params[name])
        elif not _fits(params[name], kinds):
            expected = " or ".join(dict.fromkeys(WORDS[kind] for kind in kinds))
            shown = json.dumps(params[name], ensure_ascii=False, default=str)
            raise UsageError(f"{key}.{name}: {expected} was expected, got {shown}")
    return arguments


def construct(
    make: Callable[..., Any],
    params: Mapping[str, Any],
    key: str,
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """Call a constructor with :func:`arguments_for` it."""
    arguments = arguments_for(make, params, key, offered)
    try:
        return make(**arguments)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        label = getattr(make, "__name__", str(make))
        reason = " ".join(str(error).split())
        raise UsageError(f"{key}: {label} refuses its parameters: {reason}") from error


# An entry of ``metrics`` in a configuration; a mapping where it is read from a file of a run.
Entry = str | ComponentConfig | Mapping[str, Any]


def metric_name(entry: Entry) -> str:
    """What a metric is called in logs, tables and pages: the last part of a dotted path."""
    name = split_entry(entry)[0]
    return name.rpartition(".")[2] if is_path(name) else name


def split_entry(entry: Entry) -> tuple[str, Mapping[str, Any]]:
    """Name and parameters."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, ComponentConfig):
        return entry.name, entry.params
    return str(entry["name"]), entry.get("params") or {}


def is_path(name: str) -> bool:
    """Whether it is a dotted path to a metric of a user's own."""
    return "." in name.partition("@")[0]
