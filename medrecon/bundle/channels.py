"""Scans as the channels of a network: which is which, and the one in question with the others beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecon.contract import Encoder
from medrecon.encoders.naming import in_order
from medrecon.errors import UsageError
from medrecon.io import Scan, find_one
from medrecon.io.choices import in_sets, with_beside, with_hu


def read_channels(
    scan: Scan, given: Mapping[str, Scan | str | Path], *, hu: bool = False, **reading: Any
) -> dict[str, Scan]:
    """The scan of each channel, that in question among them.

    Args:
        scan: the one in question.
        given: name of a channel -> a scan or its path; none of a network that is given one scan.
        hu: the values of all are HU.
        **reading: of `medrecon.find_one`.

    Raises:
        ScanError: one of them cannot be read.
        UsageError: the one in question is none of them, or one is named twice.
    """
    found: dict[str, Scan] = {}
    if not given:
        return found
    for name, each in given.items():
        path = each.path if isinstance(each, Scan) else Path(each)
        if path.absolute() == scan.path.absolute():
            found[name] = scan
        else:
            other = each if isinstance(each, Scan) else find_one(path, **reading)
            found[name] = with_hu(other) if hu else other
    if not any(each is scan for each in found.values()):
        raise UsageError("the scan is none of its channels", path=scan.path, remedy="name it among them")
    return found


def set_beside(encoder: Encoder, scan: Scan, given: Mapping[str, Scan]) -> tuple[Scan, str]:
    """A scan with those that are a network's other channels beside it, and the name of its own.

    Args:
        encoder: whose channels they are.
        scan: the one in question, the same object that is among them.
        given: name of a channel -> its scan.

    Raises:
        ModelError: the network does not have a channel of that name.
        ScanError: a channel is missing, or lies on another grid.
        UsageError: a scan is named twice, or the network's decoders give back another channel.
    """
    refuse_twice(given)
    channels = in_order(encoder.channel_names, given)
    place = next(k for k, each in enumerate(channels) if each is scan)
    names = encoder.channel_names
    if encoder.channels_needed and place != 0:
        raise UsageError(
            f"its decoders give back {names[0]}, and INPUT is {names[place]}",
            remedy="give that scan as INPUT",
        )
    return with_beside(scan, [each for each in channels if each is not scan]), names[place]


def refuse_twice(given: Mapping[str, Scan]) -> None:
    """Refuse a scan that is named for two channels.

    Raises:
        UsageError: one is.
    """
    channels = list(given.values())
    twice = [each for k, each in enumerate(channels) if each in channels[:k]]
    if twice:
        raise UsageError(f"{twice[0].path} is given for two channels", remedy="name each scan once")


def sets_to_fit(encoder: Encoder, scans: Sequence[Scan], patterns: Mapping[str, str]) -> tuple[Scan, ...]:
    """Scans to fit decoders to, in sets where an encoder takes several as channels.

    Args:
        encoder: with the channel first that is given back (`ScansBeside`).
        scans: as they were found.
        patterns: name of a channel -> pattern of file names, as for `train`.

    Raises:
        UsageError: there are scans and patterns are missing, or are given for a network of one scan.
        ModelError, ScanError: a channel of another name, one missing, or a set that is not whole.
    """
    if not scans:
        return ()
    if not encoder.channels_needed and not patterns:
        return tuple(scans)
    if encoder.channels_needed and not patterns:
        raise UsageError(
            "which of the scans to fit to are which channel?",
            remedy="say so by patterns of their names: --fit-channels NAME=PATTERN (in Python fit_channels)",
        )
    names = encoder.channel_names
    return in_sets(scans, dict(zip(names, in_order(names, patterns), strict=True)))
