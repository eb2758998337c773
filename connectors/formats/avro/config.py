"""What a configuration says of Avro: nothing of files, and of messages where their schemas are. Used by `reader`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.secret import Secret
from connectors.credentials.tls import Tls
from connectors.options import Options

Path = Annotated[str, Field(min_length=1)]
SchemaId = Annotated[int, Field(ge=0, lt=1 << 32)]


class SchemaRegistry(Options):
    """One with Confluent's API. `user`, `password`: of basic authentication."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/?#@]+(/[^?#]*)?$")]
    user: str | None = None
    password: Secret | None = None
    tls: Tls | None = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise PydanticCustomError("basic", "needs both user and password, or neither")
        if self.tls is not None and self.url.startswith("http://"):
            raise PydanticCustomError("tls", "has tls, and url is without; begin it with https")
        return self


class AvroConfig(Options):
    """Avro: files that hold their schema, unless one of the others says that messages are read, and by which schema.

    `schema_file`: a message is a record of that one. `schema_files`: it begins with 0 and the id of its schema (4
    bytes), as Confluent has it; they are by id. `registry`: the same, and the registry is asked for each id once.
    """

    format: Literal["avro"] = "avro"
    schema_file: Path | None = None
    schema_files: Annotated[dict[SchemaId, Path], Field(min_length=1)] | None = None
    registry: SchemaRegistry | None = None

    @model_validator(mode="after")
    def _says_where_once(self) -> Self:
        if sum(place is not None for place in (self.schema_file, self.schema_files, self.registry)) > 1:
            raise PydanticCustomError("schemas", "has several of schema_file, schema_files and registry; name one")
        return self

    @property
    def is_of_messages(self) -> bool:
        """Whether it reads messages, and not files."""
        return (self.schema_file or self.schema_files or self.registry) is not None
