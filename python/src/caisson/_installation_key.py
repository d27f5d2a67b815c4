"""What `caisson keys export` prints."""

from __future__ import annotations

import hashlib
import hmac
import re

_EXPORTED = re.compile(r"caisson-key-1:([0-9a-f]{64})")


def proof_of_key(exported: str) -> str:
    """The HMAC-SHA-256 of a constant under the key, in hexadecimal: it proves that somebody has the key, and tells
    nothing of it."""
    found = _EXPORTED.fullmatch(exported.strip())
    if found is None:
        raise ValueError(
            "this is no installation key: give what `caisson keys export --new` printed, caisson-key-1:..."
        )
    return hmac.new(bytes.fromhex(found[1]), b"caisson key kept\n", hashlib.sha256).hexdigest()
