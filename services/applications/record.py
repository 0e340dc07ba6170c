"""The contribution record: what a Star can take along, as a page and as JSON that anybody can verify.

It is a JSON Web Signature (RFC 7515) by Ed25519 (RFC 8037). The key is made of the installation's signing secret, and
its public half is told to anyone, so whoever is shown a record needs no account here.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import OKPAlgorithm

from services.applications.membership import Membership
from services.applications.records import read_records
from shared.messaging import Outbox
from shared.settings import Settings
from shared.web import Principal, Problem, Role


class Signer:
    """Signs records; None of it where the installation has no signing secret."""

    def __init__(self, settings: Settings) -> None:
        self._key: Ed25519PrivateKey | None = None
        self._issuer = settings.url
        if settings.secret is not None:
            derive = HKDF(hashes.SHA256(), 32, None, b"constellation contribution record")
            self._key = Ed25519PrivateKey.from_private_bytes(derive.derive(settings.secret.get_secret_value().encode()))

    def keys(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        if self._key is None:
            return {"keys": []}
        public: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": self._kid(), "use": "sig", "alg": "EdDSA"}]}

    def sign(self, record: dict[str, Any], now: datetime) -> str:
        """A record as a compact JWS. Raises Problem 409 without a signing secret."""
        if self._key is None:
            raise Problem(409, "This installation has no signing secret, so it cannot sign.", type="cannot-sign")
        claims = {"iat": int(now.timestamp()), "sub": record["member_id"], "record": record}
        if self._issuer:
            claims["iss"] = self._issuer
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid()})

    def _kid(self) -> str:
        assert self._key is not None
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self._key.public_key().public_bytes_raw())
        return digest.finalize().hex()[:16]


class Records:
    """What a member can show of what they did."""

    def __init__(self, outbox: Outbox, membership: Membership, signer: Signer) -> None:
        self._outbox, self._membership, self.signer = outbox, membership, signer

    async def read(self, principal: Principal, member_id: str) -> dict[str, Any]:
        """The record, plain: one's own, or for staff anybody's. Raises Problem 404."""
        star = await self._membership.read(principal, member_id)
        async with self._outbox.transaction() as transaction:
            connection = transaction.connection
            own = principal.member_id is not None and (
                await self._membership.root(connection, principal.member_id) == star["member_id"]
            )
            if not own and not principal.has(Role.STAFF):
                raise Problem(404, "There is no such record, or it is not yours.")
            record = (await read_records(connection, [star["member_id"]]))[star["member_id"]]
        years: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COUNTED, 0))
        for month in record.months:
            for name in _COUNTED:
                years[month.month.year][name] += getattr(month, name)
        total = {name: sum(year[name] for year in years.values()) for name in _COUNTED}
        return {
            "member_id": star["member_id"],
            "name": star["name"],
            "as_of": datetime.now(UTC).isoformat(),
            "star_since": star["since"].isoformat(),
            "star_until": None if star["retired_at"] is None else star["retired_at"].isoformat(),
            "rank": star["rank_name"],
            "months_active": len({one.month for one in record.months if one.replies}),
            "total": total,
            "years": [{"year": year, **years[year]} for year in sorted(years)],
            "spaces": star["helps_in"],
            "languages": star["languages"],
            "history": [
                {"at": one["at"].isoformat(), "what": one["what"], "rank": one["rank"]} for one in star["history"]
            ],
        }


_COUNTED = ("replies", "solutions", "first_responses", "kudos")
