"""YAML as plain values, with the line of each: what is wrong is named where it stands. Used by `load`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from stockweave.errors import Rejected

ALIASES_MAX = 100  # each may stand for all before it, and so double the whole


class Parsed:
    """One document.

    Args:
        text: of the file.

    Raises:
        Rejected: it is not YAML, or names a key twice.
    """

    def __init__(self, text: str) -> None:
        try:
            self._node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
            if sum(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)) > ALIASES_MAX:
                raise Rejected("invalid_yaml", f"has more than {ALIASES_MAX} aliases; write them out")
            if self._node is not None:
                _check_keys(self._node)
            self.value: Any = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f"{error.problem_mark.line + 1}: "
            raise Rejected("invalid_yaml", f"{line}is not YAML ({error.problem}); mend it") from None
        except (yaml.YAMLError, ValueError) as error:  # a date that is none, a character that may not be there
            raise Rejected("invalid_yaml", f"is not YAML ({error}); mend it") from None

    def line(self, place: Sequence[str | int]) -> int:
        """The line, from 1, of what lies at `place`; of what is nearest above it, where nothing does."""
        there = self._way(place)
        return there[-1][1].start_mark.line + 1 if there else 1

    def place(self, place: Sequence[str | int]) -> list[str]:
        """The steps of `place` that are in the file: pydantic names the members of unions as well."""
        return [str(step) for step, _ in self._way(place)]

    def _way(self, place: Sequence[str | int]) -> list[tuple[str | int, yaml.Node]]:
        """Each step that is there, with its key."""
        node, way = self._node, []
        for step in place:
            found = _child(node, step)
            if found is not None:
                way.append((step, found[0]))
                node = found[1]
        return way


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The key and the value at one step."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _check_keys(node: yaml.Node, above: frozenset[int] = frozenset()) -> None:
    """A key that is there twice would count once, in silence."""
    if id(node) in above:
        raise Rejected("invalid_yaml", f"{node.start_mark.line + 1}: holds itself; write it out")
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, above | {id(node)})
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if key.value in keys:
                said = f"{key.start_mark.line + 1}: {key.value} is there twice; leave one of them out"
                raise Rejected("invalid_yaml", said)
            keys.add(key.value)
            _check_keys(value, above | {id(node)})
