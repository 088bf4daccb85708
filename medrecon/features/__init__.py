"""Features of a scan as a file, and the scan that a decoder makes of them without the source.

`encode_scan` writes the layers that are named as safetensors (`medrecon.features.file`); `decode_features`
turns such a file into a volume on the source's grid, in the source's units.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from medrecon.features.decoding import Decoded, FeatureDecoder, decode_features
    from medrecon.features.encoding import Encoded, FeatureEncoder, encode_scan
    from medrecon.features.file import FeatureFile
    from medrecon.features.metadata import FeatureFacts, LayerFacts

__all__ = [
    "Decoded",
    "Encoded",
    "FeatureDecoder",
    "FeatureEncoder",
    "FeatureFacts",
    "FeatureFile",
    "LayerFacts",
    "decode_features",
    "encode_scan",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decoding": ["Decoded", "FeatureDecoder", "decode_features"],
        "encoding": ["Encoded", "FeatureEncoder", "encode_scan"],
        "file": ["FeatureFile"],
        "metadata": ["FeatureFacts", "LayerFacts"],
    },
)
