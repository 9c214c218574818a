"""Seeds from a hash of what they belong to, so that no two draws share one by accident."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seed_of(*parts: Any) -> int:
    """A 64-bit seed from anything JSON can hold; equal on every machine and Python version."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def short_hash(text: str) -> str:
    """16 hex digits that identify a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
