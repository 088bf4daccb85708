"""The attributes a derived series keeps from its source: an allow-list, by module of DICOM PS3.3.

Anything else (private groups, overlays, icons, signatures, references to procedure steps, retired attributes)
is left behind. Attributes that are written anew for each derived image are not listed.
"""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword

_MODULES = {
    "patient": """
        PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
        SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence PatientBirthDate
        PatientBirthTime PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
        PatientAlternativeCalendar PatientSex QualityControlSubject StrainDescription StrainNomenclature
        StrainStockSequence StrainAdditionalInformation StrainCodeSequence GeneticModificationsSequence
        OtherPatientNames OtherPatientIDsSequence EthnicGroupCodeSequence PatientSpeciesDescription
        PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence
        BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization
        PatientComments PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    """,
    "clinical-trial-subject": """
        ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName
        IssuerOfClinicalTrialProtocolID OtherClinicalTrialProtocolIDsSequence ClinicalTrialSiteID
        ClinicalTrialSiteName IssuerOfClinicalTrialSiteID ClinicalTrialSubjectID
        IssuerOfClinicalTrialSubjectID ClinicalTrialSubjectReadingID IssuerOfClinicalTrialSubjectReadingID
        ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    """,
    "general-study": """
        StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
        ReferringPhysicianIdentificationSequence ConsultingPhysicianName
        ConsultingPhysicianIdentificationSequence StudyDescription ProcedureCodeSequence PhysiciansOfRecord
        PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
        PhysiciansReadingStudyIdentificationSequence StudyInstanceUID StudyID RequestingService
        RequestingServiceCodeSequence ReasonForPerformedProcedureCodeSequence
    """,
    "patient-study": """
        AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize
        PatientSizeCodeSequence PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension
        PatientWeight MedicalAlerts Allergies Occupation SmokingStatus AdditionalPatientHistory
        PregnancyStatus LastMenstrualDate PatientSexNeutered ReasonForVisit ReasonForVisitCodeSequence
        AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID ServiceEpisodeDescription
        IssuerOfServiceEpisodeIDSequence PatientState
    """,
    "clinical-trial-study": """
        ClinicalTrialTimePointID ClinicalTrialTimePointDescription LongitudinalTemporalOffsetFromEvent
        LongitudinalTemporalEventType ClinicalTrialTimePointTypeCodeSequence
        IssuerOfClinicalTrialTimePointID ConsentForClinicalTrialUseSequence
    """,
    "general-series": """
        Modality PerformingPhysicianName PerformingPhysicianIdentificationSequence OperatorsName
        OperatorIdentificationSequence AnatomicalOrientationType BodyPartExamined ProtocolName
        PatientPosition Laterality TreatmentSessionUID
    """,
    "clinical-trial-series": """
        ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription
        IssuerOfClinicalTrialSeriesID
    """,
    "frame-of-reference": """
        FrameOfReferenceUID PositionReferenceIndicator
    """,
    "synchronization": """
        TriggerSourceOrType SynchronizationTrigger SynchronizationChannel AcquisitionTimeSynchronized
        TimeSource TimeDistributionProtocol NTPSourceAddress SynchronizationFrameOfReferenceUID
    """,
    "general-equipment": """
        Manufacturer InstitutionName InstitutionAddress StationName InstitutionalDepartmentName
        InstitutionalDepartmentTypeCodeSequence ManufacturerModelName DeviceSerialNumber DeviceUID GantryID
        UDISequence ManufacturerDeviceClassUID SoftwareVersions SpatialResolution DateOfLastCalibration
        TimeOfLastCalibration DateOfManufacture DateOfInstallation
    """,
    "general-acquisition": """
        AcquisitionUID AcquisitionDate AcquisitionDateTime AcquisitionTime IrradiationEventUID
        AcquisitionDuration AcquisitionNumber ImagesInAcquisition
    """,
    "general-image": """
        AnatomicRegionSequence PrimaryAnatomicStructureSequence PatientOrientation ImageLaterality
        ImageComments QualityControlImage BurnedInAnnotation RecognizableVisualFeatures
    """,
    "enhanced-patient-orientation": """
        PatientOrientationCodeSequence PatientEquipmentRelationshipCodeSequence
    """,
    "image-plane": """
        SliceThickness SpacingBetweenSlices ImagePositionPatient ImageOrientationPatient SliceLocation
        PixelSpacing
    """,
    "image-pixel": """
        PixelAspectRatio
    """,
    "contrast-bolus": """
        ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusAdministrationRouteSequence
        ContrastBolusRoute ContrastBolusVolume ContrastBolusStartTime ContrastBolusStopTime
        ContrastBolusTotalDose ContrastFlowRate ContrastFlowDuration ContrastBolusIngredient
        ContrastBolusIngredientConcentration
    """,
    "device": """
        DeviceSequence
    """,
    "specimen": """
        ContainerIdentifier IssuerOfTheContainerIdentifierSequence AlternateContainerIdentifierSequence
        ContainerTypeCodeSequence ContainerDescription ContainerComponentSequence
        SpecimenDescriptionSequence
    """,
    "ct-image": """
        ScanOptions KVP DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector
        DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime
        XRayTubeCurrent Exposure ExposureInuAs ImageAndFluoroscopyAreaDoseProduct FilterType GeneratorPower
        FocalSpots ConvolutionKernel WaterEquivalentDiameter
        WaterEquivalentDiameterCalculationMethodCodeSequence FilterMaterial RevolutionTime
        SingleCollimationWidth TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor
        DataCollectionCenterPatient ReconstructionTargetCenterPatient ExposureModulationType CTDIvol
        CTDIPhantomTypeCodeSequence CalciumScoringMassFactorPatient CalciumScoringMassFactorDevice
        EnergyWeightingFactor CTAdditionalXRaySourceSequence MultienergyCTAcquisition ViewCodeSequence
        SliceProgressionDirection ScanStartPositionSequence ScanStopPositionSequence ScanArcType
        DetectorPositioningType IsocenterPosition EquipmentFrameOfReferenceUID
        PatientTreatmentPreparationSequence PatientToEquipmentRelationshipSequence
        ImagingEquipmentToTreatmentDeliveryDeviceRelationshipSequence
    """,
    "multi-energy-ct-image": """
        MultienergyCTAcquisitionSequence MultienergyCTProcessingSequence
        MultienergyCTCharacteristicsSequence
    """,
    "voi-lut": """
        WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    """,
    "sop-common": """
        SpecificCharacterSet CodingSchemeIdentificationSequence ContextGroupIdentificationSequence
        MappingResourceIdentificationSequence TimezoneOffsetFromUTC ContentQualification
        LongitudinalTemporalInformationModified BarcodeValue
    """,
    "mr-image": """
        ScanningSequence SequenceVariant MRAcquisitionType SequenceName AngioFlag RepetitionTime EchoTime
        InversionTime NumberOfAverages ImagingFrequency ImagedNucleus EchoNumbers MagneticFieldStrength
        NumberOfPhaseEncodingSteps EchoTrainLength PercentSampling PercentPhaseFieldOfView PixelBandwidth
        TriggerTime NominalInterval BeatRejectionFlag LowRRValue HighRRValue IntervalsAcquired
        IntervalsRejected PVCRejection SkipBeats HeartRate CardiacNumberOfImages TriggerWindow
        ReceiveCoilName TransmitCoilName AcquisitionMatrix InPlanePhaseEncodingDirection FlipAngle
        VariableFlipAngleFlag SAR dBdt B1rms TemporalPositionIdentifier NumberOfTemporalPositions
        TemporalResolution
    """,
    "pet-series": """
        AcquisitionTerminationCondition AcquisitionStartCondition AcquisitionStartConditionData
        AcquisitionTerminationConditionData GantryDetectorSlew FieldOfViewShape FieldOfViewDimensions
        CollimatorGridName CollimatorType CorrectedImage EnergyWindowRangeSequence NumberOfRRIntervals
        NumberOfTimeSlots NumberOfSlices NumberOfTimeSlices TypeOfDetectorMotion ScanProgressionDirection
        SeriesType Units CountsSource ReprojectionMethod SUVType RandomsCorrectionMethod
        AttenuationCorrectionMethod DecayCorrection ReconstructionMethod DetectorLinesOfResponseUsed
        ScatterCorrectionMethod AxialAcceptance AxialMash TransverseMash DetectorElementSize
        CoincidenceWindowWidth SecondaryCountsType
    """,
    "pet-isotope": """
        InterventionDrugInformationSequence RadiopharmaceuticalInformationSequence
    """,
    "pet-multi-gated-acquisition": """
        CardiacFramingType
    """,
    "nm-pet-patient-orientation": """
        PatientGantryRelationshipCodeSequence
    """,
    "pet-image": """
        FrameTime ActualFrameDuration FrameReferenceTime PrimaryPromptsCountsAccumulated
        SecondaryCountsAccumulated SliceSensitivityFactor DecayFactor DoseCalibrationFactor
        ScatterFractionFactor DeadTimeFactor ImageIndex
    """,
    "acquisition-context": """
        AcquisitionContextSequence AcquisitionContextDescription
    """,
}

KEPT: frozenset[int] = frozenset(
    tag for words in _MODULES.values() for tag in map(tag_for_keyword, words.split()) if tag is not None
)
"""Tags of the top level that are copied unchanged."""
