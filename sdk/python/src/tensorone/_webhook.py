"""Verification of received webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any, Mapping, Union

from ._errors import SignatureError

_TOLERANCE = 300  # seconds that the clock of a sender may be off


def verify_webhook(body: Union[bytes, str], headers: Mapping[str, str], secret: str) -> Any:
    """Check a received webhook and return its parsed body.

    body must be the bytes as received: a parsed and serialised body has another signature. secret is what the server
    showed once (``whsec_...``). Raises SignatureError.
    """
    raw = body.encode("utf-8") if isinstance(body, str) else body
    given = {key.lower(): value for key, value in headers.items()}
    if "webhook-signature" in given:
        _standard(raw, given, secret)
    elif "x-webhook-signature" in given:
        want = "sha256=" + hmac.new(secret.encode("utf-8"), raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(want.encode(), given["x-webhook-signature"].encode("utf-8")):
            raise SignatureError("the signature of the webhook does not fit its body and this secret")
    else:
        raise SignatureError("the request carries no webhook signature")
    return json.loads(raw)


def _standard(raw: bytes, given: Mapping[str, str], secret: str) -> None:
    name, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    try:
        age = abs(time.time() - int(timestamp))
    except ValueError:
        raise SignatureError(f"the webhook's timestamp {timestamp!r} is no number") from None
    if age > _TOLERANCE:
        raise SignatureError(f"the webhook's timestamp {timestamp} is more than {_TOLERANCE} s away from now")
    try:
        key = base64.b64decode(secret[len("whsec_") :] if secret.startswith("whsec_") else secret, validate=True)
    except ValueError:
        raise ValueError("cannot use webhook secret: it is no base64; copy it whole, with its prefix whsec_") from None
    signed = f"{name}.{timestamp}.".encode("utf-8") + raw
    want = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    if not any(hmac.compare_digest(want, one.encode("utf-8")) for one in given["webhook-signature"].split(" ")):
        raise SignatureError("no signature of the webhook fits its body and this secret")
