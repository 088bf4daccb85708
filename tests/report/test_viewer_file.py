"""The viewer that is shipped is the published one."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import medrecon.report

ASSETS = Path(medrecon.report.__file__).parent / "assets"
PUBLISHED = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
"""SHA-256 of dist/niivue.umd.js in @niivue/niivue 0.69.0 of the npm registry."""


def test_the_viewer_is_the_published_file() -> None:
    (shipped,) = ASSETS.glob("niivue-*.umd.js.gz")
    assert shipped.name == "niivue-0.69.0.umd.js.gz"
    assert hashlib.sha256(gzip.decompress(shipped.read_bytes())).hexdigest() == PUBLISHED
