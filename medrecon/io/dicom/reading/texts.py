"""Texts in the character sets that DICOM knows (PS3.3 C.12.1.1.2), and in no other codec that Python has."""

from __future__ import annotations

import re


def encodings(character_set: str) -> list[str] | None:
    """Python's names of the character sets in a SpecificCharacterSet; None if one is not DICOM's.

    Spellings such as "ISO-IR 100" are understood.
    """
    from pydicom.charset import python_encoding

    names = []
    for term in character_set.split("\\"):
        spelled = re.sub(r"^ISO.IR.", "ISO_IR ", re.sub(r"^ISO.2022.IR.", "ISO 2022 IR ", term.strip(" \0")))
        if spelled not in python_encoding:
            return None
        names.append(python_encoding[spelled])
    return names


def decode(raw: bytes, character_set: str) -> str:
    """A text; bytes of an unknown character set, or that do not belong to it, as Latin-1."""
    from pydicom.charset import decode_bytes

    names = encodings(character_set)
    try:
        if names is not None:
            return str(decode_bytes(raw, names, set()))
    except (LookupError, UnicodeError, ValueError):
        pass
    return raw.decode("latin-1")
