"""NRRD and MetaImage: text headers checked, voxels read."""
