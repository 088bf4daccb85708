"""Defined terms of DICOM: a text that is none of them may be anything, a name as well, and goes nowhere."""

from __future__ import annotations

from medrecon.io.dicom.writing.body_parts import UNPAIRED

MODALITIES = frozenset({"CT", "MR", "PT"})
"""Of Modality (PS3.3 C.7.3.1.1.1), those whose images are slices of a volume here."""

PAIRED = frozenset(
    """
    ACJOINT ADRENAL ANKLE ARM AXILLA BREAST CALCANEUS CAROTID CLAVICLE EAR ELBOW EXTREMITY EYE FEMUR FINGER
    FOOT FOREARM HAND HIP HUMERUS IAC KIDNEY KNEE LEG LOWERLEG LUNG OPTICCANAL ORBIT PATELLA RADIUS RIB
    SCAPULA SHOULDER SIJOINT TESTIS THIGH THUMB TIBIA TMJ TOE ULNA UPPERARM WRIST ZYGOMA
    """.split()  # noqa: SIM905
)
"""Of BodyPartExamined (PS3.16 annex L), those of which a patient has two."""

UNITS = frozenset(
    """
    CNTS NONE CM2 CM2ML PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS MLMINML MLML
    GML STDDEV HU US OD MGML Z_EFF ED EDW HU_MOD PCT
    """.split()  # noqa: SIM905
)
"""Of Units (PS3.3 C.8.9.1) and of Rescale Type (PS3.3 C.11.1.1.2)."""


def defined(text: str, terms: frozenset[str]) -> str:
    """The defined term that a text is, or ""."""
    term = text.strip().upper()
    return term if term in terms else ""


def body_part(text: str) -> str:
    """The defined term of BodyPartExamined that a text is, or ""."""
    return defined(text, UNPAIRED | PAIRED)
