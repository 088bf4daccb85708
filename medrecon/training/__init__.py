"""Training a bundle: its data, handlers, checkpoints, and the run that becomes a bundle itself."""
