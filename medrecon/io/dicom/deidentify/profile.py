"""What stays of a header. Texts go by their value representation, unless they are on a list: what no table
foresaw is no leak.

Stricter than the basic profile (PS3.15 table E.1-1), which names what must go and keeps all other texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

from medrecon.errors import UsageError

KEEPABLE = {
    "dates": "dates, each moved back by the same number of days for a patient (113107)",
    "device": "which device made it (113109)",
    "patient": "sex, age, size and weight (113108)",
}
"""The options of the profile, and their codes in CID 7050."""


def _tags(text: str) -> frozenset[int]:
    return frozenset(tag for keyword in text.split() if (tag := tag_for_keyword(keyword)) is not None)


TEXT_VRS = frozenset(["AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
DATE_VRS = frozenset(("DA", "DT", "TM"))
TEXTS = _tags(
    "Manufacturer ConvolutionKernel SequenceName FilterType ReconstructionMethod AttenuationCorrectionMethod "
    "RandomsCorrectionMethod ScatterCorrectionMethod ReceiveCoilName TransmitCoilName ImagedNucleus "
    "ResonantNucleus RescaleType CodeValue CodingSchemeDesignator CodingSchemeVersion CodeMeaning LUTLabel "
    "LUTExplanation WindowCenterWidthExplanation Radiopharmaceutical DerivationDescription "
    "ContributionDescription ModalityLUTType PulseSequenceName ContentLabel ContentDescription"
)
"""Texts that say how an image was made; they stay where they hold no name or ID of this patient."""

DEVICE = _tags(
    "ManufacturerModelName SoftwareVersions StationName DeviceSerialNumber GantryID DetectorID DeviceLabel "
    "DeviceDescription"
)
PATIENT = _tags(
    "PatientSex PatientAge PatientSize PatientWeight PatientBodyMassIndex PatientSexNeutered PregnancyStatus "
    "SmokingStatus MeasuredAPDimension MeasuredLateralDimension"
)
EMPTIED = _tags(
    "PatientBirthDate PatientSex ReferringPhysicianName AccessionNumber StudyID StudyDate StudyTime "
    "ContentDate ContentTime AcquisitionDate AcquisitionTime SeriesDate SeriesTime Manufacturer "
    "PositionReferenceIndicator"
)
"""What may not be missing (type 2), or is commonly asked for: empty where it does not stay."""

GONE = _tags(
    "ModifyingDeviceID "
    "IconImageSequence RequestAttributesSequence OriginalAttributesSequence EncapsulatedDocument "
    "ReferencedPatientSequence OtherPatientIDsSequence PersonIdentificationCodeSequence "
    "ConceptNameCodeSequence CurrentPatientLocation DigitalSignaturesSequence MACParametersSequence "
    "DataSetTrailingPadding "
    "ActualHumanPerformersSequence OperatorIdentificationSequence ContentSequence PatientIdentityRemoved "
    "PersonTelephoneNumbers PatientSpeciesCodeSequence BarcodeValue DeidentificationMethod "
    "DeidentificationMethodCodeSequence LongitudinalTemporalInformationModified "
    "ReferencedPerformedProcedureStepSequence PatientReligiousPreference EthnicGroup MilitaryRank "
    "InstitutionCodeSequence AdmittingDiagnosesCodeSequence InstitutionalDepartmentTypeCodeSequence "
    "MedicalAlerts UDISequence IssuerOfPatientIDQualifiersSequence DeviceSequence"
)
GONE_GROUPS = frozenset(
    (0x0012, 0x0016, 0x0032, 0x0038, 0x0074, 0x0088, 0x0400, 0x4000, 0x4008, 0x4010, 0xFFFC)
)
BINARY = _tags(
    "PixelData FloatPixelData DoubleFloatPixelData LUTData RedPaletteColorLookupTableData "
    "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData RealWorldValueLUTData "
    "SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue"
)
"""Bytes that stay; other values of VR OB, OW, OF, OD, OL, OV and UN do not."""

SAFE_PRIVATE = frozenset(
    (
        ("GEMS_PARM_01", 0x0043, 0x39),  # b value
        ("SIEMENS MR HEADER", 0x0019, 0x0C),  # b value
        ("SIEMENS MR HEADER", 0x0019, 0x0E),  # gradient direction
        ("Philips Imaging DD 001", 0x2001, 0x03),  # b value
        ("Philips PET Private Group", 0x7053, 0x00),  # factor to SUV
        ("Philips PET Private Group", 0x7053, 0x09),  # factor to activity
    )
)
"""Private attributes that are known to hold numbers alone (PS3.15 table E.3.10-1)."""


@dataclass(frozen=True)
class Profile:
    """The basic profile with some of its options.

    Attributes:
        keep: names of `KEEPABLE`.
    """

    keep: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str]) -> Profile:
        """The profile that keeps these.

        Raises:
            UsageError: a name is unknown.
        """
        unknown = [name for name in names if name not in KEEPABLE]
        if unknown:
            raise UsageError(
                f"'{unknown[0]}' is nothing that can be kept", remedy=f"there are {', '.join(KEEPABLE)}"
            )
        return cls(tuple(name for name in KEEPABLE if name in names))

    @property
    def codes(self) -> list[tuple[str, str]]:
        """Its codes and their meanings (PS3.16 CID 7050)."""
        options = {
            "dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
            "device": ("113109", "Retain Device Identity Option"),
            "patient": ("113108", "Retain Patient Characteristics Option"),
        }
        basic = ("113100", "Basic Application Confidentiality Profile")
        return [basic, *(options[name] for name in self.keep), ("113111", "Retain Safe Private Option")]
