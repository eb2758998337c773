"""How X12 and EDIFACT differ, and what the configuration of both says. Used by `x12` and `edifact`, which are such."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from connectors.formats.edi.fields import Elements, Pick
from connectors.formats.edi.segments import Marks, Segment
from connectors.options import Options


def _is_encoding(given: str) -> str:
    try:
        if "ISA*+'~".encode(given) == b"ISA*+'~":
            return codecs.lookup(given).name
    except (LookupError, UnicodeError):
        pass
    raise PydanticCustomError("encoding", "is no encoding that has ASCII in it; send a name such as utf-8 or latin-1")


Encoding = Annotated[str, AfterValidator(_is_encoding)]
Qualifier = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,3}$")]


class Config(Options):
    """What both have in common.

    `quantities`: the qualifiers of those that are rows; all, where none is named. `tests`: whether interchanges that
    say that they are tests are read as others are.
    """

    quantities: list[Qualifier] = Field(default=[], max_length=100)
    tests: bool = False


class Frame(NamedTuple):
    """A header's tag and its trailer's. `number`: the header's element that has the control number."""

    opens: str
    closes: str
    number: int


class Standard(NamedTuple):
    """How X12 and EDIFACT differ.

    `type_of`: what kind a message is, by its header; `type`: the one that is read. `tail`: what ends its last item
    before its trailer does. `encoding_of`, `is_test`: by the interchange's header. `parts`: what an item's quantities
    share, and what is below each. `qualifier`: of a quantity.
    """

    name: str
    openings: tuple[bytes, ...]
    marks_of: Callable[[bytes, Segment | None], Marks]
    interchange: Frame
    group: Frame
    message: Frame
    type_of: Pick
    type: str
    tail: tuple[str, ...]
    encoding_of: Pick
    is_test: Callable[[Elements], bool]
    parts: Callable[[Sequence[Elements]], tuple[list[Elements], list[list[Elements]]]]
    qualifier: Pick
