"""MONAI bundles: found, read, wired once; and what their configurations call."""
