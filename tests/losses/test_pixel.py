from __future__ import annotations

import math

import pytest
import torch

from medrecon.losses import CharbonnierLoss, PSNRLoss


def test_psnr_is_the_mean_of_decibels() -> None:
    target = torch.zeros(2, 1, 4, 4)
    pred = target.clone()
    pred[0] += 0.1  # 20 dB
    pred[1] += 0.001  # 60 dB
    assert PSNRLoss()(pred, target).item() == pytest.approx(-40, abs=1e-3)
    assert PSNRLoss(data_range=10)(10 * pred, target).item() == pytest.approx(-40, abs=1e-3)
    assert PSNRLoss(eps=1e-4)(target, target).item() == pytest.approx(-40, abs=1e-3)


def test_psnr_pulls_a_good_sample_as_hard_as_a_bad_one() -> None:
    target = torch.zeros(2, 1, 4, 4)
    pred = torch.stack([torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 0.005)]).requires_grad_()
    PSNRLoss()(pred, target).backward()
    gain = (pred.grad * pred.detach()).flatten(1).sum(1)
    assert gain[0].item() == pytest.approx(gain[1].item(), rel=1e-3)


def test_charbonnier() -> None:
    target = torch.zeros(1, 1, 2, 2)
    assert CharbonnierLoss(1e-3)(target + 0.5, target).item() == pytest.approx(0.499, abs=1e-4)
    small = CharbonnierLoss(1e-3)(target + 1e-3, target).item()
    assert small == pytest.approx(1e-3 * (math.sqrt(2) - 1), rel=1e-2)
