"""What is wrong with a mapping is found when it is read, and named with its place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from connectors.mapping.rules import Mapping
from tests.connectors.mapping.mapped import SIMPLE


@pytest.mark.parametrize(
    ("fields", "place", "said"),
    [
        ({"version": 0}, "version", "greater than or equal to 1"),
        ({"sku": {}}, "sku", "needs either path or constant"),
        ({"sku": {"path": "a", "constant": "b"}}, "sku", "not both"),
        ({"sku": {"constant": "b", "default": "c"}}, "sku", "leave them out"),
        ({"location": {"path": "w", "default_when": "absent"}}, "location", "no default"),
        ({"location": {"path": "w", "otherwise": "reject"}}, "location", "name what is allowed"),
        ({"quantity": {"path": "q", "thousands": "."}}, "quantity", "name two"),
        ({"quantity": {"path": "q", "pack": 0}}, "quantity.pack", "greater than or equal to 1"),
        ({"observed_at": {"path": "t", "format": "iso"}}, "observed_at.format", "name one of them"),
        ({"observed_at": {"path": "t", "zone": "Berlin"}}, "observed_at.zone", "Europe/Berlin"),
        ({"colour": "c"}, "colour", "Extra inputs"),
        ({"incoming": [{"expected_at": "t"}]}, "incoming.0.quantity", "Field required"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_its_place(fields: dict[str, Any], place: str, said: str) -> None:
    with pytest.raises(ValidationError) as found:
        Mapping.model_validate(SIMPLE | fields)
    [error] = found.value.errors()
    assert ".".join(map(str, error["loc"])) == place
    assert said in error["msg"]


def test_each_path_is_looked_for_once() -> None:
    mapping = Mapping.model_validate(
        SIMPLE | {"location": "code", "incoming": [{"expected_at": "t", "quantity": "stock"}]}
    )
    assert mapping.paths == ["code", "stock", "t"]
