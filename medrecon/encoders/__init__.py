"""Networks that turn an image into features: `layers()` says which, `forward(image, names)` computes them.

Names are imported when they are first used: what a folder holds is told without torch (`tapped.folders`).
"""

from typing import TYPE_CHECKING, Any

import lazy_loader

if TYPE_CHECKING:
    from medrecon.blocks.weights import fingerprint, fit_weights, read_weights
    from medrecon.encoders.adaptive import AdaptiveEncoder
    from medrecon.encoders.beside import ScansBeside
    from medrecon.encoders.build import build_encoder
    from medrecon.encoders.cached import CachedEncoder
    from medrecon.encoders.channels import ChannelsEncoder
    from medrecon.encoders.deepbet import DeepbetEncoder
    from medrecon.encoders.frozen import Frozen, FrozenEncoder
    from medrecon.encoders.hierarchical import HierarchicalEncoder
    from medrecon.encoders.medicalnet import MedicalNetEncoder
    from medrecon.encoders.naming import resolve_layers
    from medrecon.encoders.plain import PlainEncoder
    from medrecon.encoders.resnet import ResNetEncoder
    from medrecon.encoders.tapped.tap import TappedEncoder
    from medrecon.encoders.vgg import VGGEncoder

__all__ = [
    "AdaptiveEncoder",
    "CachedEncoder",
    "ChannelsEncoder",
    "DeepbetEncoder",
    "Frozen",
    "FrozenEncoder",
    "HierarchicalEncoder",
    "MedicalNetEncoder",
    "PlainEncoder",
    "ResNetEncoder",
    "ScansBeside",
    "TappedEncoder",
    "VGGEncoder",
    "build_encoder",
    "fingerprint",
    "fit_weights",
    "read_weights",
    "resolve_layers",
]

_lazy, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptive": ["AdaptiveEncoder"],
        "beside": ["ScansBeside"],
        "build": ["build_encoder"],
        "cached": ["CachedEncoder"],
        "channels": ["ChannelsEncoder"],
        "deepbet": ["DeepbetEncoder"],
        "frozen": ["Frozen", "FrozenEncoder"],
        "hierarchical": ["HierarchicalEncoder"],
        "medicalnet": ["MedicalNetEncoder"],
        "naming": ["resolve_layers"],
        "plain": ["PlainEncoder"],
        "resnet": ["ResNetEncoder"],
        "tapped.tap": ["TappedEncoder"],
        "vgg": ["VGGEncoder"],
    },
)


def __getattr__(name: str) -> Any:
    """The name from its file; those of weights live with the building blocks."""
    if name in ("fingerprint", "fit_weights", "read_weights"):
        from medrecon.blocks import weights

        return vars(weights)[name]
    return _lazy(name)
