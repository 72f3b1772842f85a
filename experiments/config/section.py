"""What every section of a configuration is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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
