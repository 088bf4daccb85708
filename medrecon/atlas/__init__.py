"""What each layer of a network kept of a scan, measured and shown.

`AtlasNetwork` runs a bundle, `measure` makes a scan's scores and maps of it, `write_atlas` writes them; many
scans go through `write_summary`, two runs through `compare_atlases`. They are imported when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
