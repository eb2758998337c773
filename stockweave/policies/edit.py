"""Reads what a person asks of a policy: `field=value` words, or a file of JSON, into policies; pure, but for the file.

An empty value takes a decision back. Every error names the field, and how to write it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.policies import FIELDS, FLAGS, LISTS, NAMES, Policy, check, kind_of
from stockweave.errors import Fatal, Rejected

_WHOLE = re.compile(r"-?[0-9]{1,18}")

Changes = dict[str, dict[str, Any]]
"""By scope, what each field is to be; None: no longer decided."""


def of_words(scope: str, words: Sequence[str]) -> Changes:
    """The changes that `field=value` words ask for.

    Raises:
        Rejected: a word cannot be read.
    """
    kind_of(scope)
    fields: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise Rejected("invalid_policy", f"{word!r} is no field=value; write e.g. safety_units=3", name)
        _check_name(name)
        if name in fields:
            raise Rejected("invalid_policy", f"{name} is given twice; give it once", name)
        fields[name] = _value(name, text) if text else None
    return {scope: fields}


def of_file(path: Path) -> Changes:
    """The changes that a file of JSON asks for: an object by scope, of objects by field.

    Raises:
        Fatal: the file cannot be read.
        Rejected: it is not of that form.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Fatal(f"cannot read {path}: {error.strerror}; name a file of policies") from error
    try:
        changes = msgspec.json.decode(raw, type=dict[str, dict[str, Any]])
    except msgspec.DecodeError as error:
        said = f'{path} is no JSON of policies: {error}; write {{"sku:A-1": {{"safety_units": 3}}}}'
        raise Rejected("invalid_policy", said) from error
    for scope, fields in changes.items():
        kind_of(scope)
        for name, value in fields.items():
            _check_name(name)
            fields[name] = _as_in_words(name, value)
    if not changes:
        raise Rejected("invalid_policy", f"{path} names no scope; name one at least")
    return changes


def _as_in_words(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    """A value of a file as the same one in words is read."""
    if isinstance(value, list):
        return tuple(value) or None
    return value.upper() if name == "strategy" and isinstance(value, str) else value


def edited(present: Mapping[str, Policy], changes: Changes, now_ms: int, *, replace: bool = False) -> list[Policy]:
    """The next version of each policy that the changes make another.

    Args:
        present: by scope.
        changes: as above.
        now_ms: ms since the epoch.
        replace: what is not named is no longer decided; else it stays.

    Raises:
        Rejected: one cannot be used; `field` names what is wrong.
    """
    made = []
    for scope, fields in changes.items():
        before = present.get(scope, Policy(scope))
        decided = ({} if replace else before.decided()) | fields
        after = _typed(scope, {name: value for name, value in decided.items() if value is not None})
        check(after)
        if after.decided() != before.decided():
            made.append(msgspec.structs.replace(after, version=before.version + 1, changed_at=now_ms))
    return made


def _typed(scope: str, fields: dict[str, Any]) -> Policy:
    try:
        return msgspec.convert({"scope": scope} | fields, Policy)
    except msgspec.ValidationError as error:
        said, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`").partition("[")[0]
        raise Rejected("invalid_policy", f"{name} of {scope} cannot be used: {said}", name) from error


def _check_name(name: str) -> None:
    if name not in FIELDS:
        raise Rejected("invalid_policy", f"{name!r} is no field of a policy; known are: {', '.join(FIELDS)}", name)


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - as the field is
    if name in LISTS:
        return tuple(part.strip() for part in text.split(","))
    if name in NAMES:
        return text
    if name == "strategy":
        return text.upper()
    if name in FLAGS:
        if text not in ("true", "false"):
            raise Rejected("invalid_policy", f"{name} is {text!r}; write true or false", name)
        return text == "true"
    if not _WHOLE.fullmatch(text):
        raise Rejected("invalid_policy", f"{name} is {text!r}; write a whole number", name)
    return int(text)
