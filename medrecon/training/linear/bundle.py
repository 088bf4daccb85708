"""The linear inverse of any network's layers as a bundle, fitted when it is first asked for."""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from medrecon import __version__
from medrecon.blocks.weights import fingerprint
from medrecon.bundle.config import ANY_NETWORK, find_bundle
from medrecon.bundle.workflow import encoder_of
from medrecon.compute.devices import pick_device
from medrecon.contract import Encoder, Progress
from medrecon.inversion import LinearDecoder, closed_form, linear, moments
from medrecon.io import Scan
from medrecon.io.files.names import safe_name
from medrecon.reconstructor import Reconstructor, layers_in
from medrecon.training import patches
from medrecon.training.any_network import named_weights, written
from medrecon.training.linear import images
from medrecon.training.linear.cache import cache_folder, filling, is_whole
from medrecon.training.linear.images import typical_images

LOWER_BOUND = (
    "a linear inverse, fitted in closed form: a lower bound of what each layer keeps; a trained decoder "
    "(medrecon train --encoder) finds more"
)
"""What must be said of every figure and image that comes of it."""

_CODE = (linear, moments, closed_form, patches, images)
_TEXTS = (".json", ".yaml", ".yml", ".py")
_MOST_TEXT = 1 << 20


def linear_inverse(
    encoder: str | Path | Mapping[str, Any],
    layers: str | Sequence[str],
    *,
    weights: str | Path | None = None,
    scans: Sequence[Scan] = (),
    check: Callable[[Encoder], None] | None = None,
    built: Encoder | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """A bundle that inverts layers of any network by linear maps; nothing is trained.

    Fitted once, to generated images (and to scans, where given), and kept in the user's cache for the next
    time: for these weights, layers, settings and scans, and this version of the code.

    Example:
        >>> bundle = medrecon.linear_inverse("vgg16", "relu2_2,relu3_3", weights="vgg16.safetensors")
        >>> medrecon.reconstruct("ct.nii.gz", bundle=bundle)

    Args:
        encoder: what `medrecon.encoders.build_encoder` takes: a name, a dotted path or a folder; or all
            of its arguments as a mapping with "what".
        layers: "relu2_2,relu3_3", or a list; a plus joins layers into one result.
        weights: the file of its weights.
        scans: to fit to beside the generated images; not those that are to be judged.
        check: called with the network before anything is fitted; what it raises ends it.
        built: the network, where it was built of all this already.
        device: "auto", "cpu", "cuda" or "cuda:N".
        progress: called with (images done, images in all) in each pass over them.

    Returns:
        The bundle's folder.

    Raises:
        ModelError: the network cannot be built, or a layer cannot be tapped.
        ScanError: a scan cannot be read.
        OutputError: the cache cannot be written.
        UsageError: no layer is named.
    """
    recipe: dict[str, Any] = dict(encoder) if isinstance(encoder, Mapping) else {"what": str(encoder)}
    file = weights or recipe.pop("weights", None)
    recipe.pop("weights", None)
    recipe = written(recipe)
    recipe["layers"] = layers_in(layers.split(",") if isinstance(layers, str) else layers)
    built = encoder_of(recipe, file or "") if built is None else built
    if check is not None:
        check(built)
    return fitted(built, recipe, file, scans, pick_device(device), progress)


def fitted(
    built: Encoder,
    recipe: Mapping[str, Any],
    file: str | Path | None,
    scans: Sequence[Scan],
    place: torch.device,
    progress: Progress | None = None,
) -> Path:
    """The folder of the linear inverse of a network that is built, fitted where the cache has none.

    Args:
        built: the network; moved to `place`.
        recipe: what it was built of: "what" and "layers" at least.
        file: of its weights.
        scans: to fit to beside generated images.
        place: where it is fitted.
        progress: as for `linear_inverse`.

    Raises:
        ScanError: a scan cannot be read.
        OutputError: the cache cannot be written.
    """
    built = built.to(place)
    name = f"{safe_name(Path(str(recipe['what'])).name)}_linear_inverse"
    folder = cache_folder() / _key(built, recipe, scans) / name
    if is_whole(folder):
        return folder
    network = Reconstructor(built, LinearDecoder(built.layers()))
    network.inversion.to(place)
    network.fit(typical_images(built, scans), place, progress)
    with filling(folder) as part:
        (part / "models").mkdir()
        torch.save(network.inversion.state_dict(), part / "models" / "model.pt")
        _write_configs(part / "configs", folder.name, recipe, file, built)
    return folder


def _write_configs(
    folder: Path, name: str, recipe: Mapping[str, Any], weights: str | Path | None, encoder: Encoder
) -> None:
    """The configurations of the bundle for any network, this one filled in."""
    source = find_bundle(ANY_NETWORK) / "configs"
    meta = ConfigParser.load_config_file(source / "metadata.json")
    side = ["*"] * encoder.spatial_dims
    for end in ("inputs#image", "outputs#pred"):
        one, inner = end.split("#")
        meta["network_data_format"][one][inner]["spatial_shape"] = side
    meta |= {
        "name": name,
        "version": __version__,
        "description": f"Layers of {Path(str(recipe['what'])).name}, inverted by linear maps",
        "caveat": LOWER_BOUND,
        "data_source": "Generated volumes (medrecon.phantoms)",
        "eval_metrics": {},
    }
    meta["network_def"]["inversion"] = {
        "_target_": f"{LinearDecoder.__module__}.{LinearDecoder.__name__}",
        "layers": meta["network_def"]["inversion"]["layers"],
    }
    meta["generative_def"] = None
    filled = {
        "encoder": dict(recipe),
        "encoder_weights": named_weights(weights),
        "layers": list(recipe["layers"]),
    }
    folder.mkdir()
    for file in ("inference.yaml", "evaluate.yaml"):
        content = {**ConfigParser.load_config_file(source / file), **filled}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
        (folder / file).write_text(text, encoding="utf-8")
    (folder / "metadata.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _key(encoder: Encoder, recipe: Mapping[str, Any], scans: Sequence[Scan]) -> str:
    """What the fit depends on, as a name: weights, recipe, layers, scans, and the code that fits."""
    folder = Path(str(recipe["what"])).expanduser()
    texts = sorted(path for path in folder.rglob("*") if path.suffix in _TEXTS) if folder.is_dir() else []
    told = {
        "version": __version__,
        "torch": torch.__version__,
        "code": [hashlib.sha256(inspect.getsource(each).encode()).hexdigest() for each in _CODE],
        "weights": fingerprint(encoder),
        "recipe": {name: str(value) for name, value in sorted(recipe.items())},
        "sources": sources_of(encoder),
        "files": [_sum(path) for path in texts if path.is_file() and path.stat().st_size <= _MOST_TEXT],
        "layers": [(info.name, info.channels, info.stride) for info in encoder.layers()],
        "scans": sorted([each.key for each in (scan, *scan.beside)] for scan in scans),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sources_of(encoder: Encoder) -> list[str]:
    """SHA-256 of the code of a network's classes, torch's own apart: the same weights may be used otherwise.

    Code that cannot be read counts as new each time.
    """
    found = set()
    for kind in {type(module) for module in encoder.modules()}:
        if kind.__module__.split(".")[0] == "torch":
            continue
        try:
            found.add(hashlib.sha256(inspect.getsource(kind).encode()).hexdigest())
        except (OSError, TypeError):
            found.add(secrets.token_hex())
    return sorted(found)
