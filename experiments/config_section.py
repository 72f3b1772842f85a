"""What every section of a configuration is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A section refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Named(Section):
    """Something chosen by name: a short name or a dotted import path, and its arguments."""

    name: str
    params: dict[str, Any] = {}
