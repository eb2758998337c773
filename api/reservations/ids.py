"""Names of reservations and of commands, made of what the caller gave, so that a repeat of a call has the same ones.

A reservation's id carries its SKU, or none where there are several: any process knows by it where the hold lies. Pure;
called by the routes.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

from schemas.keys import ID_CHARACTERS_MAX, id_problem
from schemas.reservations import NO_SKU
from stockweave.errors import Rejected

KEY_CHARACTERS_MAX = 255
KEY_PATTERN = f"^[!-~]{{1,{KEY_CHARACTERS_MAX}}}$"
ID_PATTERN = r"^[A-Za-z0-9_-]{22}(\.[A-Za-z0-9_-]{2,683})?$"  # a SKU has up to four bytes a character

_DIGEST_CHARACTERS = 22  # 132 bits
_KEY, _ID = re.compile(KEY_PATTERN), re.compile(ID_PATTERN)


def checked_key(key: str, field: str) -> str:
    """An idempotency key as it is.

    Raises:
        Rejected: it cannot be one.
    """
    if not _KEY.fullmatch(key):
        detail = f"{field} is not 1 to {KEY_CHARACTERS_MAX} visible ASCII characters; send a UUID, or leave it out"
        raise Rejected("invalid_idempotency_key", detail, field)
    return key


def random_key() -> str:
    """For a caller that gives none: every call is another one."""
    return secrets.token_urlsafe(16)


def placed_key(key: str, place: int) -> str:
    """Of an entry of a batch that has only the batch's key; no caller's own key has a space."""
    return f"{key} {place}"


def reservation_id(sku: str, key: str) -> str:
    """The id of what is reserved of a SKU, or of several (`NO_SKU`), by a call with an idempotency key."""
    name = digest(sku, key)
    return name if sku == NO_SKU else f"{name}.{urlsafe_b64encode(sku.encode()).rstrip(b'=').decode()}"


def sku_of(own_id: str) -> str | None:
    """The SKU of a reservation, `NO_SKU` of one of several; None if no reservation has such an id."""
    if not _ID.fullmatch(own_id):
        return None
    encoded = own_id.partition(".")[2]
    if not encoded:
        return NO_SKU
    try:
        sku = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
    same = urlsafe_b64encode(sku.encode()).rstrip(b"=").decode() == encoded
    return sku if same and len(sku) <= ID_CHARACTERS_MAX and id_problem(sku) is None else None


def command_id(action: str, key: str) -> str:
    """Of a command on a reservation that is there: the same key names another command for another action."""
    return digest(action, key)


def digest(*parts: str) -> str:
    """A short name of several texts, none of which has a zero character."""
    return urlsafe_b64encode(sha256("\0".join(parts).encode()).digest())[:_DIGEST_CHARACTERS].decode()
