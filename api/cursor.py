"""The place in the list at which the next page begins: generation and last SKU, opaque to clients.

It names a place and not a page, so it stays good while rows change, and only a new generation ends it.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from schemas.keys import id_problem
from stockweave.errors import Rejected


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """`generation`: of inventory.stock; `last`: the SKU after which the page begins."""

    generation: str
    last: str

    def token(self) -> str:
        """As given to clients: base64url, without padding."""
        return base64.urlsafe_b64encode(_encode(self)).rstrip(b"=").decode()

    @classmethod
    def parse(cls, token: str) -> Cursor:
        """The cursor of a token.

        Raises:
            Rejected: it is not one of ours.
        """
        try:
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            cursor = _decode(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError):
            cursor = None
        if cursor is None or id_problem(cursor.last):
            raise Rejected(
                "invalid_cursor", "cursor is not one that a page gave; send `next` of the last page as it was", "cursor"
            )
        return cursor


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Cursor).decode
