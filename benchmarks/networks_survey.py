"""What medrecon makes of other people's networks: the model zoo's bundles, classes, saved models.

Each network gets a process of its own, with limits of processor time and memory. There it is built and its
layers are listed; the layer a third of the way down is inverted (three evaluations of L-BFGS), gets a decoder
that is fitted and trained for ten steps, and is written as features. Weights are random, images generated and
small: 48 pixels or 32 voxels a side, or what the network takes. So the figures tell that it works, not what a
layer keeps.

    networks_survey.py [--zoo MODELS] [--only PATTERN ...]

Rows are kept as they are done: the same command again goes on, and tries again what --again names.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import tempfile
import time
import traceback
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import markdown, parser_for, write_json
from surveyed_networks import key_of, rows, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from medrecon.contract import Encoder

SIDE = {2: 48, 3: 32}
STEPS = 10
BLANK = 0.01
STAGES = ("listed", "inverted", "trained", "written")


def survey_one(row: dict[str, Any], seconds: int, gib: int) -> dict[str, Any]:
    """A row with what came of it, from a process of its own."""
    context = multiprocessing.get_context("fork")  # the libraries are imported once
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(row, send, seconds, gib))
    child.start()
    send.close()
    found: dict[str, Any] = {}
    try:
        while True:
            found = receive.recv()
    except EOFError:
        child.join()
    if child.exitcode:
        missing = next((stage for stage in STAGES if stage not in found), STAGES[-1])
        found["crash"] = f"ended with {child.exitcode} before it was {missing}"
    return found


def _child(row: dict[str, Any], send: Connection, seconds: int, gib: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (gib << 30, gib << 30))
    spent = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds + 5))
    with tempfile.TemporaryDirectory() as place:
        stages(row, Path(place), send.send)


def stages(row: dict[str, Any], place: Path, tell: Callable[[dict[str, Any]], None]) -> None:
    """What came of a row, stage by stage; `tell` gets all of it after each, so that a killed one is known."""
    from medrecon.errors import MedreconError

    found: dict[str, Any] = {}
    network = _Network(row, place)
    for stage in STAGES:
        began = time.process_time()
        try:
            found[stage] = getattr(network, stage)()
        except MedreconError as error:
            found[stage] = {"refused": str(error), "exit": error.exit_code}
        except Exception as error:
            said = "".join(traceback.format_exception(error)[-2:])
            found[stage] = {"crash": f"{type(error).__name__}: {error}"[:300], "trace": said[-1000:]}
        found[stage]["seconds"] = round(time.process_time() - began, 1)
        found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        tell(found)
        if stage == "listed" and "layers" not in found[stage]:
            return


class _Network:
    """The stages of one network."""

    def __init__(self, row: dict[str, Any], place: Path) -> None:
        given = ("what", "weights", "arguments", "network", "inputs")
        self.recipe = {name: row[name] for name in given if name in row}
        self.place = place
        if row["kind"] == "folder":
            save(row["name"], row["configuration"], place / "model")
            self.recipe["what"] = str(place / "model")

    def listed(self) -> dict[str, Any]:
        from medrecon.encoders import build_encoder
        from medrecon.errors import ModelError

        everything = build_encoder(**self.recipe)
        infos = everything.layers()
        dims, steps = everything.spatial_dims, everything.multiple or (1,) * everything.spatial_dims
        self.shape = tuple(step * math.ceil(SIDE[dims] / step) for step in steps)
        self.layer = infos[len(infos) // 3].name
        arguments = dict(self.recipe.get("arguments") or {})
        self.small = self.recipe | {"arguments": {**arguments, "_window_": list(self.shape)}}
        try:
            self.encoder: Encoder = build_encoder(**self.small, layers=[self.layer])
        except ModelError:  # it takes one size only
            if everything.window is None:
                raise
            self.shape, self.small = tuple(everything.window), self.recipe
            self.encoder = build_encoder(**self.small, layers=[self.layer])
        return {"layers": len(infos), "layer": self.layer, "shape": self.shape, "notes": everything.notes}

    def inverted(self) -> dict[str, Any]:
        import torch

        from medrecon.inversion import ImageOptimiser

        with torch.no_grad():
            wanted = self.encoder(torch.rand(1, 1, *self.shape), [self.layer])
        optimiser = ImageOptimiser(self.encoder, steps=3)
        optimiser(wanted, self.shape)
        return {"distance": round(optimiser.outcomes[0].distance, 3)}

    def trained(self) -> dict[str, Any]:
        """As `medrecon train --encoder` does, from the settings that it fills in."""
        import torch

        from medrecon.bundle.workflow import encoder_of
        from medrecon.inversion import FusionDecoder
        from medrecon.losses import PSNRLoss
        from medrecon.reconstructor import Reconstructor
        from medrecon.training.any_network import network_settings

        recipe = dict(self.small)
        settings = network_settings(recipe, [self.layer], recipe.pop("weights", None))
        encoder = encoder_of(settings["encoder"], settings["encoder_weights"])
        widths = settings["decoder_widths"]
        decoder = FusionDecoder(layers=encoder.layers(), widths=widths, depth=2)
        network = Reconstructor(encoder, decoder)
        images, others = ([_phantom(self.shape, seed) for seed in seeds] for seeds in (range(3), (7, 8)))
        network.fit(images, torch.device("cpu"))
        optimiser = torch.optim.AdamW(decoder.parameters(), lr=3e-4, weight_decay=0.0)
        loss_function = PSNRLoss(eps=1e-7)

        def psnr() -> float:
            with torch.no_grad():
                losses = [float(loss_function(network(image, self.layer), image)) for image in others]
            if not all(map(math.isfinite, losses)):
                raise FloatingPointError("the loss is not finite")
            return round(-sum(losses) / len(losses), 2)

        before = psnr()
        for step in range(STEPS):
            image = images[step % len(images)]
            loss = loss_function(network(image, self.layer), image)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return {"psnr": [before, psnr()]}

    def written(self) -> dict[str, Any]:
        import torch
        from monai.data import MetaTensor

        from medrecon.features.maps import FeatureMaps, write_features

        volume = self.shape if len(self.shape) == 3 else (*self.shape, 2)
        affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
        engine = FeatureMaps(self.encoder, [self.layer], torch.device("cpu"), "strongest:3")
        made = engine.maps(MetaTensor(_phantom(volume, 0)[0], affine=affine))
        files = write_features(made, self.place / "features", {}, overwrite=False)
        where = {"offset": made[0].offset, "doubt": made[0].doubt}
        return {**where, "size": made[0].values.shape, "bytes": files[0].stat().st_size}


def _phantom(shape: tuple[int, ...], seed: int) -> Any:
    """(1, 1, *shape) in [0, 1]; another where a slice shows nothing but air."""
    from medrecon.phantoms import PhantomDataset
    from medrecon.transforms import ScanIntensityd

    whole = shape if len(shape) == 3 else (*shape, 4)
    image = PhantomDataset(1, whole, seed, transform=ScanIntensityd(keys="image"))[0]["image"].as_tensor()
    chosen = (image if len(shape) == 3 else image[..., 2])[None].float()
    return chosen if float(chosen.std()) > BLANK else _phantom(shape, seed + 1000)


def table(done: list[dict[str, Any]], kind: str) -> str:
    """The rows of a kind as Markdown."""
    head = (
        *("network", "with", "layers", "size", "inverted: distance after 3 steps"),
        *("decoder: PSNR of other images before and after 10 steps", "features written", "s", "GiB"),
    )
    cells = []
    for row in (row for row in done if row["kind"] == kind):
        listed = row.get("listed", {})
        reason = row.get("crash") or listed.get("refused") or listed.get("crash")
        with_ = {name: row[name] for name in ("network", "arguments", "inputs") if row.get(name)}
        said = json.dumps(with_).replace("|", "/") if with_ else ""
        if "layers" not in listed:
            cells.append((row["name"], _short(said), "", "", reason, "", "", *_cost(row)))
            continue
        shape = "x".join(map(str, listed["shape"]))
        stages = [_told(row, stage) for stage in STAGES[1:]]
        cells.append((row["name"], _short(said), listed["layers"], shape, *stages, *_cost(row)))
    return markdown(head, cells)


def _told(row: dict[str, Any], stage: str) -> str:
    made = row.get(stage)
    if made is None:
        return f"CRASH {row.get('crash', '')}"
    if "refused" in made:
        return str(made["refused"]).replace("|", "/")
    if "crash" in made:
        return "CRASH " + str(made["crash"]).replace("|", "/").replace("\n", " ")
    if stage == "inverted":
        return f"`{row['listed']['layer']}`, {made['distance']:.2f}"
    if stage == "trained":
        return "{:.1f}, {:.1f} dB".format(*made["psnr"])
    about = "about " if made.get("doubt") else ""
    offset = ", ".join(f"{side:g}" for side in made["offset"])
    return f"{'x'.join(map(str, made['size']))}, offset {about}{offset}"


def _cost(row: dict[str, Any]) -> tuple[str, str]:
    return f"{sum(row[s]['seconds'] for s in STAGES if s in row):.1f}", str(row.get("peak_gib", ""))


def _short(text: str, most: int = 70) -> str:
    return f"`{text[:most]}{'...' if len(text) > most else ''}`" if text else ""


def main() -> None:
    """Survey and print."""
    parser = parser_for(__doc__ or "", "networks_survey")
    parser.add_argument("--zoo", type=Path, metavar="MODELS", help="the folder `models` of MONAI's model zoo")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="of the networks' names")
    parser.add_argument("--again", nargs="+", default=[], metavar="PATTERN", help="names to try again")
    parser.add_argument("--seconds", type=int, default=150, help="of processor time for each, default 150")
    parser.add_argument("--gib", type=int, default=12, help="of address space for each, default 12")
    args = parser.parse_args()
    import torch

    import medrecon.encoders
    import medrecon.features.maps
    import medrecon.inversion
    import medrecon.training.any_network  # noqa: F401  all of them once, in the parent

    torch.set_num_threads(1)
    before = json.loads(args.json.read_text("utf-8"))["rows"] if args.json.exists() else []
    known = {key_of(_asked(row)): row for row in before}
    for row in rows(args.zoo):
        name, key = row["name"], key_of(row)
        if not any(fnmatch(name, pattern) for pattern in args.only):
            continue
        if key in known and not any(fnmatch(name, pattern) for pattern in args.again):
            continue
        known[key] = row | survey_one(row, args.seconds, args.gib)
        print(name, json.dumps({s: known[key].get(s) for s in (*STAGES, "crash")})[:600], flush=True)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"rows": list(known.values())}, indent=1) + "\n", "utf-8")
    done = list(known.values())
    for kind in ("bundle", "class", "folder"):
        print(f"\n{table(done, kind)}")
    write_json(args.json, {"rows": done})


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in (*STAGES, "peak_gib", "crash")}


if __name__ == "__main__":
    main()
