"""Networks that turn an image into features: `layers()` says which, `forward(image, names)` computes them.

Names are imported when they are first used: what a folder holds is told without torch (`tapped.folders`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
