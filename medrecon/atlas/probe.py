"""A network that also answers with features shuffled, made coarser or of another encoder: the controls."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch

from medrecon.contract import Encoder, Features, Progress
from medrecon.evaluation.rate import FeatureCode, SparseLayer
from medrecon.inference.consistency import Consistency
from medrecon.reconstructor import Reconstructor, parse_layers

SHUFFLED, RANDOM, QUANTISED, PLAIN = "shuffled features", "random weights", "8 bits", ""
CODE = "transform code"
_SEED = 20240229

STEP = 0.5
"""Step of a sparse layer's values when they are coded, in units of the smallest value that is kept."""


@runtime_checkable
class Resettable(Protocol):
    """A module of torch's whose parameters can be drawn anew."""

    def reset_parameters(self) -> None:
        """Draw them."""


class Probe(Reconstructor):
    """Stands in for a `Reconstructor`: an inferer drives it over the same tiles.

    A result may carry the way in which its features are changed: `variant("level3", SHUFFLED)`. The first
    pass (`ranging` on) only takes in the features' ranges, which the quantisation of the second needs.

    - shuffled: the positions of each layer's features are permuted at random (over the slices, too, where the
      network is 2D); what is left is what the decoder draws from features in the wrong place.
    - random weights: the encoder's own parameters drawn anew (`reset_parameters`), the decoder as trained.
    - 8 bits: each channel rounded to 256 steps between its smallest and largest value; a layer that leaves
      channels empty to multiples of one step, zero left alone (`sparse_layers`).

    Args:
        network: a `Reconstructor`.
    """

    def __init__(self, network: Reconstructor) -> None:
        super().__init__(network.encoder, network.inversion, network.default, network.mixed_precision)
        self.ranging = False
        self.code = FeatureCode()
        self.consistency = Consistency()
        self.other = random_encoder(network.encoder)
        self.same: set[str] = set()
        """Results whose features do not depend on the encoder's weights."""

    def reconstruct(
        self, image: torch.Tensor, results: Sequence[str | Sequence[str]], progress: Progress | None = None
    ) -> Iterator[torch.Tensor]:
        """One image for each result and variant in turn."""
        texts = [result if isinstance(result, str) else "+".join(result) for result in results]
        wanted = dict.fromkeys(name for text in texts for name in parse_layers(_split(text)[0]))
        order = [layer.name for layer in self.layers() if layer.name in wanted]
        with self.precision(image.device):
            features: Features = self.encoder(image, order)
            if self.ranging:
                self.code.sparse = sparse_layers(self.encoder) | self.code.sparse
                self.code.take_range(features)
                for _ in results:
                    yield image[:, :1]
                return
            random: Features = {} if self.other is None else self.other(image, order)
        coded = self.code.quantise(features)
        shape = image.shape[2:]
        for asked in texts:
            result, kind = _split(asked)
            names = parse_layers(result)
            if kind == RANDOM and all(torch.equal(random[n], features[n]) for n in names):
                self.same.add(result)
            chosen = {PLAIN: features, RANDOM: random, QUANTISED: coded, SHUFFLED: features}[kind]
            given = {name: _shuffled(chosen[name]) if kind == SHUFFLED else chosen[name] for name in names}
            with self.precision(image.device):
                made = self.inversion(given, shape, progress)
                if kind == PLAIN:
                    beside = image[:, 1:]  # the other channels of a network that takes several
                    again = self.encoder(torch.cat([made.to(image.dtype), beside], dim=1), list(names))
                    self.consistency.add(result, given, again)
            yield made


def sparse_layers(encoder: Encoder) -> dict[str, SparseLayer]:
    """What a code must know of the layers that leave channels empty, as they are allocated now.

    A value is worth keeping where its square exceeds the multiplier, so that tells how much error is
    accepted; the step follows it.
    """
    return {
        name: SparseLayer(rule.sets.cpu().numpy(), STEP * math.sqrt(rule.multiplier))
        for name, rule in encoder.allocations().items()
    }


def variant(result: str, kind: str) -> str:
    """The name of a result whose features are changed."""
    return f"{result}|{kind}" if kind else result


def _split(asked: str) -> tuple[str, str]:
    result, _, kind = asked.partition("|")
    return result, kind


def _shuffled(values: torch.Tensor) -> torch.Tensor:
    """(B, C, *positions) with whole feature vectors moved to other positions, of any slice of the batch."""
    batch, channels = values.shape[:2]
    flat = values.movedim(1, 0).reshape(channels, -1)
    chance = torch.Generator().manual_seed(_SEED)
    order = torch.randperm(flat.shape[1], generator=chance).to(values.device)
    return flat[:, order].reshape(channels, batch, *values.shape[2:]).movedim(0, 1).contiguous()


def random_encoder(encoder: Encoder) -> Encoder | None:
    """A copy of an encoder with its parameters drawn anew, always the same; None where it has none."""
    other = copy.deepcopy(encoder)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        for module in other.modules():
            if isinstance(module, Resettable):
                module.reset_parameters()
    pairs = zip(other.parameters(), encoder.parameters(), strict=True)
    return other if any(not torch.equal(a, b) for a, b in pairs) else None
