"""What several groups of commands share: options, and settings with the options that were given on top."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from stockweave.errors import Fatal
from stockweave.settings import Settings

DataDir = Annotated[Path | None, typer.Option(help="Where state is kept between runs.", show_default="data")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of words.")]


def settings_of(**options: object) -> Settings:
    """From the environment, with the options that were given on top."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "STOCKWEAVE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise Fatal(f"{name} is {first['input']!r}: {first['msg']}; mend it in the environment or in .env") from error


def with_kafka(settings: Settings) -> Settings:
    """The same, if it names a Kafka; raises Fatal else."""
    if settings.bootstrap_servers is None:
        raise Fatal("no Kafka is named: set STOCKWEAVE_BOOTSTRAP_SERVERS=host:port, or run `stockweave up`")
    return settings
