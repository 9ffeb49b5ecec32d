"""For whoever receives webhooks: is this message from the service, whole, and fresh?

The scheme is Standard Webhooks, version 1; libraries for it exist in many languages. This one needs the standard library alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.errors import MeshyardError

TOLERANCE_SECONDS = 300.0


class NotGenuine(MeshyardError):
    """A message that must not be believed: its signature is wrong, or it is too old or from the future."""


def unwrap(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """Check a message and give its document: `id`, `type`, `timestamp`, `data`.

    Args:
        body: exactly as it came, before anything has parsed it.
        headers: of the request; how they are capitalised does not matter.
        secret: the webhook's `whsec_…`; several while one replaces another.
        tolerance_seconds: how far the message's instant may lie from this machine's clock.
        now: that clock, in seconds since the epoch.

    Raises:
        NotGenuine: the message must not be believed.
    """
    raw = body.encode() if isinstance(body, str) else body
    named = {name.lower(): value for name, value in headers.items()}
    try:
        message, instant, signatures = (named[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
        age = (time.time() if now is None else now) - int(instant)
    except (KeyError, ValueError):
        raise NotGenuine("a header is missing: webhook-id, webhook-timestamp or webhook-signature") from None
    if abs(age) > tolerance_seconds:
        raise NotGenuine(f"the message is {age:.0f} s old; {tolerance_seconds:.0f} s are allowed")
    signed = b".".join([message.encode(), instant.encode(), raw])
    given = [signature[3:] for signature in signatures.split() if signature.startswith("v1,")]
    secrets = [secret] if isinstance(secret, str) else list(secret)
    expected = [base64.b64encode(hmac.new(_key(one), signed, hashlib.sha256).digest()).decode() for one in secrets]
    if not any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected):
        raise NotGenuine("the signature does not fit; is this the webhook's secret, and the body as it came?")
    document: dict[str, Any] = json.loads(raw)
    return document


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"))
