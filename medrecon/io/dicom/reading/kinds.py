"""Which DICOM objects are slices of a scan, and why the others are left out (PS3.4 annex B.5)."""

from __future__ import annotations

from medrecon.io.dicom.reading.header import Header

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED = frozenset((f"{CT}.1", f"{CT}.2", f"{MR}.1", f"{MR}.4", f"{PET}.1", "1.2.840.10008.5.1.4.1.1.130"))
CLASSIC = frozenset((CT, MR, PET))


def left_out_reason(header: Header) -> str:
    """Why this object is no slice of a scan; "" for one that is."""
    kind = header.text("SOPClassUID")
    if kind in CLASSIC or kind in ENHANCED or (not kind and header.pixel_tag):
        types = header.text("ImageType").upper().split("\\")
        if "LOCALIZER" in types[2:3]:
            return "localizer (Image Type)"
        return ""
    from pydicom import config
    from pydicom.uid import UID

    name = UID(kind, validation_mode=config.IGNORE).name if kind else "no SOP class"
    return f"not a CT, MR or PET image: {name if name != kind else 'unknown SOP class'}"
