"""Where a run's weights come from: data and licences, recipe, time, figures, written beside them."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import monai
import torch
from ignite.engine import Engine, Events

from medrecon import __version__
from medrecon.io import Scan
from medrecon.io.files.names import scan_label

UNKNOWN = "unknown: ask whoever gave you the scan"
_PLACES = ("_meta_", "imports", "configuration", "bundle_root", "dataset_dir", "output_dir", "resume")
"""What of a configuration is no part of a recipe, or may name a person in a path."""

_FILES = ("perceptual_weights", "encoder_weights")
"""What of it names a file: the recipe keeps the file's name without its folder."""

_PATTERNS = ("held_out", "validation_scans", "licences")
"""What of it holds patterns of file names, which may name a person too: the recipe keeps their number."""

_log = logging.getLogger("medrecon")


class Provenance:
    """What happened in a training, kept in its checkpoints: how long it took, and what validations gave.

    Args:
        scans: data items of the scans that it trains on.
        validation_scans: of those that it is judged on.
        phantom_share: share of the samples that are generated.
        licences: pattern (`*` and `?`) of file or series-folder names -> licence.
    """

    def __init__(
        self,
        scans: Sequence[Mapping[str, Any]],
        validation_scans: Sequence[Mapping[str, Any]] = (),
        phantom_share: float = 0.0,
        licences: Mapping[str, str] | None = None,
    ) -> None:
        self.scans = [item["image"] for item in scans]
        self.validation_scans = [item["image"] for item in validation_scans]
        self.phantom_share = float(phantom_share)
        self.licences = dict(licences or {})
        self._seconds = 0.0
        self._since: float | None = None
        self._figures: list[dict[str, float]] = []
        self._trained = 0

    def attach(self, trainer: Engine, evaluator: Engine) -> None:
        """Listen to a training and to its validations."""
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.add_event_handler(Events.COMPLETED, self._end)
        evaluator.add_event_handler(Events.COMPLETED, self._note)

    def _start(self, engine: Engine) -> None:
        self._since = time.perf_counter()
        without = [scan for scan in self.scans if self.licence(scan) == UNKNOWN]
        if without:
            _log.warning(
                "the licence of %d scan(s) is unknown, such as %s: name it by licences, it is written "
                "beside the weights",
                len(without),
                scan_label(without[0]),
            )

    def _note(self, engine: Engine) -> None:
        figures = {name: round(float(value), 4) for name, value in engine.state.metrics.items()}
        self._figures.append({"epoch": engine.state.epoch, **figures})

    def _end(self, engine: Engine) -> None:
        self._trained = engine.state.iteration

    def licence(self, scan: Scan) -> str:
        """The licence of a scan, as far as it was said."""
        for pattern, licence in self.licences.items():
            if fnmatch(scan.path.name, pattern):
                return licence
        return UNKNOWN

    @property
    def seconds(self) -> float:
        """Wall time of the training, the parts before a resume included as far as checkpoints know them."""
        return self._seconds + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"seconds": self.seconds, "figures": [dict(figure) for figure in self._figures]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._seconds = float(state["seconds"])
        self._figures = [dict(figure) for figure in state["figures"]]

    def summary(self) -> str:
        """One line: what the data are."""
        if self.phantom_share >= 1:
            return "generated volumes alone; see docs/provenance.json"
        share = f", {self.phantom_share:.0%} of the samples generated" if self.phantom_share else ""
        return f"{len(self.scans)} scan(s){share}; see docs/provenance.json"

    def described(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """All of it, as JSON types.

        Args:
            recipe: the training's configuration as it ran, overrides and overlays included.
        """
        return {
            "data": {
                "scans": [self._described(scan) for scan in self.scans],
                "validation_scans": [self._described(scan) for scan in self.validation_scans],
                "generated_share": self.phantom_share,
            },
            "time": {
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "wall_seconds": round(self.seconds, 1),
                "steps": self._trained,
            },
            "figures": self._figures,
            "machine": {
                "processes": idist.get_world_size(),
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
            },
            "software": {"medrecon": __version__, "monai": monai.__version__, "torch": torch.__version__},
            "recipe": _without_names(recipe),
        }

    def _described(self, scan: Scan) -> dict[str, Any]:
        return {
            "name": scan_label(scan),
            "key": scan.key,
            "modality": scan.modality or "not said",
            "shape": [int(n) for n in scan.shape],
            "spacing_mm": [round(mm, 3) for mm in scan.spacing],
            "licence": self.licence(scan),
        }


def _without_names(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as it is handed on: no path, and of patterns of file names their number alone."""
    told = {key: value for key, value in recipe.items() if key not in _PLACES}
    patterns = {pattern for key in _PATTERNS for pattern in _texts(told.get(key))}
    told |= {key: f"{len(told[key] or ())} pattern(s)" for key in _PATTERNS if key in told}
    told |= {key: Path(told[key]).name for key in _FILES if told.get(key) is not None}
    if isinstance(told.get("encoder"), Mapping):  # of any network: a name, or a folder
        told["encoder"] = {**told["encoder"], "what": Path(str(told["encoder"].get("what", ""))).name}
    return {key: _hidden(value, patterns) for key, value in told.items()}


def _texts(value: Any) -> list[str]:
    """The texts of a list and the keys of a mapping."""
    return [str(item) for item in value] if isinstance(value, (Mapping, Sequence)) else []


def _hidden(value: Any, patterns: set[str]) -> Any:
    """The value without texts that are one of the patterns, wherever they stand."""
    if isinstance(value, Mapping):
        return {_hidden(key, patterns): _hidden(item, patterns) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(item, patterns) for item in value]
    return "(a pattern)" if isinstance(value, str) and value in patterns else value
