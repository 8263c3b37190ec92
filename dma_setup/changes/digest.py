"""Whether a thing is still what we left, without keeping the thing: fingerprints for the journal.

A fingerprint of a secret is made slow (scrypt, 16 MB) and salted, so that a journal found in a backup is not a way to a
password.
"""

from __future__ import annotations

import hashlib
import hmac
import os


def of(content: bytes, *, is_secret: bool) -> str:
    if not is_secret:
        return "sha256:" + hashlib.sha256(content).hexdigest()
    salt = os.urandom(16)
    return f"scrypt:{salt.hex()}:{_slow(content, salt).hex()}"


def fits(content: bytes, digest: str) -> bool:
    method, _, rest = digest.partition(":")
    if method == "sha256":
        return hmac.compare_digest(hashlib.sha256(content).hexdigest(), rest)
    salt, _, value = rest.partition(":")
    return method == "scrypt" and hmac.compare_digest(_slow(content, bytes.fromhex(salt)).hex(), value)


def _slow(content: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(content, salt=salt, n=1 << 14, r=8, p=1, maxmem=1 << 26)
