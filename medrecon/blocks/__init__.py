"""What encoders and decoders are built of: transforms, convolutions, rate allocation, tiles, weight files."""
