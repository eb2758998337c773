"""Whether a webhook is the supplier's own: its signature over the raw bytes, and how old that is.

Invariant: nothing passes without a secret that is not empty, unless the configuration says `none`; secrets are compared
in constant time. Called by `hooks`, before anything else is made of a body.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.secret import Secret
from connectors.options import Options
from stockweave.errors import Rejected, Retriable

EPOCH_MS_MIN = 100_000_000_000  # a time from here on is in ms, and before in s
DIGITS_MAX = 16
STANDARD_SECRET = "whsec_"  # noqa: S105 - what one begins with

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
Tolerance = Annotated[float, Field(gt=0, le=86_400)]


class _Keyed(Options):
    """`previous`: holds beside `secret` for as long as it is there, so that one can be changed without a gap."""

    secret: Secret
    previous: Secret | None = None


class Hmac(_Keyed):
    """A digest in a header: `prefix`, and then the digest.

    `signed`: what is signed, with `{body}` and, where there is a `timestamp_header`, `{timestamp}`.
    """

    scheme: Literal["hmac"]
    header: HeaderName
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    secret_encoding: Literal["text", "hex", "base64"] = "text"  # noqa: S105 - no secret
    signed: str = "{body}"
    timestamp_header: HeaderName | None = None
    tolerance_s: Tolerance = 300.0

    @model_validator(mode="after")
    def _signs_the_body(self) -> Self:
        if self.signed.count("{body}") != 1:
            raise PydanticCustomError("signed", "signed has to hold {{body}} once; add it")
        if ("{timestamp}" in self.signed) != (self.timestamp_header is not None):
            raise PydanticCustomError(
                "signed", "signed holds {{timestamp}} exactly where there is a timestamp_header; mend either"
            )
        return self


class Stripe(_Keyed):
    """`t=<s>,v1=<hex>` in one header; signed is `<t>.<body>`."""

    scheme: Literal["stripe"]
    header: HeaderName = "Stripe-Signature"
    tolerance_s: Tolerance = 300.0


class Standard(_Keyed):
    """Standard Webhooks: `webhook-id`, `webhook-timestamp`, and `v1,<base64>` in `webhook-signature`.

    `prefix`: of the three headers, which some name after themselves.
    """

    scheme: Literal["standard"]
    prefix: HeaderName = "webhook-"
    tolerance_s: Tolerance = 300.0


class Token(_Keyed):
    """The secret itself in a header, after `prefix`: proves the sender, and not the body."""

    scheme: Literal["token"]
    header: HeaderName
    prefix: str = ""


class Unsigned(Options):
    """Anybody may send: for networks where only the supplier can."""

    scheme: Literal["none"]


Signature = Annotated[Hmac | Stripe | Standard | Token | Unsigned, Field(discriminator="scheme")]


class _Claim(NamedTuple):
    """What a request says. `digests`: any may be right; `timestamp`: None where the scheme has none."""

    digests: list[bytes]
    signed: bytes
    timestamp: str | None = None
    tolerance_s: float = 0.0
    algorithm: str = "sha256"


def verify(config: Signature, headers: Mapping[str, str], body: bytes, now_ms: int) -> None:
    """Returns if it is the supplier's, and of now.

    Args:
        config: how the supplier signs.
        headers: by name, whatever their case.
        body: as it came.
        now_ms: since the epoch.

    Raises:
        Rejected: `wrong_signature`, `malformed_timestamp` or `too_old`.
        Retriable: a secret cannot be read.
    """
    match config:
        case Unsigned():
            return
        case Token():
            given = headers.get(config.header, "")
            if not is_secret(
                given.removeprefix(config.prefix) if given.startswith(config.prefix) else "",
                config.secret,
                config.previous,
            ):
                raise _wrong(config.header)
            return
        case Hmac():
            header, claim = config.header, _of_hmac(config, headers, body)
        case Stripe():
            header, claim = config.header, _of_stripe(config, headers, body)
        case Standard():
            header, claim = f"{config.prefix}signature", _of_standard(config, headers, body)
    at_ms = None if claim.timestamp is None else _time_ms(claim.timestamp)
    if not any(_is_right(claim, key) for key in _keys(config)):
        raise _wrong(header)
    if at_ms is not None and abs(now_ms - at_ms) > claim.tolerance_s * 1_000:
        raise Rejected(
            "too_old", f"it was signed more than {claim.tolerance_s:g} s from now; sign it anew, mend a clock"
        )


def is_secret(given: str, *secrets: Secret | None) -> bool:
    """Whether a text is one of these; raises Retriable if one cannot be read."""
    told = given.encode(errors="surrogateescape")
    return any(hmac.compare_digest(told, text.encode()) for text in _texts(*secrets))


def _texts(*secrets: Secret | None) -> Iterator[str]:
    """One after the other: the next is read only where that before does not do."""
    for secret in secrets:
        if secret is not None:
            text = secret.read()
            if not text:  # a digest by an empty key is anybody's
                raise Retriable("a secret is empty; write it")
            yield text


def _keys(config: Hmac | Stripe | Standard) -> Iterator[bytes]:
    match config:
        case Hmac(secret_encoding=encoding):
            pass
        case Standard():
            encoding = "base64"
        case _:
            encoding = "text"
    for secret in _texts(config.secret, config.previous):
        text = secret.removeprefix(STANDARD_SECRET) if isinstance(config, Standard) else secret
        key = text.encode() if encoding == "text" else _decoded(text, encoding)
        if not key:
            raise Retriable(f"a secret is no {encoding}; write it as the supplier gives it")
        yield key


def _is_right(claim: _Claim, key: bytes) -> bool:
    digest = hmac.digest(key, claim.signed, claim.algorithm)
    return any(hmac.compare_digest(digest, given) for given in claim.digests)


def _of_hmac(config: Hmac, headers: Mapping[str, str], body: bytes) -> _Claim:
    given = headers.get(config.header, "").strip()
    text = given.removeprefix(config.prefix) if given.startswith(config.prefix) else ""
    timestamp = None if config.timestamp_header is None else headers.get(config.timestamp_header, "").strip()
    before, _, behind = config.signed.partition("{body}")
    parts = [part.replace("{timestamp}", timestamp or "").encode(errors="surrogateescape") for part in (before, behind)]
    digests = _all_decoded([text], config.encoding)
    return _Claim(digests, body.join(parts), timestamp, config.tolerance_s, config.algorithm)


def _of_stripe(config: Stripe, headers: Mapping[str, str], body: bytes) -> _Claim:
    pairs = [pair.strip().partition("=") for pair in headers.get(config.header, "").split(",")]
    timestamp = next((value for name, _, value in pairs if name == "t"), "")
    digests = _all_decoded((value for name, _, value in pairs if name == "v1"), "hex")
    return _Claim(digests, timestamp.encode(errors="surrogateescape") + b"." + body, timestamp, config.tolerance_s)


def _of_standard(config: Standard, headers: Mapping[str, str], body: bytes) -> _Claim:
    named, timestamp = (headers.get(config.prefix + name, "").strip() for name in ("id", "timestamp"))
    pairs = [pair.partition(",") for pair in headers.get(f"{config.prefix}signature", "").split(" ")]
    digests = _all_decoded((value for version, _, value in pairs if version == "v1"), "base64")
    signed = f"{named}.{timestamp}.".encode(errors="surrogateescape") + body
    return _Claim(digests, signed, timestamp, config.tolerance_s)


def _all_decoded(texts: Iterable[str], encoding: str) -> list[bytes]:
    return [digest for text in texts if (digest := _decoded(text, encoding))]


def _decoded(text: str, encoding: str) -> bytes:
    """Empty, and so never right, for what is none."""
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _time_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise Rejected("malformed_timestamp", "its timestamp is no number of seconds since 1970; send one")
    number = int(text)
    return number if number >= EPOCH_MS_MIN else number * 1_000


def _wrong(header: str) -> Rejected:
    return Rejected("wrong_signature", f"{header} does not prove who sent this; sign the body as it is sent", header)
