"""Features of a scan as a file, and the scan that a decoder makes of them without the source.

`encode_scan` writes the layers that are named as safetensors (`medrecon.io.features`); `decode_features`
turns such a file into a volume on the source's grid, in the source's units.
"""

from medrecon.latents.decode import Decoded, FeatureDecoder, decode_features
from medrecon.latents.encode import Encoded, FeatureEncoder, encode_scan

__all__ = ["Decoded", "Encoded", "FeatureDecoder", "FeatureEncoder", "decode_features", "encode_scan"]
