"""All kinds of feeds: our own, and those of packages beside us, by their entry points. Called by the command."""

from __future__ import annotations

from importlib.metadata import entry_points

from connectors.documents import Kind
from connectors.files import ftp, local, sftp
from connectors.graphql import source as graphql
from connectors.inbound import upload, webhook
from connectors.kafka import source as kafka
from connectors.rest import source as rest
from connectors.soap import source as soap
from stockweave.errors import Fatal

GROUP = "stockweave.connectors"


def built_in() -> dict[str, Kind]:
    """Our own, by name."""
    return {
        "folder": local.KIND,
        "ftp": ftp.KIND,
        "graphql": graphql.KIND,
        "kafka": kafka.KIND,
        "rest": rest.KIND,
        "sftp": sftp.KIND,
        "soap": soap.KIND,
        "upload": upload.KIND,
        "webhook": webhook.KIND,
    }


def kinds() -> dict[str, Kind]:
    """All, by name.

    Raises:
        Fatal: a package names one that there is, or something that is none.
    """
    found = built_in()
    for point in entry_points(group=GROUP):
        kind = point.load()
        if not isinstance(kind, Kind) or point.name in found:
            raise Fatal(f"entry point {point.name} of {GROUP}, {point.value}, is no Kind of its own name; remove it")
        found[point.name] = kind
    return found
