"""train.yaml and its overlays, run small: it learns, resumes exactly, and is what it says it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from medrecon.errors import ModelError
from medrecon.workflow import load_network

NAMES = ["volume_autoencoder", "slice_autoencoder"]
EXTRA = {
    "generator_loss#start": 1,
    "generator_loss#ramp": 2,
    "discriminator_loss#start": 0,
    "discriminator_def#channels": 4,
    "discriminator_def#num_layers_d": 1,
}
bundles = pytest.mark.parametrize("name", NAMES)


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
    network = made.parser.get_parsed_content("network")
    return {key: value.clone() for key, value in network.state_dict().items()}


def cause_of(error: BaseException | None) -> str:
    """The error of ours behind the one that MONAI raised."""
    while error is not None and not isinstance(error, ModelError):
        error = error.__cause__
    return str(error)


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [key for key in one if not torch.equal(one[key], other[key])]


@bundles
@pytest.mark.parametrize("overlays", [(), ("adversarial.yaml",)], ids=["plain", "adversarial"])
def test_a_resumed_run_ends_with_the_same_weights_to_the_last_bit(
    name: str,
    overlays: tuple[str, ...],
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    workflow: Callable[..., Any],
    short_training: Callable[..., dict[str, Any]],
) -> None:
    bundle, configs = small_bundle(name), ("train.yaml", *overlays)
    extra = EXTRA if overlays else {}
    straight = run(workflow(bundle, *configs, **short_training(name, tmp_path / "straight", **extra)))
    cut = workflow(bundle, *configs, **short_training(name, tmp_path / "cut", **extra))
    with pytest.raises(Killed):
        run(cut, stop_in_epoch=2)
    assert [path.name for path in (tmp_path / "cut").glob("*.pt")] == ["checkpoint_epoch=1.pt"]
    torch.rand(17)  # whatever happened to the global stream in between
    resumed = workflow(bundle, *configs, **short_training(name, tmp_path / "cut", resume=True, **extra))
    epochs: list[int] = []
    resumed.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))
    assert differences(run(resumed), straight) == []
    assert epochs == [2, 3]
    files = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("straight", "cut")]
    assert differences(*files) == []
    if overlays:
        parts = [torch.load(tmp_path / run / "checkpoint_epoch=3.pt") for run in ("straight", "cut")]
        assert differences(*(part["discriminator"] for part in parts)) == []
        assert [part["generator_loss"]["_extra_state"] for part in parts] == [{"step": 6}] * 2
    with pytest.raises(RuntimeError) as refused:
        workflow(bundle, *configs, **short_training(name, tmp_path / "cut", **extra))
    assert "checkpoints of a run before" in cause_of(refused.value)


@bundles
def test_training_starts_at_the_linear_code_and_leaves_it(
    name: str,
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    workflow: Callable[..., Any],
    short_training: Callable[..., dict[str, Any]],
) -> None:
    bundle = small_bundle(name)
    made = workflow(bundle, "train.yaml", **short_training(name, tmp_path / "run", max_epochs=2))
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
    assert not network.inversion.out.weight.any()
    run(made)
    dims = len(batches[0].shape) - 1
    assert {tuple(batch.shape) for batch in batches} == {(1, *[16] * dims)}
    assert all(type(batch) is torch.Tensor for batch in batches), "metadata slows each operation down"
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) == 4, "each step sees something else"
    assert len(results) == 4
    assert network.inversion.out.weight.any()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint_epoch=1.pt",
        "checkpoint_epoch=2.pt",
        "configs",
        "model.pt",
        "models",
        "tensorboard",
    ]
    assert (tmp_path / "run" / "model.pt").stat().st_size < 200_000
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    load_network(network, tmp_path / "run" / "model.pt")
    kinds = {key: value.dtype for key, value in weights.items()}
    assert kinds.pop("encoder.masks") == torch.bool
    assert set(kinds.values()) == {torch.float16}


@bundles
def test_held_out_scans_do_not_take_part(
    name: str,
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    workflow: Callable[..., Any],
    short_training: Callable[..., dict[str, Any]],
) -> None:
    made = workflow(
        small_bundle(name), "train.yaml", **short_training(name, tmp_path / "run", held_out=["mr*"])
    )
    items = made.parser.get_parsed_content("train#items")
    assert [item["image"].path.name for item in items] == ["series"]


@bundles
def test_the_discriminator_counts_as_much_as_its_weight_says(
    name: str,
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    workflow: Callable[..., Any],
    short_training: Callable[..., dict[str, Any]],
) -> None:
    """With weight 0 the network is that of train.yaml to the last bit; the share grows with the weight."""
    bundle = small_bundle(name)
    plain = run(workflow(bundle, "train.yaml", **short_training(name, tmp_path / "plain")))
    ended = {}
    for weight in (0.0, 5.0):
        extra = {**EXTRA, "generator_loss#weight": weight}
        overrides = short_training(name, tmp_path / f"weight{weight}", **extra)
        made = workflow(bundle, "train.yaml", "adversarial.yaml", **overrides)
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


@bundles
def test_gradients_are_clipped_in_both(
    name: str,
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    workflow: Callable[..., Any],
    short_training: Callable[..., dict[str, Any]],
) -> None:
    bundle = small_bundle(name)
    for number, configs in enumerate([("train.yaml",), ("train.yaml", "adversarial.yaml")]):
        extra = EXTRA if number else {}
        overrides = short_training(name, tmp_path / str(number), max_gradient_norm=1e-3, **extra)
        made = workflow(bundle, *configs, **overrides)
        network, norms = made.parser.get_parsed_content("network"), []

        @made.trainer.on(Events.ITERATION_COMPLETED)
        def note(engine: Engine, network: Any = network, norms: list = norms) -> None:
            squares = [p.grad.square().sum() for p in network.parameters() if p.grad is not None]
            norms.append(float(torch.stack(squares).sum().sqrt()))

        run(made)
        assert max(norms) <= 1e-3 * 1.001


def test_overlays_change_the_handlers_they_mean(repo: Path) -> None:
    """Overlays name handlers by their place in train.yaml's list."""
    from monai.bundle import ConfigParser

    for name in NAMES:
        configs = repo / "bundles" / name / "configs"
        handlers = ConfigParser.load_config_file(configs / "train.yaml")["train"]["handlers"]
        kinds = [handler["_target_"].rsplit(".", 1)[-1] for handler in handlers]
        assert kinds[0] == "SeedEachEpoch"
        assert kinds[4:] == ["StatsHandler", "TensorBoardStatsHandler"]
        for overlay in ("adversarial.yaml", "multi_gpu.yaml"):
            keys = [key for key in ConfigParser.load_config_file(configs / overlay) if "#handlers#" in key]
            places = {int(key.split("#")[2]) for key in keys if key.startswith("train#")}
            assert places <= {0, 4, 5}


DISTRIBUTED = """
import json, os, sys
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

files, overrides, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
made = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **overrides)
made.initialize()
seen, rank = [], os.environ["RANK"]
def note(engine):
    output = engine.state.output
    seen.append((output if isinstance(output, dict) else output[0])["image"].clone())
made.trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
made.run()
network = made.parser.get_parsed_content("network")
handlers = [type(handler).__name__ for handler in made.train_handlers]
weights = network.module.state_dict()
if "discriminator_def" in made.parser:
    discriminator = made.parser.get_parsed_content("discriminator")
    weights |= {"d." + key: value for key, value in discriminator.module.state_dict().items()}
torch.save({"seen": seen, "weights": weights, "handlers": handlers,
            "metric": made.evaluator.state.metrics["psnr"]}, f"{folder}/rank{rank}.pt")
made.finalize()
"""


@pytest.mark.parametrize(
    ("name", "overlays"),
    [(NAMES[0], []), pytest.param(NAMES[1], ["adversarial.yaml"], marks=pytest.mark.slow)],
)
def test_two_processes_draw_differently_and_end_alike(
    name: str,
    overlays: list[str],
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    short_training: Callable[..., dict[str, Any]],
    one_thread: dict[str, str],
) -> None:
    bundle = small_bundle(name)
    files = [str(bundle / "configs" / file) for file in ("train.yaml", *overlays, "multi_gpu.yaml")]
    overrides = short_training(name, tmp_path / "run", **(EXTRA if overlays else {}))
    del overrides["device"]  # each process takes its own
    script = tmp_path / "script.py"
    script.write_text(DISTRIBUTED)
    torchrun = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
    ]
    done = subprocess.run(
        [*torchrun, str(script), json.dumps(files), json.dumps(overrides), str(tmp_path)],
        cwd=tmp_path,
        env=one_thread,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in (0, 1))
    assert differences(first["weights"], second["weights"]) == []
    assert len(first["seen"]) == len(second["seen"]) == 6
    seen = {tuple(image.flatten().tolist()) for part in (first, second) for image in part["seen"]}
    assert len(seen) == 12, "each process draws for itself"
    assert first["metric"] == second["metric"]
    loggers = {"StatsHandler", "TensorBoardStatsHandler"}
    assert loggers <= set(first["handlers"])
    assert not loggers & set(second["handlers"])
    written = sorted(path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*"))
    assert [str(path) for path in written if path.suffix == ".pt"] == [
        "checkpoint_epoch=2.pt",
        "checkpoint_epoch=3.pt",
        "model.pt",
        "models/model.pt",
    ]
    assert sum("tfevents" in path.name for path in written) == 2, "one for training, one for validation"
    assert not any(key.startswith("module.") for key in torch.load(tmp_path / "run" / "model.pt"))


def test_several_processes_need_torchrun(
    tmp_path: Path,
    small_bundle: Callable[[str], Path],
    workflow: Callable[..., Any],
    short_training: Callable[..., dict[str, Any]],
) -> None:
    overrides = short_training(NAMES[1], tmp_path / "run")
    del overrides["device"]
    with pytest.raises(RuntimeError) as refused:
        workflow(small_bundle(NAMES[1]), "train.yaml", "multi_gpu.yaml", **overrides)
    assert "torchrun --standalone" in cause_of(refused.value)
