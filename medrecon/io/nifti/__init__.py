"""NIfTI: headers checked, voxels read, volumes written."""
