"""A results folder of nnU-Net: plans, data set and checkpoint in their own forms, and a network for them.

This file can stand for dynamic_network_architectures.architectures.unet, which brings timm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

STATISTICS = {
    "mean": 60.0,
    "std": 90.0,
    "percentile_00_5": -200.0,
    "percentile_99_5": 400.0,
    "median": 40.0,
    "min": -300.0,
    "max": 900.0,
}


class Unet(nn.Module):
    """Stands for both networks of the library: stages of an encoder, and a head; no deep supervision."""

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        conv_op: type[nn.Module],
        kernel_sizes: Sequence[Any],
        strides: Sequence[Any],
        num_classes: int,
        deep_supervision: bool,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        assert not deep_supervision
        assert norm_op is not None
        assert nonlin is not None
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList()
        last = input_channels
        for width, kernel, stride in zip(features_per_stage, kernel_sizes, strides, strict=True):
            pad = [k // 2 for k in kernel]
            conv = conv_op(last, width, kernel, stride, pad)
            norm = norm_op(width, **(norm_op_kwargs or {}))
            self.encoder.stages.append(nn.Sequential(conv, norm, nonlin(**(nonlin_kwargs or {}))))
            last = width
        self.head = conv_op(last, num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for stage in self.encoder.stages:
            image = stage(image)
        return self.head(image)


class PlainConvUNet(Unet):
    """Takes `n_conv_per_stage`."""

    def __init__(self, *, n_conv_per_stage: Sequence[int], **options: Any) -> None:
        super().__init__(**options)


class ResidualEncoderUNet(Unet):
    """Takes `n_blocks_per_stage`."""

    def __init__(self, *, n_blocks_per_stage: Sequence[int], **options: Any) -> None:
        super().__init__(**options)


def architecture(dims: int, residual: bool) -> dict[str, Any]:
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 6],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * 2,
            "strides": [[1] * dims, [2] * dims],
            "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def older(dims: int) -> dict[str, Any]:
    """The same network as plans of 2022 have it, TotalSegmentator's among them."""
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1] * dims,
        "pool_op_kernel_sizes": [[1] * dims, [2] * dims],
        "conv_kernel_sizes": [[3] * dims] * 2,
    }


def model(
    root: Path,
    dims: int = 3,
    *,
    residual: bool = False,
    old: bool = False,
    schemes: Sequence[str] = ("CTNormalization",),
    masked: bool = False,
    channels: Sequence[str] = ("CT",),
    folds: Sequence[str] = ("fold_0",),
    transpose: Sequence[int] = (0, 1, 2),
    spacing: Sequence[float] = (2.0, 1.5, 1.5),
    patch: Sequence[int] = (8, 16, 16),
) -> Path:
    """A results folder with random weights; its checkpoint holds numpy's numbers, as nnU-Net's do."""
    name = {2: "2d", 3: "3d_fullres"}[dims]
    folder = root / f"nnUNetTrainer__nnUNetPlans__{name}"
    described = older(dims) if old else {"architecture": architecture(dims, residual)}
    plans = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": list(transpose),
        "configurations": {
            "base": {
                "patch_size": list(patch)[3 - dims :],
                "normalization_schemes": list(schemes),
                "use_mask_for_norm": [masked] * len(schemes),
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0},
                **described,
            },
            name: {"inherits_from": "base", "spacing": list(spacing)[3 - dims :]},
        },
        "foreground_intensity_properties_per_channel": {str(k): STATISTICS for k in range(len(schemes))},
    }
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    dataset = {
        "channel_names": {str(k): channel for k, channel in enumerate(channels)},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for number, fold in enumerate(folds):
        (folder / fold).mkdir()
        torch.manual_seed(number)
        conv, norm = (getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "InstanceNorm"))
        kernel = [3] * dims
        network = Unet(
            len(channels),
            2,
            [4, 6],
            conv,
            [kernel] * 2,
            [[1] * dims, [2] * dims],
            3,
            False,
            norm,
            {"affine": True},
            nn.LeakyReLU,
        )
        content = {
            "network_weights": network.state_dict(),
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "logging": {"mean_fg_dice": [np.float64(0.3), np.float32(0.5)], "epoch": np.int64(3)},
            "_best_ema": np.float64(0.4),
            "init_args": {"configuration": name, "fold": number, "plans": plans},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(content, folder / fold / "checkpoint_final.pth")
    return folder
