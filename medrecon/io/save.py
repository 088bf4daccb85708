"""The last transform of a pipeline: write each result of each scan to its planned place."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medrecon.errors import OutputError
from medrecon.io.derivation import Derivation
from medrecon.io.meta import scan_of
from medrecon.io.read import read_scan
from medrecon.io.scan import Scan
from medrecon.io.writers import write_volume

INPUT = "input"
"""The result that is the source itself, read again: the control beside which every other stands."""


class SaveReconstructiond(MapTransform):
    """Write the channels of a prediction, one output for each result, each whole or not at all.

    Args:
        keys: the prediction: a MetaTensor (R, X, Y, Z) in the source's units on the source's grid, with the
            metadata of `ScanReader`; channel r is `results[r]`.
        targets: (scan key, result) -> path, from `plan_outputs`.
        scans: the sources where they are at hand; others are found again from the metadata.
        results: names of the results. "input" is written from the source itself, whatever the channel holds.
        derivation: result -> how it was made; a result that is missing is written as a copy.
        overwrite: replace outputs that are there.
        synthetic: SyntheticData for DICOM outputs, see `DicomSeriesWriter`.

    Raises:
        OutputError: an output cannot be written. MONAI wraps it: it is the `__cause__` of a RuntimeError.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        targets: Mapping[tuple[str, str], str | Path],
        results: Sequence[str],
        scans: Sequence[Scan] = (),
        derivation: Mapping[str, Derivation] | None = None,
        overwrite: bool = False,
        synthetic: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.targets = {pair: Path(path) for pair, path in targets.items()}
        self.results = list(results)
        self.scans = {scan.key: scan for scan in scans}
        self.derivation = dict(derivation or {})
        self.overwrite, self.synthetic = overwrite, synthetic

    def revise(self, revision: str) -> None:
        """Write under UIDs of their own what was derived before of fewer instances, see `Derivation`."""
        self.derivation = {
            result: replace(each, revision=revision) for result, each in self.derivation.items()
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write what `data` holds; its "outputs" are the paths then, its "written" a `Written` for each."""
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            scan = self.scans.get(str(image.meta["scan_key"])) or scan_of(image.meta)
            if len(image) != len(self.results):
                raise OutputError(
                    f"{len(image)} channels for {len(self.results)} results",
                    path=scan.path,
                    remedy="name each result",
                )
            for channel, result in enumerate(self.results):
                target = self.targets[scan.key, result]
                volume = read_scan(scan) if result == INPUT else image[channel].detach().cpu().numpy()
                written = write_volume(
                    np.asarray(volume),
                    scan,
                    target,
                    number=channel + 1,
                    synthetic=self.synthetic,
                    derivation=self.derivation.get(result),
                    overwrite=self.overwrite,
                    result=result,
                )
                item["outputs"] = [*item.get("outputs", ()), str(target)]
                item["written"] = [*item.get("written", ()), written]
        return item
