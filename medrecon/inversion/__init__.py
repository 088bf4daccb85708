"""Networks that turn features back into an image: `forward(features, shape)`."""

from medrecon.inversion.fusion import FusionDecoder
from medrecon.inversion.plain import PlainDecoder
from medrecon.inversion.pyramid import PyramidDecoder
from medrecon.inversion.single import SingleLayerDecoder
from medrecon.inversion.transposed import TransposedDecoder

__all__ = ["FusionDecoder", "PlainDecoder", "PyramidDecoder", "SingleLayerDecoder", "TransposedDecoder"]
