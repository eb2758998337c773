"""What every option of a configuration is made from: nothing unknown, nothing converted, nothing changed later."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """A part of a supplier's YAML; a misspelt name or a value of another type is a fault with its line."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
