"""The form of a key: `my_<prefix>_<secret><checksum>`.

The prefix finds the row and may be shown; the secret has 256 bits of chance and is never kept. The checksum tells a key that was
mistyped or cut off without a look at the database, and lets scanners of source code tell a key from other text.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 12, 43, 6
MARK = "my_"
FORM = re.compile(rf"my_([0-9a-z]{{{PREFIX_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})", re.ASCII)


@dataclass(frozen=True)
class Token:
    """A key as its bearer sends it."""

    prefix: str
    text: str


def mint(prefix: str | None = None) -> Token:
    """Make a key that nobody can guess; with a prefix, another secret for the key that bears it."""
    prefix = prefix or "".join(secrets.choice(ALPHABET[:10] + ALPHABET[36:]) for _ in range(PREFIX_LENGTH))
    body = f"{MARK}{prefix}_{''.join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))}"
    return Token(prefix, body + _checksum(body))


def read(text: str) -> Token | None:
    """The key that a text is; None if it is none, or was mistyped."""
    match = FORM.fullmatch(text)
    if match is None or _checksum(text[:-CHECKSUM_LENGTH]) != match[3]:
        return None
    return Token(match[1], text)


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits: list[str] = []
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


@dataclass(frozen=True)
class Pepper:
    """The server's own secret, without which the hashes in the database are of no use to whoever has read them."""

    secret: bytes

    @property
    def name(self) -> str:
        """Tells one pepper from another and nothing else; stored beside each hash."""
        return hmac.new(self.secret, b"meshyard key pepper", hashlib.sha256).hexdigest()[:16]

    def hash(self, token: Token) -> str:
        """HMAC-SHA-256 of a key. A slow hash would guard guessable words; these keys are random."""
        return hmac.new(self.secret, token.text.encode(), hashlib.sha256).hexdigest()


def same(one: str, other: str | None) -> bool:
    """Whether two hashes are equal, in a time that does not tell how much of them is."""
    return other is not None and hmac.compare_digest(one, other)
