"""Schema ids to schemas and back: `FileRegistry`, packaged with the product, and `ConfluentRegistry`, over HTTP.

Invariant: an id names one schema for ever. The packaged ids are in avro/ids.json, written by `python -m
schemas.registry`, which only appends and refuses a new version that is not BACKWARD compatible.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from schemas.compatibility import incompatibilities
from schemas.shape import Shape
from schemas.topics import subjects
from stockweave.errors import Fatal, Rejected, Retriable
from stockweave.settings import Settings

AVRO_DIR = Path(__file__).parent / "avro"
UNUSABLE_S = 10.0  # for so long an id that names no usable schema is not asked for again
UNUSABLE_MAX = 10_000  # such ids
MESSAGE_BYTES_MAX = 4_096  # of a refusal's text
ANSWER_BYTES_MAX = FILE_BYTES_MAX = 4 << 20  # of a registry's answer, of a file: a schema is some kilobytes
NESTED_MAX = 100  # of a file's JSON; a schema has a tenth of it
IDS_END = 1 << 32  # an id has four bytes in a message

Schema = dict[str, Any]


class Registry(Protocol):
    """Where a codec gets its ids from."""

    def id_of(self, name: str) -> int:
        """The id of the newest version of a schema, e.g. `StockUpdate`."""

    def schema_of(self, schema_id: int) -> Schema:
        """The schema that an id names.

        Raises:
            Rejected: `unknown_schema_id`.
            Retriable: the registry does not answer.
        """


def fingerprint(schema: Schema) -> str:
    """SHA-256 over everything in the schema but its docs: those may be mended after the release."""

    def undocumented(part: Any) -> Any:  # noqa: ANN401 - Avro schemas are JSON
        if isinstance(part, dict):
            return {key: undocumented(value) for key, value in part.items() if key != "doc"}
        return [undocumented(item) for item in part] if isinstance(part, list) else part

    return hashlib.sha256(json.dumps(undocumented(schema), sort_keys=True).encode()).hexdigest()


def versions(directory: Path = AVRO_DIR) -> dict[str, list[Schema]]:
    """Every released schema by name, oldest version first (`Name.1.avsc`, `Name.2.avsc`, …).

    Raises:
        Fatal: a file cannot be read, or is no schema of its name.
    """
    found: dict[str, dict[int, Schema]] = {}
    for path in directory.glob("*.avsc"):
        named = _FILE_NAME.fullmatch(path.name)
        if named is None:
            raise Fatal(f"{path} is named in another way than Name.1.avsc; rename or remove it")
        schema = _json_of(path, RESTORE)
        try:
            Shape(schema, 1, skipped=False)
        except Rejected as why:
            raise Fatal(f"{path} is no schema that can be used: {why}; {RESTORE}") from why
        if not isinstance(schema, dict) or schema.get("name") != named["name"]:
            raise Fatal(f"{path} is not the schema of {named['name']}; {RESTORE}")
        found.setdefault(named["name"], {})[int(named["version"])] = schema
    for name, by_version in found.items():
        if missing := set(range(1, max(by_version))) - by_version.keys():
            raise Fatal(f"{directory}/{name}.{min(missing)}.avsc is missing, and later versions are there; {RESTORE}")
    return {name: [found[name][v] for v in sorted(found[name])] for name in sorted(found)}


_FILE_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)\.(?P<version>[1-9][0-9]{0,5})\.avsc")
RESTORE = "restore it, or install the package again"


class _Entry(NamedTuple):
    """What ids.json says of an id."""

    name: str
    version: int
    sha256: str


def _ids_of(path: Path) -> dict[int, _Entry]:
    """The ids in a file, each a version of a schema that no other id names.

    Raises:
        Fatal: it cannot be read, or says something else.
    """
    read = _json_of(path, RESTORE)
    if not isinstance(read, dict):
        raise Fatal(f"{path} has no JSON object of ids; {RESTORE}")
    ids: dict[int, _Entry] = {}
    for schema_id, said in read.items():
        entry = _Entry(**said) if isinstance(said, dict) and said.keys() == set(_Entry._fields) else None
        if (
            not (schema_id.isascii() and schema_id.isdigit() and len(schema_id) <= 10 and schema_id[0] != "0")
            or int(schema_id) >= IDS_END
            or entry is None
            or not (isinstance(entry.name, str) and type(entry.version) is int and isinstance(entry.sha256, str))
            or entry.version < 1
        ):
            raise Fatal(f"{path}: the entry of id {schema_id[:20]!r} is not a name, a version and a sha256; {RESTORE}")
        ids[int(schema_id)] = entry
    if len({(entry.name, entry.version) for entry in ids.values()}) < len(ids):
        raise Fatal(f"{path} names one version of a schema under two ids; {RESTORE}")
    return ids


def _json_of(path: Path, remedy: str) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise Fatal(f"{path} is larger than {FILE_BYTES_MAX} bytes, which no schema is; {remedy}")
        return _shallow(json.loads(content, object_pairs_hook=_once))
    except OSError as error:
        raise Fatal(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise Fatal(f"{path} is not JSON ({str(error)[:MESSAGE_BYTES_MAX]}); {remedy}") from error


def _shallow(whole: Any) -> Any:  # noqa: ANN401 - JSON
    """The JSON as it is, if it is nested no deeper than what walks through it can follow."""
    level = [whole]
    for _ in range(NESTED_MAX):
        level = [part for each in level for part in _parts(each)]
    if level:
        raise ValueError(f"it is nested more than {NESTED_MAX} deep")
    return whole


def _parts(of: Any) -> Iterable[Any]:  # noqa: ANN401 - JSON
    return of.values() if isinstance(of, dict) else of if isinstance(of, list) else ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are each there once; a merge of two branches easily leaves one twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return made


class FileRegistry:
    """The packaged registry: schemas/avro with the ids in ids.json.

    Raises:
        Fatal: a file of it cannot be used; which, and what to do.
    """

    def __init__(self, directory: Path = AVRO_DIR) -> None:
        schemas = versions(directory)
        self._ids_file = directory / "ids.json"
        self._by_id: dict[int, Schema] = {}
        newest: dict[str, tuple[int, int]] = {}
        for schema_id, (name, version, sha256) in _ids_of(self._ids_file).items():
            if version > len(schemas.get(name, ())):
                raise Fatal(
                    f"{directory}/{name[:MESSAGE_BYTES_MAX]}.{version}.avsc is missing, and has an id; "
                    "install the package again"
                )
            schema = schemas[name][version - 1]
            if fingerprint(schema) != sha256:
                raise Fatal(
                    f"{directory}/{name}.{version}.avsc was changed after its release; restore it, add a version"
                )
            self._by_id[schema_id] = schema
            newest[name] = max(newest.get(name, (0, 0)), (version, schema_id))
        self._newest = {name: schema_id for name, (_, schema_id) in newest.items()}

    def id_of(self, name: str) -> int:
        """See `Registry.id_of`.

        Raises:
            Fatal: it has none.
        """
        if name not in self._newest:
            raise Fatal(f"{self._ids_file} has no id of {name}; {RESTORE}")
        return self._newest[name]

    def schema_of(self, schema_id: int) -> Schema:
        """See `Registry.schema_of`."""
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise Rejected("unknown_schema_id", f"schema id {schema_id} is not in the registry; register it") from None


class ConfluentRegistry:
    """A registry with the Confluent API; schemas are registered under `<topic>-value` by TopicNameStrategy.

    Args:
        url: its base address; user and password in it are sent as basic authentication.
        subjects: the subject of each schema by name, see `schemas.topics.subjects`.
        timeout_s: for one request.
        monotonic_s: a clock, for how long an unknown id is taken for unknown.
    """

    def __init__(
        self,
        url: str,
        subjects: dict[str, str],
        timeout_s: float = 10.0,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Fatal(f"STOCKWEAVE_REGISTRY_URL is {url!r}; it must begin with http:// or https:// and name a host")
        self._base = urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
        )
        self._headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        if parts.username:
            secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        self._timeout_s = timeout_s
        self._subjects = subjects
        self._released = versions()
        self._ids: dict[str, int] = {}
        self._by_id: dict[int, Schema] = {}
        self._monotonic_s = monotonic_s
        self._unusable: dict[int, tuple[float, str]] = {}  # until when, and why; oldest first

    def id_of(self, name: str) -> int:
        """Registers the newest packaged version on the first call; the registry answers with its id."""
        if name not in self._ids:
            subject = urllib.parse.quote(self._subjects[name], safe="")
            schema = self._released[name][-1]
            path = f"/subjects/{subject}/versions"
            answer = self._call("POST", path, {"schema": json.dumps(schema)})
            if type(answer.get("id")) is not int or not 0 <= answer["id"] < IDS_END:
                raise self._no_registry(path, "an answer without an id")
            self._ids[name] = answer["id"]
            self._by_id[self._ids[name]] = schema
        return self._ids[name]

    def schema_of(self, schema_id: int) -> Schema:
        """See `Registry.schema_of`; asked once per id, and again after a while for one that is unknown."""
        if schema_id not in self._by_id:
            until_s, why = self._unusable.pop(schema_id, (0.0, ""))
            if self._monotonic_s() < until_s:
                self._unusable[schema_id] = until_s, why
                raise Rejected("unknown_schema_id", why)
            try:
                self._by_id[schema_id] = self._ask(schema_id)
            except Rejected as reason:
                if len(self._unusable) >= UNUSABLE_MAX:
                    del self._unusable[next(iter(self._unusable))]
                self._unusable[schema_id] = self._monotonic_s() + UNUSABLE_S, str(reason)
                raise
        return self._by_id[schema_id]

    def _ask(self, schema_id: int) -> Schema:
        path = f"/schemas/ids/{schema_id}"
        answer = self._call("GET", path, None)
        if answer.get("schemaType", "AVRO") != "AVRO":
            raise Rejected("unknown_schema_id", f"schema id {schema_id} is {answer['schemaType']}; AVRO is expected")
        try:
            schema = json.loads(answer["schema"])
        except RecursionError as error:
            raise Rejected("unknown_schema_id", f"schema id {schema_id} is nested too deep to be read") from error
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_registry(path, "an answer without a schema") from error
        return schema if isinstance(schema, dict) else {"type": schema}

    def _no_registry(self, path: str, what: str) -> Retriable:
        return Retriable(
            f"the registry at {self._base} answers {path} with {what}; is STOCKWEAVE_REGISTRY_URL that of a registry, "
            "and no proxy between?"
        )

    def _call(self, method: str, path: str, body: dict[str, str] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, self._headers, method=method)  # noqa: S310 - http(s), checked above
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310 - as above
                content = _read(answer)
            if len(content) > ANSWER_BYTES_MAX and method == "GET":
                raise Rejected("unknown_schema_id", f"{path} is larger than {ANSWER_BYTES_MAX} bytes; no schema is")
            got = json.loads(content)
        except urllib.error.HTTPError as error:
            said = _words(error)
            if error.code == 404 and method == "GET":
                raise Rejected("unknown_schema_id", f"{path} is not in the registry; register it") from error
            if error.code in (409, 422):
                raise Fatal(
                    f"the registry refuses {path}: {said}; see its compatibility level and what is there"
                ) from error
            if error.code in (401, 403):
                raise Fatal(
                    f"the registry answers {error.code} to {path}; put user and password into the URL"
                ) from error
            raise Retriable(f"the registry answers {error.code} to {path}: {said}") from error
        except OSError as error:
            raise Retriable(f"the registry at {self._base} does not answer ({error}); is it running?") from error
        except http.client.HTTPException as error:
            raise self._no_registry(path, f"half an answer, or none of HTTP ({error!r})") from error
        except (ValueError, RecursionError) as error:
            raise self._no_registry(path, f"something that is not JSON ({error})") from error
        if not isinstance(got, dict):
            raise self._no_registry(path, "JSON that is no object")
        return got


def _read(answer: http.client.HTTPResponse) -> bytes:
    """What it says, and a byte more than is taken where it says too much; raises where it breaks off before."""
    content = answer.read(ANSWER_BYTES_MAX + 1)
    if len(content) <= ANSWER_BYTES_MAX and answer.length:
        raise http.client.IncompleteRead(content, answer.length)
    return content


def _words(error: urllib.error.HTTPError) -> str:
    """What a refusal says, as far as it comes."""
    with error:
        try:
            return error.read(MESSAGE_BYTES_MAX).decode(errors="replace")[:300]
        except (OSError, http.client.HTTPException) as cut:
            return f"no more than half a message ({cut!r})"


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name, else the packaged one.

    Raises:
        Fatal: its address is wrong.
    """
    if settings.registry_url is None:
        return FileRegistry()
    return ConfluentRegistry(settings.registry_url, subjects(settings.topic_prefix))


def release(directory: Path = AVRO_DIR) -> list[str]:
    """Give every schema without an id the next one; the names of what was added.

    Raises:
        Fatal: a new version is not BACKWARD compatible with each earlier one, or a file cannot be used.
    """
    ids_file = directory / "ids.json"
    ids = {i: entry._asdict() for i, entry in _ids_of(ids_file).items()} if ids_file.exists() else {}
    known = {(entry["name"], entry["version"]) for entry in ids.values()}
    added = []
    for name, schemas in versions(directory).items():
        for version, schema in enumerate(schemas, 1):
            for earlier in range(1, version):
                if problems := incompatibilities(reader=schema, writer=schemas[earlier - 1]):
                    raise Fatal(
                        f"{name}.{version} cannot read what {name}.{earlier} wrote: {'; '.join(problems)}; "
                        f"mend {directory}/{name}.{version}.avsc"
                    )
            if (name, version) not in known:
                ids[max(ids, default=0) + 1] = {"name": name, "version": version, "sha256": fingerprint(schema)}
                added.append(f"{name}.{version}")
    ids_file.write_text(json.dumps(ids, indent=1) + "\n")
    return added


if __name__ == "__main__":
    sys.stdout.write("".join(f"released {name}\n" for name in release()) or "nothing new\n")
