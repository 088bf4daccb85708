"""Invertible maps between a scanner's units and the [0, 1] that networks see."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
