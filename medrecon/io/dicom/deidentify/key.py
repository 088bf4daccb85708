"""The key, and what is made with it: UIDs, IDs and shifts of dates that nobody without it can foretell."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from datetime import datetime, timedelta
from pathlib import Path

from medrecon.errors import ModelError

_SHORTEST, _LONGEST = 16, 4096
_MOST_DAYS = 3650
_DICOM_ROOT = "1.2.840.10008."


class Key:
    """A secret that maps identities.

    Args:
        secret: at least 16 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def read(cls, path: Path) -> Key:
        """The key of a file.

        Raises:
            ModelError: it is missing, too short or too long, or others can read it.
        """
        make = f"make one: (umask 077; head -c 32 /dev/urandom > {path})"
        try:
            secret = path.read_bytes() if path.stat().st_size <= _LONGEST else b""
            mode = path.stat().st_mode
        except OSError as error:
            raise ModelError(f"the key cannot be read ({error.strerror})", path=path, remedy=make) from None
        if len(secret) < _SHORTEST:
            raise ModelError(f"a key has {_SHORTEST} to {_LONGEST} bytes", path=path, remedy=make)
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise ModelError("others can read the key", path=path, remedy=f"chmod 600 {path}")
        return cls(secret)

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.digest(
            self._secret, f"{kind}\0{value}".encode("utf-8", "surrogateescape"), hashlib.sha256
        )

    def uid(self, value: str) -> str:
        """A UID in the place of another (PS3.5 B.2); those of the standard itself stay."""
        if not value or value.startswith(_DICOM_ROOT):
            return value
        return f"2.25.{int.from_bytes(self._digest('uid', value)[:16], 'big')}"

    def code(self, kind: str, value: str) -> str:
        """Sixteen letters and digits in the place of an ID; "" stays."""
        return self._digest(kind, value).hex()[:16].upper() if value else ""

    def days(self, patient: str) -> int:
        """How far the dates of a patient are moved back: 1 to 3650 days."""
        return 1 + int.from_bytes(self._digest("days", patient)[:8], "big") % _MOST_DAYS


def moved(text: str, days: int) -> str:
    """A date (DA), or a date with a time (DT), so many days earlier; "" for what is none."""
    try:
        day = datetime.strptime(text[:8], "%Y%m%d") - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    rest = text[8:]
    return f"{day:%Y%m%d}{rest}" if all(char in "0123456789.+-" for char in rest) else ""
