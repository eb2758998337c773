"""One supplier's file: its limits and its feeds. The source of a feed is checked by its own kind. Used by `load`."""

from __future__ import annotations

from collections.abc import Mapping as Members
from functools import cache
from typing import Annotated, Any, Literal, Self, Union

from pydantic import Field, StringConstraints, create_model, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.budget import Limits
from connectors.documents import Kind, SourceConfig
from connectors.formats.reader import Format, check_path, takes_messages
from connectors.mapping.mapper import Mapper
from connectors.mapping.rules import Mapping
from connectors.options import Options
from inventory.stock import DELTA
from schemas.keys import id_problem
from stockweave.errors import Rejected

FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Seconds = Annotated[float, Field(ge=0.1, le=7 * 86_400)]


class Poll(Options):
    """When a feed is read: `every_s` to begin with.

    More often while it changes, and while a count of at most `low_units` was read, up to every `fastest_s`; less while
    it does not, down to every `slowest_s`. Both are `every_s` unless given: then it is a fixed rhythm.
    """

    every_s: Seconds = 60.0
    fastest_s: Seconds | None = None
    slowest_s: Seconds | None = None
    low_units: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not (self.fastest_s or self.every_s) <= self.every_s <= (self.slowest_s or self.every_s):
            raise PydanticCustomError("order", "needs fastest_s <= every_s <= slowest_s; mend them")
        return self


class HoldBack(Options):
    """When a snapshot waits for a person, of the offers that the one before had.

    `missing_percent`: more are gone, or fell to zero. `changed_percent`: more are gone, or other numbers. `at_least`:
    with fewer offers than that no snapshot is held back, but one that offers nothing.
    """

    missing_percent: Annotated[int, Field(ge=0, le=100)] = 30
    changed_percent: Annotated[int, Field(ge=0, le=100)] = 100
    at_least: Annotated[int, Field(ge=1)] = 20


class Snapshot(Options):
    """Each file of the feed, or each poll, names all that the supplier offers: what is not in it is gone.

    `missing`: what becomes of that: `withdrawn` (no longer offered), or `zero`.
    """

    missing: Literal["withdrawn", "zero"] = "withdrawn"
    hold_back: HoldBack = HoldBack()


class Drift(Options):
    """Whether somebody is told when a field of the feed appears, vanishes, or changes its type or range.

    `at_least`: with fewer rows, of one document or of several together, nothing is said but that a column is gone.
    """

    watch: bool = True
    at_least: Annotated[int, Field(ge=20, le=100_000)] = 50


class FeedConfig(Options):
    """One feed: where from, how it is written, what it means."""

    source: SourceConfig
    format: Format
    poll: Poll = Poll()
    snapshot: Snapshot | None = None
    drift: Drift = Drift()
    mapping: Mapping

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.source.gives_messages != takes_messages(self.format):
            raise PydanticCustomError(
                "format",
                "format: avro with schema_file, schema_files or registry reads messages of a source with each: record, "
                "and nothing else does; mend one of the two",
            )
        for name, rule in self.mapping.rules():
            if rule.path is not None:
                _said(name, lambda path=rule.path: check_path(self.format, path))
        _said("mapping", lambda: Mapper(self.mapping, "supplier", "feed"))
        kind = self.mapping.kind
        may_be_delta = DELTA in (kind.constant, kind.default, *kind.values.values()) or kind.path is not None
        if self.snapshot is not None and self.source.is_partial:
            raise PydanticCustomError(
                "snapshot", "snapshot: what changed says nothing of what is missing; remove since"
            )
        if self.snapshot is not None and kind.constant == DELTA:
            raise PydanticCustomError("snapshot", "snapshot: changes say nothing of what is missing; leave it out")
        if may_be_delta and self.mapping.observed_at is None and not self.source.is_one_by_one:
            raise PydanticCustomError(
                "observed_at",
                "mapping.observed_at: changes of one SKU that all have one time are too many to be told apart; "
                "name the path of each one's own",
            )
        if may_be_delta and self.mapping.update_id is None and not self.source.is_content_named:
            raise PydanticCustomError(
                "update_id",
                "mapping.update_id: changes that are read again need an id of the supplier's; name its path",
            )
        return self


class SupplierConfig(Options):
    """One supplier."""

    supplier: str
    limits: Limits = Limits()
    feeds: Annotated[dict[FeedName, FeedConfig], Field(min_length=1)]

    @field_validator("supplier")
    @classmethod
    def _is_id(cls, given: str) -> str:
        if problem := id_problem(given):
            raise PydanticCustomError("id", "{problem}", {"problem": problem})
        if "/" in given:
            raise PydanticCustomError(
                "id", "contains a slash, which stands between a supplier and its feed; leave it out"
            )
        return given


def model_of(kinds: Members[str, Kind]) -> type[SupplierConfig]:
    """`SupplierConfig`, whose sources are of these kinds. Of the same kinds it is the same: it is compared."""
    return _model_of(tuple(kind.config for kind in kinds.values()))


@cache
def _model_of(models: tuple[type[SourceConfig], ...]) -> type[SupplierConfig]:
    source: Any = models[0] if len(models) == 1 else Annotated[Union[models], Field(discriminator="kind")]  # noqa: UP007
    feed: Any = create_model("Feed", __base__=FeedConfig, source=(source, ...))
    feeds: Any = Annotated[dict[FeedName, feed], Field(min_length=1)]
    return create_model("Supplier", __base__=SupplierConfig, feeds=(feeds, ...))


def _said(name: str, check: Any) -> None:  # noqa: ANN401 - any check
    """What a check rejects, as pydantic tells it."""
    try:
        check()
    except Rejected as why:
        said = str(why) if str(why).startswith(f"{why.field}:") else f"{name}: {why}"
        raise PydanticCustomError(why.reason, "{said}", {"said": f"mapping.{said}"}) from None
