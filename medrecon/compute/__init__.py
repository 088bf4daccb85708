"""What the work runs on: devices and clusters."""
