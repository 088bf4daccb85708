"""Why a PACS refuses an instance, in words (PS3.4 table B.2-1, PS3.7 annex C, PS3.18 table 10.5.1-3)."""

from __future__ import annotations

_WORDS = {
    0x0110: "processing failure",
    0x0111: "another instance has its UID",
    0x0117: "its SOP Instance UID is invalid",
    0x0122: "its SOP class is not supported",
    0x0124: "not authorized",
    0x0210: "sent twice",
    0x0212: "wrongly typed argument",
    0xC122: "its transfer syntax is not supported",
}
_RANGES = {0xA7: "out of resources", 0xA9: "it does not match its SOP class", 0xC0: "cannot be understood"}


def reason(code: object) -> str:
    """A status or failure reason in words; "" for success and warnings, by which an instance is stored."""
    if not isinstance(code, int):
        return "no reason given"
    if code == 0 or code >> 12 == 0xB or code in (0x0107, 0x0116):
        return ""
    words = (
        _WORDS.get(code) or _RANGES.get(code >> 8) or ("cannot be understood" if code >> 12 == 0xC else "")
    )
    return f"{words or 'refused'} ({code:04X})"
