"""What tells one image from another: the one table of marks, and how each is compared.

Sources: PS3.3 C.7.6 (general image), C.8.2 (CT), C.8.3 (MR), C.8.9 (PET), C.8.13 and C.8.15 (enhanced
MR and CT), C.7.6.16 (functional groups); private b values as the vendors' conformance statements have them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["text", "code", "number", "double", "float", "integer", "nested"]


@dataclass(frozen=True)
class Mark:
    """One attribute that may tell images apart.

    Attributes:
        name: DICOM's keyword, as users see it.
        tag: of the attribute in a single-frame image.
        form: how its value is stored there: free text (which may hold a name), a code, decimal text, binary,
            a sequence (of which a digest is compared).
        group: functional group that holds it in an enhanced object; "" where none does.
        atol: values that differ by less are the same, beside one in a thousand.
        creator: for a private attribute, the tag and text of its private creator.
        date: tag of the date that belongs to a time, 0 for others.
        ignored: values of several that tell nothing.
    """

    name: str
    tag: int
    form: Form = "text"
    group: str = ""
    atol: float = 0.0
    creator: tuple[int, bytes] | None = None
    date: int = 0
    ignored: tuple[str, ...] = ()

    def raw(self, values: Mapping[int, bytes], framed: Mapping[str, Any]) -> Any:
        """The value as it is stored: of a frame where it has one, else of the image; None if missing."""
        if framed:
            found = framed.get(self.name)
            if found is not None:
                return found
        value = values.get(self.tag)
        if value is None or (self.creator and self.creator[1] not in values.get(self.creator[0], b"")):
            return None
        return values.get(self.date, b"") + value if self.date else value

    def value(self, raw: Any, order: str) -> str | tuple[float, ...]:
        """A stored value as text or as numbers; "" if it is missing."""
        if raw is None:
            return ""
        if not isinstance(raw, bytes):
            return raw if isinstance(raw, (str, tuple)) else str(raw)
        if self.form in BINARY_FORMS:
            code, size = BINARY_FORMS[self.form]
            count = len(raw) // size
            if self.form == "integer" and len(raw) == 2:
                code, count = "H", 1
            return struct.unpack_from(f"{order}{count}{code}", raw) if count else ""
        parts = (part.strip() for part in raw.decode("latin-1").strip(" \0").split("\\"))
        text = "\\".join(part for part in parts if part not in self.ignored)
        if self.form == "number":
            try:
                return tuple(float(part) for part in text.split("\\")) if text else ""
            except ValueError:
                return text
        return text


BINARY_FORMS = {"double": ("d", 8), "float": ("f", 4), "integer": ("L", 4)}
_SIEMENS = (0x00190010, b"SIEMENS MR HEADER")
_GE = (0x00430010, b"GEMS_PARM_01")
_PHILIPS = (0x20010010, b"Philips Imaging DD 001")
_PHILIPS_MR = (0x20050010, b"Philips MR Imaging DD 001")

CONTENT = (
    Mark("EchoNumbers", 0x00180086, "number"),
    Mark("EchoTime", 0x00180081, "number"),
    Mark("EffectiveEchoTime", 0x00189082, "double", "MREchoSequence"),
    Mark("InversionTime", 0x00180082, "number"),
    Mark("InversionTimes", 0x00189079, "double", "MRModifierSequence"),
    Mark("FlipAngle", 0x00181314, "number", "MRTimingAndRelatedParametersSequence"),
    Mark("TemporalPositionIdentifier", 0x00200100, "number"),
    Mark("TemporalPositionIndex", 0x00209128, "integer", "FrameContentSequence"),
    Mark("NominalPercentageOfCardiacPhase", 0x00209241, "float", "CardiacSynchronizationSequence"),
    Mark("NominalPercentageOfRespiratoryPhase", 0x00209245, "float", "RespiratorySynchronizationSequence"),
    Mark("DiffusionBValue", 0x00189087, "double", "MRDiffusionSequence", 0.5),
    Mark("DiffusionDirectionality", 0x00189075, "code", "MRDiffusionSequence"),
    Mark(
        "DiffusionGradientOrientation",
        0x00189089,
        "double",
        "MRDiffusionSequence.DiffusionGradientDirectionSequence",
        0.005,
    ),
    Mark("SiemensBValue", 0x0019100C, "number", "", 0.5, _SIEMENS),
    Mark("SiemensGradientDirection", 0x0019100E, "double", "", 0.005, _SIEMENS),
    Mark("GEBValue", 0x00431039, "number", "", 0.5, _GE),
    Mark("PhilipsBValue", 0x20011003, "float", "", 0.5, _PHILIPS),
    Mark("PhilipsGradientRL", 0x200510B0, "float", "", 0.005, _PHILIPS_MR),
    Mark("PhilipsGradientAP", 0x200510B1, "float", "", 0.005, _PHILIPS_MR),
    Mark("PhilipsGradientFH", 0x200510B2, "float", "", 0.005, _PHILIPS_MR),
    Mark("VelocityEncodingDirection", 0x00189090, "double", "MRVelocityEncodingSequence", 0.005),
    Mark("VelocityEncodingMinimumValue", 0x00189091, "double", "MRVelocityEncodingSequence"),
    Mark("VelocityEncodingMaximumValue", 0x00189217, "double", "MRVelocityEncodingSequence"),
    Mark("ImageType", 0x00080008, "code", ignored=("ADD",)),  # GE: added up from thin slices
    Mark(
        "FrameType",
        0x00089007,
        "code",
        "MRImageFrameTypeSequence CTImageFrameTypeSequence PETFrameTypeSequence",
    ),
    Mark("ComplexImageComponent", 0x00089208, "code", "MRImageFrameTypeSequence"),
    Mark("ASLContext", 0x00189257, "code", "MRArterialSpinLabelingSequence"),
    Mark("MetaboliteMapDescription", 0x00189080, "text", "MRMetaboliteMapSequence"),
    Mark("MagnetizationTransfer", 0x00189020, "code", "MRModifierSequence"),
    Mark("ScanningSequence", 0x00180020, "code"),
    Mark("SequenceVariant", 0x00180021, "code"),
    Mark("SequenceName", 0x00180024),
    Mark("ScanOptions", 0x00180022, "code"),
    Mark("ContrastBolusAgent", 0x00180010),
    Mark("ContrastBolusAgentNumber", 0x00189337, "integer", "ContrastBolusUsageSequence"),
    Mark("ContrastBolusAgentAdministered", 0x00189342, "code", "ContrastBolusUsageSequence"),
    Mark("ContrastBolusAgentPhase", 0x00189344, "code", "ContrastBolusUsageSequence"),
    Mark("ConvolutionKernel", 0x00181210, "text", "CTReconstructionSequence"),
    Mark("ReconstructionAlgorithm", 0x00189315, "text", "CTReconstructionSequence"),
    Mark("KVP", 0x00180060, "number", "CTXRayDetailsSequence"),
    Mark("MonoenergeticEnergyEquivalent", 0x0018937C, "double", "MultienergyCTCharacteristicsSequence"),
    Mark("MultienergyCTCharacteristicsSequence", 0x00189364, "nested"),
    Mark("MultienergyCTProcessingSequence", 0x00189363, "nested"),
    Mark("PhotometricInterpretation", 0x00280004, "code"),
    Mark("RescaleType", 0x00281054, "text", "PixelValueTransformationSequence"),
    Mark("Units", 0x00541001, "code"),
    Mark("CorrectedImage", 0x00280051, "code"),
    Mark("PatientPosition", 0x00185100, "code"),
    Mark("SeriesDescription", 0x0008103E),
)
"""What makes a slice another image wherever it lies: slices that differ in one of these are no one volume."""

THICKNESS = Mark("SliceThickness", 0x00180050, "number", "PixelMeasuresSequence")
"""Another image where it differs at one position; from place to place it may change (old CT of the head)."""

STATE = (
    Mark("ProtocolName", 0x00181030),
    Mark("RepetitionTime", 0x00180080, "number", "MRTimingAndRelatedParametersSequence"),
    Mark("ReceiveCoilName", 0x00181250),
    Mark("ImageComments", 0x00204000),
    Mark("DerivationDescription", 0x00082111),
    Mark("ReconstructionDiameter", 0x00181100, "number", "CTReconstructionSequence"),
    Mark("FilterType", 0x00181160, "text", "CTXRayDetailsSequence"),
    Mark("StackID", 0x00209056, "text", "FrameContentSequence"),
    Mark("TriggerTime", 0x00181060, "number"),
    Mark("NominalCardiacTriggerDelayTime", 0x00209153, "double", "CardiacSynchronizationSequence"),
    Mark("NominalRespiratoryTriggerDelayTime", 0x00209255, "double", "RespiratorySynchronizationSequence"),
    Mark("TemporalPositionTimeOffset", 0x0020930D, "double", "TemporalPositionSequence"),
    Mark("ImageTriggerDelay", 0x00181067, "number"),
    Mark("FrameReferenceTime", 0x00541300, "number"),
    Mark("AcquisitionNumber", 0x00200012, "number"),
    Mark("FrameAcquisitionNumber", 0x00209156, "integer", "FrameContentSequence"),
    Mark("AcquisitionDateTime", 0x0008002A),
    Mark("FrameAcquisitionDateTime", 0x00189074, "text", "FrameContentSequence"),
    Mark("AcquisitionTime", 0x00080032, date=0x00080022),
    Mark("InstanceNumber", 0x00200013, "number"),
    Mark("FrameReferenceDateTime", 0x00189151, "text", "FrameContentSequence"),
    Mark("ContentTime", 0x00080033, date=0x00080023),
)
"""What may rightly differ within a volume, and tells volumes at the same positions apart."""

DESCRIPTIONS = STATE[: [m.name for m in STATE].index("StackID")]
"""Those of them that tell contents apart where they alternate along the stack."""

RANKING = STATE[[m.name for m in STATE].index("TriggerTime") :]
"""Those of them that have an order: by their rank at each position, the volumes are told apart."""

MARKS = (*CONTENT, THICKNESS, *STATE)
NESTED_TAGS = frozenset(m.tag for m in MARKS if m.form == "nested")
MARK_TAGS = frozenset(tag for m in MARKS for tag in (m.tag, m.date, m.creator[0] if m.creator else 0) if tag)
GROUPS: dict[str, tuple[Mark, ...]] = {}
"""Functional group (with the group in it, after a dot) -> the marks that it holds."""
for _mark in MARKS:
    for _group in _mark.group.split():
        GROUPS[_group] = (*GROUPS.get(_group, ()), _mark)


def labels(mark: Mark, raws: Sequence[Any], orders: Sequence[str]) -> list[str]:
    """One text for each slice, that may be shown to anybody: free text is counted, not told.

    Numbers that are the same but for rounding get the same text.
    """
    keys = list(zip(raws, orders, strict=True))
    values = {key: mark.value(*key) for key in dict.fromkeys(keys)}
    names: dict[str | tuple[float, ...], str] = {}
    seen: list[tuple[float, ...]] = []
    for value in sorted(v for v in set(values.values()) if isinstance(v, tuple)):
        same = next((v for v in (seen[-1:] if len(value) == 1 else seen) if _same(v, value, mark)), None)
        if same is None:
            seen.append(value)
        names[value] = "\\".join(f"{v:.7g}" for v in value) if same is None else names[same]
    texts = sorted({v for v in values.values() if isinstance(v, str) and v})
    names[""] = ""
    for k, text in enumerate(texts, start=1):
        names[text] = text if mark.form == "code" else f"no. {k}"
    return [names[values[key]] for key in keys]


def _same(a: Any, b: tuple[float, ...], mark: Mark) -> bool:
    """Whether two values of another image's mark are one but for rounding; what counts or orders is exact."""
    return (
        mark.name not in _EXACT
        and len(a) == len(b)
        and all(abs(x - y) <= max(mark.atol, 1e-3 * max(abs(x), abs(y))) for x, y in zip(a, b, strict=True))
    )


_EXACT = frozenset(m.name for m in STATE)


def alternates(texts: Sequence[str]) -> bool:
    """Whether different texts take turns, always in the same order, from one slice to the next."""
    turn = len(set(texts))
    return 1 < turn <= len(texts) // 2 and all(text == texts[k % turn] for k, text in enumerate(texts))


def natural(label: str) -> tuple[int, tuple[float, ...], str]:
    """Sorts numbers by their value and before texts, what is missing first."""
    if not label:
        return 0, (), ""
    try:
        return 1, tuple(float(part) for part in label.removeprefix("no. ").split("\\")), ""
    except ValueError:
        return 2, (), label


def rank_key(value: str | tuple[float, ...]) -> tuple[float, ...] | None:
    """What sorts values: numbers, or the digits of a date and time (PS3.5 section 6.2); else None."""
    if isinstance(value, tuple):
        return value
    match = re.match(r"(\d+)(?:\.(\d*))?", value)
    return (float(match[1]), float(f"0.{match[2] or 0}")) if match else None
