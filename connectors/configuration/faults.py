"""A fault of a file in words of its own: where it is, what is wrong, and the remedy. Used by `load`."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

from connectors.configuration.yaml_file import Parsed

_KEY = "[key]"  # pydantic's last step of a fault of a name

_SAID = {
    "missing": "is missing; add it",
    "extra_forbidden": "is no option here; remove it, or mend its spelling",
    "model_type": "is no mapping; write its options below it",
    "model_attributes_type": "is no mapping; write its options below it",
    "dict_type": "is no mapping; write its entries below it",
    "list_type": "is no list; write it as one",
    "string_type": "is no text; put it into quotes",
    "bool_type": "is neither true nor false; write one of them, without quotes",
    "int_type": "is no whole number; write one, without quotes",
    "int_from_float": "is no whole number; write one",
    "float_type": "is no number; write one, without quotes",
    "finite_number": "is no finite number; write one",
    "string_too_short": "is too short; it has at least so many characters: {min_length}",
    "string_too_long": "is too long; it has at most so many characters: {max_length}",
    "string_pattern_mismatch": "does not fit {pattern}; mend it",
    "too_short": "has too few entries; it needs {min_length} or more",
    "too_long": "has too many entries; it may have at most {max_length}",
    "greater_than": "is too small; it has to be more than {gt}",
    "greater_than_equal": "is too small; it has to be {ge} or more",
    "less_than": "is too large; it has to be less than {lt}",
    "less_than_equal": "is too large; it may be at most {le}",
    "literal_error": "is none of these: {expected}; write one of them",
    "union_tag_not_found": "does not say {discriminator}; add it",
    "union_tag_invalid": "{discriminator} is {tag!r}, and has to be one of these: {expected_tags}; mend it",
}
"""By pydantic's type of the fault, with the members of its context; what is not here says it itself, as ours do."""


def told(fault: ErrorDetails, parsed: Parsed) -> str:
    """`line: place: what is wrong and the remedy`."""
    loc, kind = fault["loc"], fault["type"]
    place = parsed.place(loc[:-1] if kind == "missing" else loc)
    if kind == "missing":
        place.append(str(loc[-1]))
    said = _SAID.get(kind)
    text = fault["msg"] if said is None else said.format(**_context(fault))
    if loc and loc[-1] == _KEY:
        text = f"the name {text}"
    return f"{parsed.line(loc)}: {'.'.join(place) or 'the file'}: {text}"


def _context(fault: ErrorDetails) -> dict[str, Any]:
    context = dict(fault.get("ctx", {}))
    if "discriminator" in context:
        context["discriminator"] = context["discriminator"].strip("'")
    return context
