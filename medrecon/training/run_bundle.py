"""A training run leaves a bundle behind: its folder is one, ready for `medrecon reconstruct --bundle RUN`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import yaml
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver
from torch import nn

from medrecon.errors import ModelError, OutputError
from medrecon.io.files.atomic import replacing, write_whole
from medrecon.reconstructor import INPUT, parse_layers
from medrecon.training.checkpoints import undistributed
from medrecon.training.provenance import Provenance

CONFIGS = ("inference.yaml", "evaluate.yaml")
"""What of the source bundle is kept, as far as it has them; metadata.json besides."""

_PIECES = "inference.json"
"""What other programs take pieces of: it reads the network from metadata.json."""

_OWN = {
    *("bundle_root", "dataset_dir", "output_dir", "device", "weights", "layers", "overwrite", "seed"),
    *("imports", "network", "initialize", "run", "finalize"),
}
"""Ids that mean something else where a network is used than where it is trained."""

_WEIGHTS = "$str(@bundle_root) + '/models/model.pt'"
_META = ConfigParser.meta_key


def keep_bundle(
    trainer: Engine,
    network: nn.Module,
    folder: str | Path,
    bundle_root: str | Path,
    configuration: ConfigParser | None,
    provenance: Provenance | None = None,
    weights: Mapping[str, str | Path] | None = None,
) -> None:
    """Have a trainer turn its output folder into a bundle when training completes; a line of `initialize`.

    FOLDER/configs then holds metadata.json, inference.yaml and evaluate.yaml of the source bundle, with the
    network as it is trained here (overrides and overlays included) and every fact that it refers to, and
    FOLDER/models/model.pt is the `model.pt` that `SaveWhole` writes: call this after `keep_checkpoints`.

    Args:
        trainer: whose end is waited for.
        network: a `Reconstructor`; says which of its layers need no training, and holds the encoder.
        folder: the run's folder.
        bundle_root: the bundle that is trained.
        configuration: what is trained, with all that overrides it; None: the folder becomes no bundle.
        provenance: what is written to FOLDER/docs/provenance.json, with the configuration as it ran.
        weights: name in FOLDER/models -> the file that becomes it; by default the `model.pt` of this run.

    Raises:
        ModelError: a fact cannot be written down.
    """
    if configuration is None:
        return
    files = _described(configuration, network, Path(folder), Path(bundle_root))
    if provenance is None:
        trainer.add_event_handler(Events.COMPLETED, lambda _: _write(Path(folder), files, weights=weights))
        return
    files["metadata.json"]["data_source"] = provenance.summary()
    files["metadata.json"]["eval_metrics"] = {"note": "docs/provenance.json gives those of the validations"}
    told = {key: value for key, value in configuration.get().items() if value is not configuration}
    recipe = json.loads(json.dumps(told, default=str))
    trainer.add_event_handler(
        Events.COMPLETED, lambda _: _write(Path(folder), files, provenance.described(recipe), weights)
    )


def write_bundle(
    parser: ConfigParser, network: nn.Module, folder: str | Path, bundle_root: str | Path
) -> None:
    """The same at once, from outside a configuration, for a run that has its `model.pt`.

    Args:
        parser: of the training, parsed.
        network: see `keep_bundle`.
        folder: the run's folder.
        bundle_root: the bundle that was trained.

    Raises:
        ModelError: a fact cannot be written down.
        OutputError: the files cannot be written.
    """
    _write(Path(folder), _described(parser, network, Path(folder), Path(bundle_root)))


def _described(
    parser: ConfigParser, network: nn.Module, folder: Path, root: Path
) -> dict[str, dict[str, Any]]:
    plain: Any = undistributed(network)
    files = run_configs(parser, root, folder.absolute().name, plain.inversion.lossless)
    format_ = files["metadata.json"].get("network_data_format", {})
    for image in (format_.get("inputs", {}).get("image", {}), format_.get("outputs", {}).get("pred", {})):
        if len(image.get("spatial_shape", ())) != plain.encoder.spatial_dims:  # of any network's
            image["spatial_shape"] = ["*"] * plain.encoder.spatial_dims
    return files


def run_configs(
    parser: ConfigParser, root: Path, run: str, complete: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """The configurations of the bundle that a run becomes: file name -> content.

    Args:
        parser: of the training, with all that overrides it, parsed.
        root: the bundle that is trained.
        run: name of the run's folder, becomes part of the bundle's name.
        complete: layers that give the image back without training.

    Raises:
        ModelError: a fact that the network is built from is no plain value.
    """
    config: dict[str, Any] = parser.get()
    needed = _needed(config, "network_def") - {*_OWN, _META}
    facts = {key: _fact(parser, key) for key in sorted(needed)}
    meta = _plain(config[_META], "metadata.json")
    meta["name"] = f"{meta.get('name', root.name)}_{run}"
    if meta.get("network_def") and _META not in _references(facts["network_def"]):
        del meta["network_def"]  # another network was named: what it said is no longer true
    trained = list(config.get("training_results") or [])
    imports = config.get("imports", []) if "$" in json.dumps(facts) else []
    files: dict[str, dict[str, Any]] = {}
    for name in CONFIGS:
        source = root / "configs" / name
        if not source.is_file():
            continue
        content = ConfigParser.load_config_file(source)
        before = content.get("imports", [])
        content["imports"] = [*before, *(line for line in imports if line not in before)]
        shared = {key for key in content if key in config} - needed - {*_OWN, _META}
        # what both spell alike means the same in both, unless it is made from an id that does not
        shared = {key for key in shared if config[key] != content[key] or _OWN & _needed(config, key)}
        content = {**content, **facts, **{key: _fact(parser, key) for key in shared}, "weights": _WEIGHTS}
        if trained and isinstance(content.get("layers"), list):
            content["layers"] = usable_results(content["layers"], trained, complete)
        files[name] = content
    pieces = root / "configs" / _PIECES
    if pieces.is_file() and meta.get("network_def") and _references(meta["network_def"]) <= {_META}:
        content = ConfigParser.load_config_file(pieces)
        if trained:
            content["layers"] = usable_results(content["layers"], trained, complete)
        files[_PIECES] = content
    files["metadata.json"] = meta  # last: a folder without it is no bundle yet
    return files


def usable_results(
    offered: Sequence[str], trained: Sequence[str], complete: Collection[str] = ()
) -> list[str]:
    """Of the results that a bundle offers those whose layers were all trained; if none is left, what was.

    Args:
        offered: such as ["input", "level1", "level3+level4"].
        trained: the results of the training.
        complete: layers that need no training.
    """
    known = {name for result in trained for name in parse_layers(result)}
    kept = [result for result in offered if known.union(complete, {INPUT}).issuperset(parse_layers(result))]
    if any(known.intersection(parse_layers(result)) for result in kept):
        return kept
    alone = [result for result in trained if len(parse_layers(result)) == 1]
    return [*kept, *(alone or trained)]


def _needed(config: Mapping[str, Any], key: str, found: set[str] | None = None) -> set[str]:
    """The ids at the top of a configuration that one of them is made from, itself included."""
    found = set() if found is None else found
    if key not in found and key in config:
        found.add(key)
        for other in _references(config[key]):
            _needed(config, other, found)
    return found


def _references(value: Any) -> set[str]:
    """The top-level ids that a value refers to."""
    return {
        ReferenceResolver.split_id(name)[0]
        for text in texts_of(value)
        for name in ReferenceResolver.match_refs_pattern(text)
    }


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a configuration's value, keys apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from texts_of(item)


def _fact(parser: ConfigParser, key: str) -> Any:
    """What is written for an id: the outcome of an expression that gives a plain value, else its text."""
    raw = parser[key]
    if isinstance(raw, str) and raw.startswith("$"):
        value = parser.get_parsed_content(key)
        raw = value if _is_plain(value) else raw
    if isinstance(raw, str) and Path(raw).suffix and Path(raw).is_file():
        raw = Path(raw)
    return _plain(raw, key)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool, Path))


def _plain(value: Any, key: str) -> Any:
    """The same as JSON types; paths as absolute text, so that they hold from any directory."""
    if not _is_plain(value):
        raise ModelError(
            f"'{key}' holds a {type(value).__name__}, which no configuration can", remedy="name plain values"
        )
    if isinstance(value, Mapping):
        return {k: _plain(v, key) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, key) for v in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _write(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    origin: Mapping[str, Any] | None = None,
    weights: Mapping[str, str | Path] | None = None,
) -> None:
    """Each file whole or not at all, metadata.json last."""
    if idist.get_rank() > 0:
        return
    try:
        if origin is not None:
            write_whole(folder / "docs" / "provenance.json", json.dumps(origin, indent=2) + "\n")
        for name, source in (weights or {"model.pt": folder / "model.pt"}).items():
            with replacing(folder / "models" / name) as part:
                shutil.copyfile(source, part)
        for name, content in files.items():
            write_whole(folder / "configs" / name, _text(name, content))
    except OutputError as error:
        raise OutputError(
            f"the run cannot be made a bundle: {error.message}",
            path=folder,
            remedy="free space there, then repeat with --resume true",
        ) from error


def _text(name: str, content: Mapping[str, Any]) -> str:
    if name.endswith(".json"):
        return json.dumps(content, indent=2) + "\n"
    head = f"# {name} of the bundle that was trained, for the network as it was trained in this run.\n"
    return head + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=110)
