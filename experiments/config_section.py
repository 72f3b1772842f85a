"""What every section of a configuration is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A section refuses keys it does not know, and knows which values the user did not choose."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
    # Derived fields: name -> the value before it was derived.
    _chosen: dict[str, Any] = PrivateAttr(default_factory=dict)

    def derive(self, name: str, value: Any) -> None:
        """Set a field to what follows from other settings; :meth:`plain` leaves it as chosen."""
        self._chosen.setdefault(name, getattr(self, name))
        setattr(self, name, value)

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


class Named(Section):
    """Something chosen by name: a short name or a dotted import path, and its arguments."""

    name: str
    params: dict[str, Any] = {}
