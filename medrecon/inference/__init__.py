"""One scan through a network: read, cut into tiles in bounded memory, reconstructed, written."""
