"""Links that act without a sign-in: signed, for one purpose, one member, one category and channel; they never expire.

A token is the key's id, what it stands for, and an HMAC over both. Keys are made on first start and kept in the
database; a newer one may be added, and links that were signed with older ones stay valid.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.postgres import Queries, as_json

SQL = Queries(Path(__file__).parent / "sql" / "keys.sql")

Purpose = Literal["unsubscribe", "pause", "not-for-me", "verify", "bounce"]
_MAC_BYTES = 16
MAX_TOKEN = 2048


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows. ``detail`` is a topic's id, an address to verify, or a delivery's id."""

    purpose: Purpose
    member_id: str
    category: str = ""
    channel: str = ""
    detail: str = ""


class Tokens:
    """Makes and reads tokens with the keys of this installation."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = dict(keys)
        self._newest = max(self._keys)

    def make(self, grant: Grant) -> str:
        """The token of a grant: letters, digits, ``-``, ``_`` and dots."""
        said = [grant.purpose, grant.member_id, grant.category, grant.channel, grant.detail]
        payload = _base64(as_json(said).encode())
        return f"{self._newest}.{payload}.{_base64(self._mac(self._newest, payload))}"

    def read(self, token: str, *purposes: Purpose) -> Grant | None:
        """What a token allows; None for a forged, broken or foreign one, whatever is wrong with it."""
        try:
            if len(token) > MAX_TOKEN:
                return None
            key_id, payload, mac = token.split(".")
            key = int(key_id) if key_id.isascii() and key_id.isdecimal() and len(key_id) < 6 else -1
            given = base64.urlsafe_b64decode(mac.encode("ascii") + b"=" * (-len(mac) % 4))
            if key not in self._keys or not hmac.compare_digest(given, self._mac(key, payload)):
                return None
            grant = Grant(*json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        except (ValueError, TypeError, binascii.Error):
            return None
        return grant if grant.purpose in purposes else None

    def sign(self, text: str) -> str:
        """A short signature in lower-case letters and digits, for the local part of an address."""
        return hmac.digest(self._keys[self._newest], b"bounce " + text.encode(), hashlib.sha256).hex()[:16]

    def signed(self, text: str, signature: str) -> bool:
        """Whether ``sign`` made it, with whichever key."""
        return any(
            hmac.compare_digest(
                hmac.digest(key, b"bounce " + text.encode(), hashlib.sha256).hex()[:16].encode(), signature.encode()
            )
            for key in self._keys.values()
        )

    def _mac(self, key_id: int, payload: str) -> bytes:
        return hmac.digest(self._keys[key_id], f"{key_id}.{payload}".encode(), hashlib.sha256)[:_MAC_BYTES]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Keys:
    """The keys of an installation."""

    tokens: Tokens
    vapid: ec.EllipticCurvePrivateKey


async def load_keys(pool: Any) -> Keys:
    """The keys, made where there are none yet; of several replicas that start at once one makes them."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(SQL.lock)
        rows = await connection.fetch(SQL.read)
        if not any(row["purpose"] == "token" for row in rows):
            await connection.execute(SQL.write, "token", secrets.token_bytes(32))
        if not any(row["purpose"] == "vapid" for row in rows):
            private = ec.generate_private_key(ec.SECP256R1())
            encoded = private.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            await connection.execute(SQL.write, "vapid", encoded)
        rows = await connection.fetch(SQL.read)
    newest = [row["secret"] for row in rows if row["purpose"] == "vapid"][-1]
    vapid = serialization.load_der_private_key(newest, None)
    assert isinstance(vapid, ec.EllipticCurvePrivateKey)
    return Keys(Tokens({row["key_id"]: row["secret"] for row in rows if row["purpose"] == "token"}), vapid)
