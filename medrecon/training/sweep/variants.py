"""What a sweep turns: names for people, and the configuration ids that they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from medrecon.bundle.config import read_training
from medrecon.errors import ModelError, UsageError, near
from medrecon.io.files.names import safe_name
from medrecon.reconstructor import parse_layers
from medrecon.training.run_bundle import texts_of

IDS: dict[str, tuple[str, ...]] = {
    "width": ("decoder_widths", "_meta_#network_def#inversion#widths"),
    "depth": ("decoder_depth", *(f"_meta_#network_def#inversion#{knob}" for knob in ("depth", "depths"))),
    "names": ("decoder_layers", "_meta_#network_def#inversion#names"),
    "default": ("_meta_#network_def#layers",),
}
"""Knob -> ids of a bundle's configuration that it may turn; the first one that the bundle has is taken."""

PLAIN = "pixel"
"""The recipe that is train.yaml alone."""


@dataclass(frozen=True)
class Variant:
    """One training of a sweep.

    Attributes:
        name: tells it apart, fit for a folder: "width16_depth2".
        knobs: what was turned, as tables show it: {"width": 16, "depth": 2}.
        overrides: configuration id -> value.
        overlays: configuration files merged after train.yaml, in order.
    """

    name: str
    knobs: dict[str, Any]
    overrides: dict[str, Any] = field(default_factory=dict)
    overlays: tuple[str, ...] = ()


def plan_variants(
    root: Path,
    *,
    layer: str,
    widths: Sequence[int] = (),
    depths: Sequence[int] = (),
    recipes: Sequence[str] = (),
    vary: Mapping[str, Sequence[Any]] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> list[Variant]:
    """Every combination of what is to be varied.

    Args:
        root: the bundle.
        layer: the result that all are trained for: "relu3_3", "relu3_3+relu4_3".
        widths: channels of the decoder's first entry of widths; the other entries keep their proportion.
        depths: values of the decoder's depth, or of its first entry of depths, as with widths.
        recipes: "pixel" is train.yaml alone, any other name the overlay configs/NAME.yaml merged after it,
            "a+b" two of them.
        vary: any configuration id -> its values.
        fixed: configuration id -> value, alike for all.

    Raises:
        UsageError: nothing or the same twice to vary, or an id that the bundle does not have.
        ModelError: the bundle has no train.yaml or lacks an overlay.
    """
    config = read_training(root)
    base: dict[str, Any] = {"training_results": {layer: 1}}
    for knob, value in (("names", list(parse_layers(layer))), ("default", layer)):
        name = find_id(config, knob)
        if name is not None:
            base[name] = value
    axes: dict[str, list[tuple[Any, dict[str, Any], tuple[str, ...]]]] = {}
    if recipes:
        axes["recipe"] = [(recipe, {}, overlays_of(root, recipe)) for recipe in recipes]
    files = dict.fromkeys(file for _, _, overlays in axes.get("recipe", []) for file in overlays)
    _check(read_training(root, list(files)), [*base, *(fixed or {}), *(vary or {})], root)
    base.update(fixed or {})
    for knob, values in (("width", widths), ("depth", depths)):
        if values:
            name = find_id(config, knob)
            if name is None:
                raise UsageError(
                    f"the bundle names no {knob} of its decoder: it has none of {', '.join(IDS[knob])}",
                    path=root,
                    remedy="turn an id that it has, with --vary ID=VALUE,VALUE",
                )
            axes[knob] = [(v, {name: scaled(config[name], v)}, ()) for v in values]
    for name, values in (vary or {}).items():
        axes[name.rsplit("#", 1)[-1]] = [(_shown(value), {name: value}, ()) for value in values]
    for name, choices in axes.items():
        shown = [str(choice[0]) for choice in choices]
        if len(set(shown)) < len(shown):
            raise UsageError(f"a value of {name} is repeated", remedy="name each value once")
    if not axes:
        raise UsageError("nothing to vary", remedy="give --widths, --depths, --recipes or --vary")
    return [
        _variant(base, dict(zip(axes, combined, strict=True)))
        for combined in itertools.product(*axes.values())
    ]


def _variant(base: dict[str, Any], chosen: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]]) -> Variant:
    knobs = {name: value for name, (value, _, _) in chosen.items()}
    parts = [safe_name(f"{'' if name == 'recipe' else name}{value}") for name, value in knobs.items()]
    overrides = dict(base)
    for _, changes, _ in chosen.values():
        overrides.update(changes)
    return Variant("_".join(parts), knobs, overrides, sum((o for _, _, o in chosen.values()), ()))


def find_id(config: ConfigParser, knob: str) -> str | None:
    """The configuration id that a knob turns in this bundle; None where it has none."""
    return next((name for name in IDS[knob] if name in config), None)


def scaled(default: Any, first: int) -> Any:
    """`first` where the bundle has one number; a list keeps its proportions and begins with `first`.

    Example:
        >>> scaled([32, 64, 96], 16)
        [16, 32, 48]
    """
    if isinstance(default, Sequence) and not isinstance(default, str):
        return [max(1, round(first * value / default[0])) for value in default]
    return first


def overlays_of(root: Path, recipe: str) -> tuple[str, ...]:
    """The configuration files that a recipe merges after train.yaml.

    Raises:
        ModelError: the bundle has no such overlay.
    """
    names = [name.strip() for name in recipe.split("+")]
    files = tuple(f"{name}.yaml" for name in names if name != PLAIN)
    for file in files:
        if Path(file).name != file or not (root / "configs" / file).is_file():
            raise ModelError(
                f"the bundle has no recipe '{file.removesuffix('.yaml')}'",
                path=root,
                remedy=f"recipes are {PLAIN} and overlays in its configs folder, such as adversarial",
            )
    return files


def parse_assignment(text: str, option: str) -> tuple[str, str]:
    """Split "ID=VALUE".

    Raises:
        UsageError: it is not of that form.
    """
    name, sign, value = text.partition("=")
    if not (name.strip() and sign and value.strip()):
        raise UsageError(f"{option} {text} is not ID=VALUE", remedy=f"such as {option} batch_size=2")
    return name.strip(), value.strip()


def parse_assignments(
    texts: Sequence[str] | None, option: str, parse: Callable[[str], Any]
) -> dict[str, Any]:
    """Several of "ID=VALUE", each read by `parse`.

    Raises:
        UsageError: one is not of that form, or an id is given twice.
    """
    pairs = [parse_assignment(text, option) for text in texts or ()]
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{option} {twice} is given twice", remedy="give it once")
    return {name: parse(value) for name, value in pairs}


class _OnceEach(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if any(keys.count(key) > 1 for key in keys):
            raise yaml.YAMLError("a key is there twice")
        return super().construct_mapping(node, deep)


def parse_value(text: str) -> Any:
    """A value as YAML has it: 2, 0.5, true, [128, 128], resize.

    Raises:
        UsageError: it cannot be read, or is more than a value: an expression, a reference, an object.
    """
    try:
        value = yaml.load(text, _OnceEach)
    except (yaml.YAMLError, RecursionError, TypeError):
        raise UsageError(f"{text!r} is not a value", remedy="write it as in YAML, each key once") from None
    if any(text.strip()[:1] in ("$", "@", "%") for text in texts_of(value)) or _builds(value):
        raise UsageError(f"{text!r} is an expression", remedy="give plain values")
    return value


def _builds(value: Any) -> bool:
    """Whether MONAI would do more with it than keep it: `_target_`, `_mode_` and the like."""
    if isinstance(value, Mapping):
        strange = any(not isinstance(key, str) or key.strip()[:1] in ("_", "$", "@", "%") for key in value)
        return strange or any(map(_builds, value.values()))
    return isinstance(value, list) and any(map(_builds, value))


def parse_values(text: str) -> list[Any]:
    """Several values, divided by commas outside brackets: "resize,shuffle", "[64,64],[128,128]"."""
    value = parse_value(f"[{text}]")
    return list(value)


def _shown(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, list) else value


def _check(config: ConfigParser, names: Sequence[str], root: Path) -> None:
    for name in names:
        if name not in config:
            known = list(config.get())
            raise UsageError(
                f"the bundle's train.yaml has no '{name}'" + near(name, known),
                path=root,
                remedy="name an id that it has",
            )
