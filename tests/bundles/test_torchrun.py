"""multi_gpu.yaml under torchrun, by gloo on the CPU: the run of one process with as many times the batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .names import MakeBundle, Overrides
from .trainings import ADVERSARIAL, TRAININGS

RUN = """
import json, os, sys
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

files, overrides, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
made = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **overrides)
made.parser["configuration"] = made.parser
made.initialize()
parts = made.parser.get_parsed_content
seen, losses, rank = [], [], os.environ.get("RANK", "alone")
encoder = parts("network_def").encoder
masks = encoder.masks.clone() if hasattr(encoder, "masks") else torch.zeros(0)
def note(engine):
    output = engine.state.output
    seen.append(torch.stack([item["image"] for item in output] if isinstance(output, list) else list(output["image"])))
    losses.append(parts("loss_function").last["psnr"])
made.trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
made.run()
plain = lambda network: getattr(network, "module", network).state_dict()
weights = {**plain(parts("network")), **{"average." + k: v for k, v in parts("average").network.state_dict().items()}}
if "discriminator_def" in made.parser:
    weights |= {"d." + key: value for key, value in plain(parts("discriminator")).items()}
handlers = [type(handler).__name__ for handler in (*made.train_handlers, *made.val_handlers)]
torch.save({"seen": seen, "losses": losses, "masks": masks, "weights": weights, "handlers": handlers,
            "metric": made.evaluator.state.metrics["psnr"]}, f"{folder}/{rank}.pt")
made.finalize()
"""  # noqa: E501


def run(
    torchrun: list[str], files: list[Path], overrides: dict[str, Any], folder: Path, env: dict[str, str]
) -> None:
    script = folder / "script.py"
    script.write_text(RUN)
    overrides = {**overrides, "bundle_root": str(files[0].parents[1])}
    words = [json.dumps([str(file) for file in files]), json.dumps(overrides), str(folder)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *torchrun, str(script), *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@TRAININGS
def test_two_processes_train_as_one_with_twice_the_batch(
    name: str,
    overlays: list[str],
    tmp_path: Path,
    small_bundle: MakeBundle,
    short_training: Overrides,
    one_thread: dict[str, str],
) -> None:
    configs = small_bundle(name) / "configs"
    files = [configs / file for file in ("train.yaml", *overlays)]
    extra = {**(ADVERSARIAL if overlays else {}), "learning_rate": 0.002}
    two = short_training(name, tmp_path / "two", **extra)
    del two["device"]  # each process takes its own
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run(launcher, [*files, configs / "multi_gpu.yaml"], two, tmp_path, one_thread)
    run([], files, short_training(name, tmp_path / "one", batch_size=2, **extra), tmp_path, one_thread)
    first, second, alone = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1, "alone")
    )

    for key, value in first["weights"].items():
        assert torch.equal(value, second["weights"][key]), f"{key}: the processes end alike"
    assert torch.equal(first["masks"], second["masks"])
    assert torch.equal(first["masks"], alone["masks"])
    together = [torch.cat(step) for step in zip(first["seen"], second["seen"], strict=True)]
    assert len(together) == 6
    assert all(map(torch.equal, together, alone["seen"])), "they share what one sees"
    losses = torch.tensor([first["losses"], second["losses"]]).mean(0)
    torch.testing.assert_close(losses, torch.tensor(alone["losses"]), rtol=0, atol=1e-3)  # dB
    assert len({round(loss, 1) for loss in alone["losses"]}) > 3, "a curve, not a line"
    assert first["metric"] == second["metric"] == pytest.approx(alone["metric"], abs=2e-3)

    speakers = {"StatsHandler", "TensorBoardStatsHandler", "TensorBoardReconstructions"}
    assert speakers <= set(first["handlers"])
    assert not speakers & set(second["handlers"])
    written = sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*"))
    assert [str(path) for path in written if path.suffix == ".pt"] == [
        "checkpoint_epoch=2.pt",
        "checkpoint_epoch=3.pt",
        "model.pt",
        "models/model.pt",
    ]
    assert sum("tfevents" in path.name for path in written) == 3, "of one process: steps, figures, pictures"
    assert not any(key.startswith("module.") for key in torch.load(tmp_path / "two" / "model.pt"))
    origin = json.loads((tmp_path / "two" / "docs" / "provenance.json").read_text())
    assert origin["machine"]["processes"] == 2
