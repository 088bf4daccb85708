"""The last transform of an evaluation: each result of a scan, and the controls, against the source."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medrecon.errors import UsageError
from medrecon.evaluation.controls import dct_code
from medrecon.evaluation.fidelity import fidelity
from medrecon.evaluation.table import FidelityTable
from medrecon.intensity_range import HU_WINDOW


class ScoreReconstructiond(MapTransform):
    """Compare the channels of a prediction with the source, beside controls that need no network.

    Where the source holds integers, results are rounded before they are compared, as they are when written.

    Args:
        keys: the prediction: a MetaTensor (R, X, Y, Z) in the source's units on the source's grid; channel r
            is `results[r]`.
        table: gets a row for each result and each control.
        results: names of the results, such as "level3", "level2+level4", "input".
        source: key of the source as it was read, (1, X, Y, Z) in stored units.
        rates: result -> values that it keeps for each voxel.
        controls: name -> arguments of `dct_code`, the linear control; it gets what a network gets.
        labels: scan key (in the metadata as `scan_key`) -> what the table calls the scan; else the key.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        table: FidelityTable,
        results: Sequence[str],
        source: str = "source",
        rates: Mapping[str, float | None] | None = None,
        controls: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.table, self.results, self.source = table, list(results), source
        self.rates, self.controls = dict(rates or {}), dict(controls or {})
        self.labels = dict(labels or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Measure the prediction in `data` and add its rows to the table; `data["fidelity"]` holds them.

        Raises:
            UsageError: the prediction has another number of channels than there are results.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            if len(image) != len(self.results):
                raise UsageError(
                    f"{len(image)} channels for {len(self.results)} results", remedy="name each result"
                )
            source = item[self.source][0].detach().cpu().numpy()
            meta = image.meta
            rows = [
                self._row(source, image[channel].detach().cpu().numpy(), meta, name, self.rates.get(name))
                for channel, name in enumerate(self.results)
            ]
            units = str(meta.get("units", ""))
            seen = np.maximum(source, HU_WINDOW[0]) if units == "HU" else source
            for name, arguments in self.controls.items():
                rate = float(arguments.get("values_per_voxel", 1 / 16))
                rows.append(self._row(source, dct_code(seen, **arguments), meta, name, rate))
            self.table.add(rows)
            item["fidelity"] = rows
        return item

    def _row(
        self, source: np.ndarray, recon: np.ndarray, meta: Mapping[str, Any], result: str, rate: float | None
    ) -> dict[str, Any]:
        if source.dtype.kind in "iu":
            recon = np.rint(recon)
        spacing = np.linalg.norm(np.asarray(meta["affine"], dtype=np.float64)[:3, :3], axis=0)
        units = str(meta.get("units", ""))
        figures = fidelity(source, recon, units=units, spacing=spacing.tolist()).to_dict()
        low, high = figures.pop("data_range")
        key = str(meta.get("scan_key", ""))
        return {
            "scan": self.labels.get(key, key),
            "modality": str(meta.get("modality", "")),
            "result": result,
            "values_per_voxel": rate,
            **figures,
            "low": low,
            "high": high,
        }
