"""What is varied becomes overrides of ids that the bundle has; all else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medrecon.errors import ModelError, UsageError
from medrecon.training.sweep.variants import (
    parse_assignment,
    parse_assignments,
    parse_value,
    parse_values,
    plan_variants,
    scaled,
)

INVERSION = "_meta_#network_def#inversion"


@pytest.fixture
def slices(repo: Path) -> Path:
    return repo / "bundles" / "slice_transform_code"


def test_every_combination_once(slices: Path) -> None:
    made = plan_variants(slices, layer="level3", widths=[64, 256], depths=[1, 3])
    assert [v.name for v in made] == [
        "width64_depth1",
        "width64_depth3",
        "width256_depth1",
        "width256_depth3",
    ]
    assert made[1].knobs == {"width": 64, "depth": 3}
    assert made[1].overrides == {
        "training_results": {"level3": 1},
        "_meta_#network_def#layers": "level3",
        f"{INVERSION}#widths": [64, 128],
        f"{INVERSION}#depth": 3,
    }
    assert made[1].overlays == ()


def test_a_frozen_encoder_gets_a_decoder_of_that_layer_alone(repo: Path) -> None:
    (made,) = plan_variants(
        repo / "bundles" / "frozen_encoder_inversion", layer="relu3_3+relu4_3", depths=[2]
    )
    assert made.overrides[f"{INVERSION}#names"] == ["relu3_3", "relu4_3"]
    assert made.overrides["_meta_#network_def#layers"] == "relu3_3+relu4_3"


def test_ids_at_the_top_come_first(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "metadata.json").write_text("{}")
    (configs / "train.yaml").write_text(
        "training_results: {a: 1, b: 2}\ndecoder_widths: 8\ndecoder_depth: 1\n"
    )
    (configs / "perceptual.yaml").write_text("a: 1\n")
    (configs / "adversarial.yaml").write_text("a: 1\n")
    recipes = ["pixel", "perceptual", "perceptual+adversarial"]
    made = plan_variants(tmp_path, layer="a", widths=[16], recipes=recipes)
    assert [v.name for v in made] == [f"{recipe}_width16" for recipe in recipes]
    assert [v.overlays for v in made] == [
        (),
        ("perceptual.yaml",),
        ("perceptual.yaml", "adversarial.yaml"),
    ]
    assert made[0].overrides == {"training_results": {"a": 1}, "decoder_widths": 16}


def test_any_id_can_be_varied_or_set(slices: Path) -> None:
    made = plan_variants(
        slices, layer="level4", vary={f"{INVERSION}#depth": [1, 2]}, fixed={"patch_size": [64, 64]}
    )
    assert [v.name for v in made] == ["depth1", "depth2"]
    assert all(v.overrides["patch_size"] == [64, 64] for v in made)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing to vary"),
        ({"widths": [8, 8]}, "a value of width is repeated"),
        ({"widths": [8], "fixed": {"batch_sise": 1}}, "no 'batch_sise': did you mean 'batch_size'"),
        ({"vary": {"network_def#depth": [1]}}, "no 'network_def#depth'"),
    ],
)
def test_what_makes_no_sense_is_refused(slices: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan_variants(slices, layer="level4", **options)


@pytest.mark.parametrize("recipe", ["nonsense", "../configs/adversarial", "pixel+none"])
def test_a_recipe_that_is_no_overlay_is_refused(slices: Path, recipe: str) -> None:
    with pytest.raises(ModelError, match="no recipe"):
        plan_variants(slices, layer="level4", recipes=[recipe])


def test_widths_keep_their_proportions() -> None:
    assert scaled([32, 64, 96, 160], 16) == [16, 32, 48, 80]
    assert scaled([64, 32], 1) == [1, 1]
    assert scaled(32, 16) == 16


def test_values_are_yaml_and_never_code() -> None:
    assert parse_assignment(" a#b = [1, 2]", "--set") == ("a#b", "[1, 2]")
    assert parse_values("resize,[1,2],0.5,true") == ["resize", [1, 2], 0.5, True]
    for text in ("$print(1)", "@other", "[1, '%file.yaml']", "[1", "{a: $b}"):
        with pytest.raises(UsageError):
            parse_value(text)
    for text in (
        "{_target_: os.system, command: x}",
        "[{a: {_mode_: debug}}]",
        "{a: 1, a: 2}",
        "' $x'",
        "{$a: 1}",
    ):
        with pytest.raises(UsageError):
            parse_value(text)
    assert parse_value("{a: {b: 1}}") == {"a": {"b": 1}}
    with pytest.raises(UsageError, match="given twice"):
        parse_assignments(["a=1", "b=2", "a=3"], "--set", parse_value)
    assert parse_assignments(["a=1", "b=[2]"], "--set", parse_value) == {"a": 1, "b": [2]}
    for text in ("a", "=1", "a="):
        with pytest.raises(UsageError, match="not ID=VALUE"):
            parse_assignment(text, "--set")
