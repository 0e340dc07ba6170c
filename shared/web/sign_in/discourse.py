"""Sign-in by DiscourseConnect, with a Discourse as the provider.

Source: https://meta.discourse.org/t/32974 and Discourse's ``lib/discourse_connect_base.rb``. A payload is a query
string in Base64 (``sso``); its signature is the lower-case hexadecimal HMAC-SHA256 of that Base64 (``sig``).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

from shared.discourse import Discourse
from shared.settings import Settings
from shared.web.principals import Principal, Role, person
from shared.web.sign_in.attempts import Attempt, SignInFailed

MOST_BYTES = 16 * 1024
_UNSOUND = "What the forum answered does not hold, so nobody was signed in. If it happens again, tell the operator."
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


class DiscourseConnect:
    """The Discourse that ``STARS_DISCOURSE_URL`` names. Member ids are those that its adapter gives."""

    name = "discourse"

    def __init__(self, settings: Settings) -> None:
        if not settings.discourse_url or not settings.discourse_connect_secret:
            raise ValueError("STARS_DISCOURSE_CONNECT_SECRET needs STARS_DISCOURSE_URL, where people sign in")
        try:
            self._discourse = Discourse(settings.discourse_url)
        except ValueError as error:
            raise ValueError(f"STARS_DISCOURSE_URL: {error}") from None
        self._secret = settings.discourse_connect_secret.get_secret_value().encode()
        pairs = (pair.split("=") for pair in settings.discourse_roles.split(","))
        self._roles = {who.strip(): Role(role.strip()) for who, role in pairs}
        self.at = self._discourse.place
        """Where people sign in."""

    def _sign(self, sso: str) -> str:
        return hmac.new(self._secret, sso.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    async def begin(self, attempt: Attempt, callback: str) -> str:
        """The address at the Discourse where the sign-in goes on."""
        payload = urlencode({"nonce": attempt.secret("nonce"), "return_sso_url": callback})
        sso = base64.b64encode(payload.encode()).decode()
        return f"{self._discourse.url}/session/sso_provider?" + urlencode({"sso": sso, "sig": self._sign(sso)})

    async def finish(self, attempt: Attempt, callback: str, answer: Mapping[str, str]) -> Principal:
        """Who signed in, from the Discourse's answer in the callback's query. Raises SignInFailed."""
        sso, signature = answer.get("sso", ""), answer.get("sig", "")
        if not sso or len(sso) > MOST_BYTES:
            raise SignInFailed(400, _UNSOUND, "the answer has no payload, or too much of one")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(sso).encode()):
            raise SignInFailed(400, _UNSOUND, "the answer's signature: do the secrets differ?")
        fields = _read(sso)
        if not hmac.compare_digest(fields.get("nonce", "").encode(), attempt.secret("nonce").encode()):
            raise SignInFailed(
                400, "Another sign-in was begun in this browser after this one. Please begin again.", "nonce"
            )
        if fields.get("failed") == "true":
            raise SignInFailed(403, "The forum says that you are not signed in there.", "failed")
        number = fields.get("external_id", "")
        if not _NUMBER.fullmatch(number):
            raise SignInFailed(502, _UNSOUND, "external_id is no number of a user")
        return person(self._discourse.user(int(number)), self._roles_of(fields), fields.get("username"))

    def _roles_of(self, fields: Mapping[str, str]) -> set[Role]:
        who = {name for name in ("admin", "moderator") if fields.get(name) == "true"}
        who |= {f"group:{name}" for name in fields.get("groups", "").split(",")}
        return {role for name, role in self._roles.items() if name in who}


def _read(sso: str) -> dict[str, str]:
    """The fields of a payload whose signature holds. One that is there twice has no meaning, and is left out."""
    try:
        # Ruby's line feeds in Base64 are harmless; anything else that is not Base64 is an error.
        payload = base64.b64decode(sso.replace("\n", "").replace("\r", ""), validate=True).decode()
        fields = parse_qs(payload, keep_blank_values=True, max_num_fields=200)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise SignInFailed(502, _UNSOUND, "the payload cannot be read") from None
    return {name: values[0] for name, values in fields.items() if len(values) == 1}
