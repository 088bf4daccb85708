"""Any network as an encoder: run on shapes, its layers found, its files read, its preprocessing honoured."""
