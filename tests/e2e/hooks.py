"""What Schemathesis has to know of the design beside the OpenAPI documents; its command loads this file."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection


@schemathesis.check
def negative_data_rejection_but_for_blanks(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> bool | None:
    """What a schema forbids is refused; a blank parameter is an absent one, which no schema of a query can say."""
    sent = parse_qsl(urlsplit(str(response.request.url)).query, keep_blank_values=True)
    if any(value == "" for _, value in sent):
        return None
    return negative_data_rejection(ctx, response, case)


@schemathesis.serializer("message/rfc822")
def as_it_is(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """A mail is bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
