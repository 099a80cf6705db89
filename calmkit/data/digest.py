"""One hash for every cache key and fingerprint of this room."""

from __future__ import annotations

import hashlib


def digest(*parts: str | bytes) -> str:
    """BLAKE2b over the parts as 32 hexadecimal digits; the cuts between parts count."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        hasher.update(len(content).to_bytes(8, "little"))
        hasher.update(content)
    return hasher.hexdigest()
