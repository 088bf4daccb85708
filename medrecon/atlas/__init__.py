"""What each layer of a network kept of a scan, measured and shown."""
