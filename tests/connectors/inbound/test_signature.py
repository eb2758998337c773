"""Each shape of a signature against vectors that were published, or computed by another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from multidict import CIMultiDict
from pydantic import TypeAdapter, ValidationError

from connectors.inbound.signature import Signature, verify
from stockweave.errors import Rejected, Retriable

CONFIG: TypeAdapter[Signature] = TypeAdapter(Signature)
BODY = b'{"code":"s1","stock":5}'
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


class Vector(NamedTuple):
    """A request that is right. `at_s`: when; None where the scheme has no time."""

    config: dict[str, Any]
    secret: str
    headers: dict[str, str]
    body: bytes
    at_s: int | None = None


GITHUB = Vector(
    {"scheme": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256="},
    "It's a Secret to Everybody",
    {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    b"Hello, World!",
)
SLACK = Vector(
    {
        "scheme": "hmac", "header": "X-Slack-Signature", "prefix": "v0=", "signed": "v0:{timestamp}:{body}",
        "timestamp_header": "X-Slack-Request-Timestamp",
    },
    "8f742231b10e8888abcd99yyyzzz85a5",
    {
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "X-Slack-Request-Timestamp": "1531420618",
    },
    SLACK_BODY, 1_531_420_618,
)  # fmt: skip
STANDARD = Vector(
    {"scheme": "standard"},
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,AAAA v1a,g0hM v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    b'{"test": 2432232314}', 1_614_265_330,
)  # fmt: skip
STRIPE = Vector(
    {"scheme": "stripe"},
    "whsec_test",
    {
        "Stripe-Signature": "t=1700000000,v0=00,v1=ffff,"
        "v1=e632d5c866fb783c50557c43e2b67473d89e89583fe149751254e98d2e029014"
    },
    BODY,
    1_700_000_000,
)
SHOPIFY = Vector(
    {"scheme": "hmac", "header": "X-Shopify-Hmac-Sha256", "encoding": "base64"},
    "hush",
    {"X-Shopify-Hmac-Sha256": "rdl9O4/J+3tdsREVkKvmFCqXjto7oK5Vnk4YzbcGtCM="},
    BODY,
)
SHA1 = Vector(
    {"scheme": "hmac", "header": "X-Sig", "algorithm": "sha1"},
    "key",
    {"X-Sig": "B688F6F2602474B86713F193726755F0095EDC8B"},
    b"Hello, World!",
)
SHA512 = Vector(
    {"scheme": "hmac", "header": "X-Sig", "algorithm": "sha512", "secret_encoding": "hex"},
    "00ff10",
    {
        "X-Sig": "1527fd05a2182d34bb7d441ec59ac7dfd9337fddb671b90b7e4d7dcac3bbe53a"
        "638bbefcb8f76ae28206eb630c4fc216ea2129a1e17aab05033fc64ac8fc3a3a"
    },
    BODY,
)
TOKEN = Vector(
    {"scheme": "token", "header": "Authorization", "prefix": "Token "},
    "agréed",
    {"Authorization": "Token agréed"},
    b"x",
)
SIGNED = {"github": GITHUB, "slack": SLACK, "standard": STANDARD, "stripe": STRIPE, "shopify": SHOPIFY, "sha1": SHA1,
          "sha512": SHA512}  # fmt: skip
TIMED = {name: vector for name, vector in SIGNED.items() if vector.at_s is not None}
KEYED = SIGNED | {"token": TOKEN}


def of(vectors: dict[str, Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors.values(), ids=vectors.keys())


def check(
    vector: Vector, folder: Path, *, secret: str | None = None, previous: str | None = None, late_s: float = 0
) -> None:
    """Verify a request, with its secrets in files."""
    config = dict(vector.config)
    for name, text in (("secret", vector.secret if secret is None else secret), ("previous", previous)):
        if text is not None:
            (folder / name).write_text(f"{text}\n")
            config[name] = {"file": str(folder / name)}
    now_ms = int(((vector.at_s or 1_800_000_000) + late_s) * 1_000)
    verify(CONFIG.validate_python(config), CIMultiDict(vector.headers), vector.body, now_ms)


@of(KEYED)
def test_what_the_supplier_signed_passes(vector: Vector, tmp_path: Path) -> None:
    check(vector, tmp_path)


@of(SIGNED)
def test_a_changed_byte_is_refused(vector: Vector, tmp_path: Path) -> None:
    for place in (0, len(vector.body) // 2, len(vector.body) - 1):
        changed = bytearray(vector.body)
        changed[place] ^= 1
        with pytest.raises(Rejected, match="does not prove who sent this") as refused:
            check(vector._replace(body=bytes(changed)), tmp_path)
        assert refused.value.reason == "wrong_signature"
    for body in (vector.body + b"\n", b"\xef\xbb\xbf" + vector.body):
        with pytest.raises(Rejected):
            check(vector._replace(body=body), tmp_path)


@of(KEYED)
def test_who_has_another_secret_or_sends_none_is_refused(vector: Vector, tmp_path: Path) -> None:
    other = "whsec_AAAAAAAA" if vector is STANDARD else "00ff11"
    for headers in (vector.headers, {}, dict.fromkeys(vector.headers, ""), dict.fromkeys(vector.headers, "é\udcff")):
        with pytest.raises(Rejected) as refused:
            check(vector._replace(headers=headers), tmp_path, secret=other)
        assert refused.value.reason in ("wrong_signature", "malformed_timestamp")
        assert vector.secret not in str(refused.value)
        assert other not in str(refused.value)


@of(TIMED)
def test_what_was_signed_too_long_ago_or_in_the_future_is_refused(vector: Vector, tmp_path: Path) -> None:
    check(vector, tmp_path, late_s=299)
    check(vector, tmp_path, late_s=-299)
    for late_s in (301, -301):
        with pytest.raises(Rejected, match="more than 300 s") as refused:
            check(vector, tmp_path, late_s=late_s)
        assert refused.value.reason == "too_old"
    narrow = vector._replace(config=vector.config | {"tolerance_s": 10.0})
    with pytest.raises(Rejected, match="more than 10 s"):
        check(narrow, tmp_path, late_s=11)


@of(TIMED)
def test_a_time_that_was_not_signed_is_refused(vector: Vector, tmp_path: Path) -> None:
    fresh = {
        name: text.replace(str(vector.at_s), str((vector.at_s or 0) + 900)) for name, text in vector.headers.items()
    }
    with pytest.raises(Rejected) as refused:
        check(vector._replace(headers=fresh), tmp_path, late_s=900)
    assert refused.value.reason == "wrong_signature"
    none = {name: text.replace(str(vector.at_s), "yesterday") for name, text in vector.headers.items()}
    with pytest.raises(Rejected) as refused:
        check(vector._replace(headers=none), tmp_path)
    assert refused.value.reason == "malformed_timestamp"


@of(KEYED)
def test_while_a_secret_is_changed_both_hold(vector: Vector, tmp_path: Path) -> None:
    other = "whsec_AAAAAAAA" if vector is STANDARD else "00ff11"
    check(vector, tmp_path, secret=other, previous=vector.secret)
    check(vector, tmp_path, previous=other)
    with pytest.raises(Rejected):
        check(vector, tmp_path, secret=other, previous=other)


@of(KEYED)
def test_an_empty_secret_proves_nothing(vector: Vector, tmp_path: Path) -> None:
    for given in (vector, vector._replace(headers=dict.fromkeys(vector.headers, vector.config.get("prefix", "")))):
        with pytest.raises((Retriable, Rejected)) as refused:
            check(given, tmp_path, secret="")
        assert getattr(refused.value, "reason", None) in (None, "malformed_timestamp")


@pytest.mark.parametrize(
    ("vector", "secret"), [(STANDARD, "whsec_"), (STANDARD, "whsec_no base64!"), (SHA512, "no hex"), (SHA512, " ")]
)
def test_a_secret_that_is_no_key_proves_nothing(vector: Vector, secret: str, tmp_path: Path) -> None:
    with pytest.raises(Retriable, match="a secret is no"):
        check(vector, tmp_path, secret=secret)


def test_only_what_says_so_takes_anything() -> None:
    verify(CONFIG.validate_python({"scheme": "none"}), {}, b"x", 0)
    with pytest.raises(ValidationError):
        CONFIG.validate_python({})


@pytest.mark.parametrize(
    "wrong",
    [
        {"signed": "{timestamp}.{body}"}, {"signed": "{timestamp}", "timestamp_header": "X-Time"},
        {"timestamp_header": "X-Time"}, {"algorithm": "md5"}, {"header": "X Sig"}, {"tolerance_s": 0.0},
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_told_with_the_configuration(wrong: dict[str, Any]) -> None:
    config = {"scheme": "hmac", "header": "X-Sig", "secret": {"env": "A"}}
    CONFIG.validate_python(config)
    with pytest.raises(ValidationError):
        CONFIG.validate_python(config | wrong)
