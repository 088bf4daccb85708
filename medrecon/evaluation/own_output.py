"""How near a network's output for a reconstruction comes to its output for the scan."""

from __future__ import annotations

import torch

from medrecon.evaluation.scores import OutputKept


def output_kept(scan: torch.Tensor, made: torch.Tensor) -> OutputKept:
    """Compare two outputs (C, *spatial) of one network.

    Several channels are scores of labels, of which each voxel has the highest, and 0 is the background; one
    channel is foreground above 0, or above 0.5 where all of it lies in [0, 1].
    """
    apart = torch.linalg.vector_norm((made - scan).double())
    distance = float(apart / torch.linalg.vector_norm(scan.double()).clamp(min=1e-30))
    threshold = 0.5 if float(scan.min()) >= 0 and float(scan.max()) <= 1 else 0.0
    found, again = (x.argmax(0) if len(x) > 1 else (x[0] > threshold).long() for x in (scan, made))
    labels = {}
    for label in found.unique().tolist():
        if label:
            one, other = found == label, again == label
            labels[str(label)] = 2 * float((one & other).sum()) / float(one.sum() + other.sum())
    dice = sum(labels.values()) / len(labels) if labels else None
    return OutputKept(distance, dice, labels)
