"""train.yaml and its overlays, run small: it learns, resumes exactly, and is what it says it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from medrecon.bundle.config import Bundle
from medrecon.bundle.workflow import load_network
from medrecon.errors import ModelError, known_cause

from ..small_bundles import starts_at_zero
from .names import DIMS, NAMES, NETWORKS, MakeBundle, Overrides, Training, Workflow
from .trainings import ADVERSARIAL, GENERATIVE

ON_VOLUMES = [pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if DIMS[name] == 3]
ON_SLICES = [name for name in NETWORKS if DIMS[name] == 2]
bundles = pytest.mark.parametrize("name", [*ON_VOLUMES, *ON_SLICES, "slice_transform_code"])
networks = pytest.mark.parametrize("name", [*ON_VOLUMES, *ON_SLICES])


class Killed(Exception):
    """Stands for the end of a process in the middle of an epoch."""


def run(made: Any, stop_in_epoch: int | None = None) -> dict[str, torch.Tensor]:
    """Train; return the weights in full precision. May stop after an epoch's first step, as a kill would."""
    if stop_in_epoch is not None:

        @made.trainer.on(Events.ITERATION_COMPLETED)
        def kill(engine: Engine) -> None:
            if engine.state.epoch == stop_in_epoch:
                raise Killed

    made.trainer.run()
    network, average = (made.parser.get_parsed_content(name) for name in ("network", "average"))
    kept = {f"average.{key}": value for key, value in average.network.state_dict().items()}
    return {key: value.clone() for key, value in {**network.state_dict(), **kept}.items()}


EXTRAS = {"adversarial.yaml": ADVERSARIAL, "generative.yaml": GENERATIVE}
"""Overlays of the networks -> what makes them small."""


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [key for key in one if not torch.equal(one[key], other[key])]


@pytest.mark.parametrize(
    ("name", "overlays"),
    [
        ("slice_transform_code", ()),
        *((name, ("adversarial.yaml",)) for name in ON_SLICES),
        *(
            pytest.param(name, overlays, marks=pytest.mark.slow)
            for name in ON_SLICES
            for overlays in ((), ("generative.yaml",))
        ),
        *(
            pytest.param(name, overlays, marks=pytest.mark.slow)
            for name in NETWORKS
            if DIMS[name] == 3
            for overlays in ((), *((overlay,) for overlay in EXTRAS))
        ),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights_to_the_last_bit(
    name: str, overlays: tuple[str, ...], tmp_path: Path, training: Training
) -> None:
    extra = EXTRAS[overlays[0]] if overlays else {}
    straight = run(training(name, tmp_path / "straight", *overlays, **extra))
    cut = training(name, tmp_path / "cut", *overlays, **extra)
    with pytest.raises(Killed):
        run(cut, stop_in_epoch=2)
    assert [path.name for path in (tmp_path / "cut").glob("*.pt")] == ["checkpoint_epoch=1.pt"]
    torch.rand(17)  # whatever happened to the global stream in between
    resumed = training(name, tmp_path / "cut", *overlays, resume=True, **extra)
    epochs: list[int] = []
    resumed.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))
    assert differences(run(resumed), straight) == []
    assert epochs == [2, 3]
    files = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("straight", "cut")]
    assert differences(*files) == []
    if "adversarial.yaml" in overlays:
        parts = [torch.load(tmp_path / run / "checkpoint_epoch=3.pt") for run in ("straight", "cut")]
        assert differences(*(part["discriminator"] for part in parts)) == []
        assert [part["generator_loss"]["_extra_state"] for part in parts] == [{"step": 6}] * 2
    with pytest.raises(RuntimeError) as refused:
        training(name, tmp_path / "cut", *overlays, **extra)
    assert "checkpoints of a run before" in str(known_cause(refused.value))


@bundles
def test_training_starts_at_the_linear_code_and_leaves_it(
    name: str, tmp_path: Path, training: Training
) -> None:
    made = training(name, tmp_path / "run", max_epochs=2)
    assert made.check_properties() == []
    network = made.parser.get_parsed_content("network")
    batches: list[torch.Tensor] = []
    results: list[Any] = []
    made.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: batches.extend(o["image"] for o in engine.state.output)
    )
    network.register_forward_pre_hook(
        lambda module, _, keywords: results.append(keywords.get("layers")) if module.training else None,
        with_kwargs=True,
    )
    last = [p for key, p in network.inversion.named_parameters() if starts_at_zero(key)]
    assert last
    assert not any(parameter.any() for parameter in last)
    run(made)
    dims = len(batches[0].shape) - 1
    assert {tuple(batch.shape) for batch in batches} == {(1, *[16] * dims)}
    assert all(type(batch) is torch.Tensor for batch in batches), "metadata slows each operation down"
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) == 4, "each step sees something else"
    assert len(results) == 4
    assert any(parameter.any() for parameter in last)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint_epoch=1.pt",
        "checkpoint_epoch=2.pt",
        "configs",
        "docs",
        "model.pt",
        "models",
        "tensorboard",
    ]
    assert (tmp_path / "run" / "model.pt").stat().st_size < 200_000
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    load_network(network, tmp_path / "run" / "model.pt")
    kinds = {key: value.dtype for key, value in weights.items()}
    assert kinds.pop("encoder.masks", torch.bool) == torch.bool
    assert set(kinds.values()) == {torch.float16}


@bundles
def test_held_out_scans_do_not_take_part(name: str, tmp_path: Path, training: Training) -> None:
    made = training(name, tmp_path / "run", held_out=["mr*"])
    items = made.parser.get_parsed_content("train#items")
    assert [item["image"].path.name for item in items] == ["series"]


@networks
def test_the_discriminator_counts_as_much_as_its_weight_says(
    name: str, tmp_path: Path, training: Training
) -> None:
    """With weight 0 the network is that of train.yaml to the last bit; the share grows with the weight."""
    plain = run(training(name, tmp_path / "plain"))
    ended = {}
    for weight in (0.0, 5.0):
        extra = {**ADVERSARIAL, "generator_loss#weight": weight}
        made = training(name, tmp_path / f"weight{weight}", "adversarial.yaml", **extra)
        log, shares = made.parser.get_parsed_content("log_terms"), []

        @made.trainer.on(Events.ITERATION_COMPLETED)
        def note(engine: Engine, log: Any = log, shares: list = shares) -> None:
            terms, output = log(), engine.state.output
            shares.append(
                (terms["adversarial_weight"], float(output["generator_loss"]), terms["adversarial"])
            )

        discriminator = made.parser.get_parsed_content("discriminator")
        before = {key: value.clone() for key, value in discriminator.state_dict().items()}
        ended[weight] = run(made)
        assert differences(before, discriminator.state_dict()), "the discriminator learns"
        factors = [0, *(weight * share for share in (1 / 3, 2 / 3, 1, 1, 1))]
        assert [share[0] for share in shares] == pytest.approx(factors)
        for factor, loss, value in shares:
            assert loss == pytest.approx(factor * value)
            assert value > 0
    assert differences(ended[0.0], plain) == []
    assert differences(ended[5.0], plain)


def test_a_generative_run_is_a_bundle_that_samples(
    tmp_path: Path, small_bundle: MakeBundle, training: Training
) -> None:
    """The network stays as it is, bit for bit; the generative decoder is for it and for no other."""
    bundle, out = small_bundle("slice_autoencoder"), tmp_path / "run"
    run(training(bundle.name, out, "generative.yaml", **GENERATIVE))
    models = [torch.load(each / "models" / "model.pt", weights_only=True) for each in (bundle, out)]
    assert differences(*models) == []
    sampler = Bundle.open(out, {"samples": 2}).build("sampler")
    assert bool((sampler.generative.widening("level4") != 1).all()), "measured when the training had ended"
    image = torch.rand(1, 1, 32, 32, 2)
    assert torch.isfinite(sampler.draw(sampler.base(image, "level4"), "level4", 0)).all()
    torch.save({key: value + 0.01 for key, value in models[0].items()}, out / "models" / "model.pt")
    with pytest.raises(ModelError, match="beside a network of other weights"):
        Bundle.open(out, {"samples": 2}).build("sampler")
    (out / "models" / "generative.pt").unlink()
    with pytest.raises(ModelError, match="has no generative decoder") as refused:
        Bundle.open(out, {"samples": 2}).build("sampler")
    assert "--overlay generative" in str(refused.value.remedy)


@networks
def test_gradients_are_clipped_in_both(name: str, tmp_path: Path, training: Training) -> None:
    for overlays, extra in (((), {}), (("adversarial.yaml",), ADVERSARIAL)):
        folder = tmp_path / str(len(overlays))
        made = training(name, folder, *overlays, max_gradient_norm=1e-3, **extra)
        network, norms = made.parser.get_parsed_content("network"), []

        @made.trainer.on(Events.ITERATION_COMPLETED)
        def note(engine: Engine, network: Any = network, norms: list = norms) -> None:
            squares = [p.grad.square().sum() for p in network.parameters() if p.grad is not None]
            norms.append(float(torch.stack(squares).sum().sqrt()))

        run(made)
        assert max(norms) <= 1e-3 * 1.001


def test_a_training_begins_at_weights_that_fit(
    tmp_path: Path, small_bundle: MakeBundle, training: Training
) -> None:
    bundle, weights = small_bundle("slice_autoencoder"), tmp_path / "weights.pt"
    known = torch.load(bundle / "models" / "model.pt", weights_only=True)
    torch.save({key: values + 1 for key, values in known.items()}, weights)
    made = training("slice_autoencoder", tmp_path / "run", start_from=str(weights)).parser
    for part in (made.get_parsed_content("network"), made.get_parsed_content("average").network):
        state = part.state_dict()
        assert all(torch.equal(state[key], (values + 1).float()) for key, values in known.items())
    torch.save({"other": torch.zeros(1)}, weights)
    with pytest.raises(RuntimeError) as error:
        training("slice_autoencoder", tmp_path / "run", start_from=str(weights))
    assert "do not fit" in str(known_cause(error.value))


def test_overlays_change_the_handlers_they_mean(repo: Path) -> None:
    """Overlays name handlers by their place in train.yaml's list."""
    from monai.bundle import ConfigParser

    for name in NAMES:
        configs = repo / "bundles" / name / "configs"
        handlers = ConfigParser.load_config_file(configs / "train.yaml")["train"]["handlers"]
        kinds = [handler["_target_"].rsplit(".", 1)[-1] for handler in handlers]
        assert kinds[0] == "SeedEachEpoch"
        assert kinds[4:] == ["StatsHandler", "TensorBoardStatsHandler"]
        for overlay in (*EXTRAS, "multi_gpu.yaml") if name in NETWORKS else ("multi_gpu.yaml",):
            keys = [key for key in ConfigParser.load_config_file(configs / overlay) if "#handlers#" in key]
            places = {int(key.split("#")[2]) for key in keys if key.startswith("train#")}
            assert places <= {0, 4, 5}


def test_several_processes_need_torchrun(
    tmp_path: Path, small_bundle: MakeBundle, workflow: Workflow, short_training: Overrides
) -> None:
    overrides = short_training(NAMES[1], tmp_path / "run")
    del overrides["device"]
    with pytest.raises(RuntimeError) as refused:
        workflow(small_bundle(NAMES[1]), "train.yaml", "multi_gpu.yaml", **overrides)
    assert "torchrun --standalone" in str(known_cause(refused.value))


@bundles
@pytest.mark.parametrize(("share", "real"), [(1.0, False), (0.0, True)])
def test_it_trains_on_generated_volumes_alone_and_on_scans_alone(
    name: str, share: float, real: bool, tmp_path: Path, training: Training
) -> None:
    nothing = {} if real else {"dataset_dir": str(tmp_path / "nothing here")}
    made = training(name, tmp_path / "run", max_epochs=2, phantom_share=share, **nothing)
    samples = made.parser.get_parsed_content("train#samples")
    scans = len(made.parser.get_parsed_content("train#items"))
    assert scans == (2 if real else 0)
    drawn: list[int] = []
    dataset = samples.dataset
    samples.dataset = type("Noting", (), {"__getitem__": lambda _, k: drawn.append(k) or dataset[k]})()
    run(made)
    assert len(drawn) == 4
    assert all((item < scans) == real for item in drawn)
    origin = json.loads((tmp_path / "run" / "docs" / "provenance.json").read_text())
    assert origin["data"]["generated_share"] == share
    assert len(origin["data"]["scans"]) == scans


@bundles
def test_named_scans_are_validated_and_not_trained_on(name: str, tmp_path: Path, training: Training) -> None:
    options = {"validation_scans": ["mr*"], "licences": {"series": "CC BY 4.0"}}
    made = training(name, tmp_path / "run", max_epochs=2, **options)
    items, judged = (made.parser.get_parsed_content(f"{part}#items") for part in ("train", "validate"))
    assert [item["image"].path.name for item in items] == ["series"]
    assert [item["image"].path.name for item in judged] == ["mr.nii.gz"]
    shapes: list[tuple[int, ...]] = []
    made.evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: shapes.append(tuple(engine.state.output[0]["pred"].shape))
    )
    run(made)
    dims = DIMS[name]
    assert shapes == [(1, 32, 28, 17)[: dims + 1], *[(1, *[16] * dims)] * 2], (
        "as far as it goes, and generated"
    )
    assert made.evaluator.network is made.parser.get_parsed_content("average").network
    origin = json.loads((tmp_path / "run" / "docs" / "provenance.json").read_text())
    assert [scan["licence"] for scan in origin["data"]["scans"]] == ["CC BY 4.0"]
    (other,) = origin["data"]["validation_scans"]
    assert other["licence"].startswith("unknown")
    assert origin["time"]["steps"] == 4
    assert origin["time"]["wall_seconds"] > 0
    assert [figure["epoch"] for figure in origin["figures"]] == [2]
    assert origin["figures"][0]["psnr"] == pytest.approx(made.evaluator.state.metrics["psnr"], abs=1e-3)
    assert (origin["recipe"]["seed"], origin["recipe"]["batch_size"]) == (20261122, 1)
    assert not {"dataset_dir", "output_dir", "bundle_root"} & set(origin["recipe"])
    assert str(tmp_path) not in json.dumps(origin), "a path may name a person"
    pictures = pictures_in(tmp_path / "run" / "tensorboard")
    assert pictures == {f"validation/{number}": [2] for number in (1, 2, 3)}


def pictures_in(folder: Path) -> dict[str, list[int]]:
    """Tag -> the epochs that TensorBoard has a picture of."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[int]] = {}
    for file in folder.glob("events*"):
        events = EventAccumulator(str(file))
        events.Reload()
        for tag in events.Tags()["images"]:
            found[tag] = [event.step for event in events.Images(tag)]
    return found
