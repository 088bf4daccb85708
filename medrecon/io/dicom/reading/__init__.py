"""DICOM in: headers checked, slices sorted into volumes, voxels decoded."""
