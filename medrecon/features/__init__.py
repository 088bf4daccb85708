"""Features of a scan as a file, and the scan that a decoder makes of them without the source.

`encode` writes the layers that are named as safetensors (`medrecon.features.file`); `decode`
turns such a file into a volume on the source's grid, in the source's units.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from medrecon.features.decoding import Decoded, FeatureDecoder, decode
    from medrecon.features.encoding import Encoded, FeatureEncoder, encode
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
    "decode",
    "encode",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decoding": ["Decoded", "FeatureDecoder", "decode"],
        "encoding": ["Encoded", "FeatureEncoder", "encode"],
        "file": ["FeatureFile"],
        "metadata": ["FeatureFacts", "LayerFacts"],
    },
)
