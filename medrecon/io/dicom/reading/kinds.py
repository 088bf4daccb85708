"""Which DICOM objects are slices of a scan, and why the others are left out (PS3.4 annex B.5)."""

from __future__ import annotations

from medrecon.io.dicom.reading.frames import first_frame
from medrecon.io.dicom.reading.header import PER_FRAME, Header
from medrecon.io.scan import ACCEPTABLE, ReadOptions, ScanError

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED = frozenset((f"{CT}.1", f"{CT}.2", f"{MR}.1", f"{MR}.4", f"{PET}.1", "1.2.840.10008.5.1.4.1.1.130"))
CLASSIC = frozenset((CT, MR, PET))
IMAGES = CLASSIC | ENHANCED
LOCALIZER = "localizer (Image Type)"
OTHER_CLASS = "not a CT, MR or PET image: "


def left_out_reason(header: Header, options: ReadOptions) -> str:
    """Why this object is no slice of a scan; "" for one that is."""
    kind = header.text("SOPClassUID") or header.media_class
    if is_damaged_class(kind, header.media_class):
        return ""
    if kind in IMAGES or (not kind and header.pixel_tag):
        types = header.text("ImageType").upper().split("\\")
        if "LOCALIZER" in types[2:3] and not options.accepts("localizers"):
            return LOCALIZER
        return ""
    placed = _is_placed(header) or options.accepts("no-geometry")
    if options.accepts("other-classes") and header.pixel_tag and placed:
        return ""
    name = _name(kind) if kind else "no SOP class"
    return f"{OTHER_CLASS}{name or 'unknown SOP class'}"


def acceptable(header: Header, reason: str) -> tuple[str, ...]:
    """The names of what reads an object that is left out for this reason; none where nothing does."""
    try:
        first_frame(header, ReadOptions(accept=tuple(ACCEPTABLE)))
    except ScanError:  # no pixels, in colour or in a form that is read under no option
        return ()
    if reason == LOCALIZER:
        return ("localizers",)
    return ("other-classes",) if _is_placed(header) else ("other-classes", "no-geometry")


def _is_placed(header: Header) -> bool:
    """Whether an object says where it lies."""
    return bool(header.text("ImagePositionPatient")) or PER_FRAME in header.seen


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
