"""Which DICOM objects are slices of a scan, and why the others are left out (PS3.4 annex B.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrecon.io.dicom.reading.header import Header

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED = frozenset((f"{CT}.1", f"{CT}.2", f"{MR}.1", f"{MR}.4", f"{PET}.1", "1.2.840.10008.5.1.4.1.1.130"))
CLASSIC = frozenset((CT, MR, PET))
IMAGES = CLASSIC | ENHANCED


def left_out_reason(header: Header) -> str:
    """Why this object is no slice of a scan; "" for one that is."""
    kind = header.text("SOPClassUID") or header.media_class
    if is_damaged_class(kind, header.media_class):
        return ""
    if kind in IMAGES or (not kind and header.pixel_tag):
        types = header.text("ImageType").upper().split("\\")
        if "LOCALIZER" in types[2:3]:
            return "localizer (Image Type)"
        return ""
    name = _name(kind) if kind else "no SOP class"
    return f"not a CT, MR or PET image: {name or 'unknown SOP class'}"


def is_damaged_class(given: str, media: str) -> bool:
    """Whether a SOP Class UID is that of a CT, MR or PET image, damaged.

    Args:
        given: of the data set.
        media: of the file meta information, "" without it.
    """
    if not given or given in IMAGES:
        return False
    if media in IMAGES:
        return True
    near = any(len(uid) == len(given) and sum(map(str.__ne__, uid, given)) <= 2 for uid in IMAGES)
    return near and not _name(given)


def _name(uid: str) -> str:
    """The name of a registered SOP class, "" for any other."""
    from pydicom import config
    from pydicom.uid import UID

    name = UID(uid, validation_mode=config.IGNORE).name
    return "" if name == uid else str(name)
