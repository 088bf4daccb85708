"""The options of samples: how many, and of which seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from medrecon.cli.declare import option
from medrecon.errors import ModelError, UsageError

_drawn = partial(option, panel="What does a layer leave open?")


@dataclass(frozen=True)
class Samples:
    """What is drawn beside a decoder's one answer."""

    samples: Annotated[
        int | None,
        _drawn(
            "--samples N",
            "Also draw N plausible scans that have the same features, with their mean and standard "
            "deviation. What all of them share, the layer kept; what differs is made up. For bundles with "
            "a generative decoder; a sample takes some ten times as long as a reconstruction.",
            min=2,
        ),
    ] = None
    seed: Annotated[
        int | None,
        _drawn("--seed S", "Of the samples: the same seed draws the same ones. Default: 0.", min=0),
    ] = None

    @property
    def drawn_with(self) -> int:
        """The seed.

        Raises:
            UsageError: one is named, but no samples are asked for.
        """
        if self.seed is not None and self.samples is None:
            raise UsageError("--seed is of samples, and none are asked for", remedy="add --samples 8")
        return self.seed or 0

    def beside(self, encoder: str | None) -> int | None:
        """How many; none of a network that is named alone, which is said before its inverse is fitted.

        Raises:
            ModelError: a network is named, and samples are asked for.
        """
        if encoder is not None and self.samples is not None:
            raise ModelError(
                "there is no generative decoder beside a linear inverse, so no samples can be drawn",
                remedy="train decoders for the layers, then again with --overlay generative: --bundle RUN",
            )
        return self.samples
