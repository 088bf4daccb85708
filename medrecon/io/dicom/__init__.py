"""DICOM: series found and checked from headers, voxels decoded, derived series written."""
