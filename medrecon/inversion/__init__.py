"""Networks that turn features back into an image: `forward(features, shape)`."""

from medrecon.inversion.adaptive import AdaptiveDecoder
from medrecon.inversion.closed_form import LinearDecoder
from medrecon.inversion.fusion import FusionDecoder
from medrecon.inversion.generative import ResidualFlow
from medrecon.inversion.hierarchical import HierarchicalDecoder
from medrecon.inversion.optimise import ImageOptimiser
from medrecon.inversion.plain import PlainDecoder
from medrecon.inversion.single import SingleLayerDecoder
from medrecon.inversion.transposed import TransposedDecoder

__all__ = [
    "AdaptiveDecoder",
    "FusionDecoder",
    "HierarchicalDecoder",
    "ImageOptimiser",
    "LinearDecoder",
    "PlainDecoder",
    "ResidualFlow",
    "SingleLayerDecoder",
    "TransposedDecoder",
]
