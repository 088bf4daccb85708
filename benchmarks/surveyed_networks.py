"""The networks that `networks_survey.py` tries: bundles, classes, models as their library saves them.

A row is what `medrecon.encoders.build_encoder` takes: "what", "arguments", "network", "inputs".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    Row = dict[str, Any]

NETS = "monai.networks.nets."
TWO: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1}
THREE: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1}
LABELS: dict[str, Any] = {"out_channels": 2}
SMALL = {"hidden_size": 96, "mlp_dim": 128, "num_heads": 4}
CUBE = {"in_channels": 1, "img_size": [32, 32, 32], "patch_size": [8, 8, 8]}
DIFFUSION = {
    **{"channels": [16, 32], "attention_levels": [False, True], "num_head_channels": 8},
    **{"norm_num_groups": 8, "num_res_blocks": 1, "out_channels": 1},
}
MASKED = {"decoder_hidden_size": 48, "decoder_mlp_dim": 64, "decoder_num_layers": 1, "decoder_num_heads": 4}

CLASSES: list[tuple[str, dict[str, Any]]] = [
    (NETS + "UNet", {**THREE, **LABELS, "channels": [8, 16, 32], "strides": [2, 2]}),
    (NETS + "UNet", {**TWO, **LABELS, "in_channels": 2, "channels": [8, 16], "strides": [2]}),
    (NETS + "BasicUNet", THREE),
    (NETS + "BasicUNetPlusPlus", TWO),
    (NETS + "AttentionUnet", {**THREE, **LABELS, "channels": [8, 16, 32], "strides": [2, 2]}),
    (
        NETS + "DynUNet",
        {**THREE, **LABELS, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]},
    ),
    (NETS + "SegResNet", {"spatial_dims": 3}),
    (NETS + "SegResNetVAE", {"input_image_size": [32, 32, 32]}),
    (NETS + "SegResNetDS", {"spatial_dims": 3}),
    (NETS + "UNETR", {**LABELS, **SMALL, "in_channels": 1, "img_size": [32, 32, 32]}),
    (NETS + "SwinUNETR", {**LABELS, "in_channels": 1, "feature_size": 12}),
    (NETS + "VNet", {}),
    (NETS + "HighResNet", {}),
    (NETS + "DenseNet121", {**TWO, **LABELS}),
    (NETS + "resnet18", {"spatial_dims": 3, "n_input_channels": 1}),
    (NETS + "SEResNet50", TWO),
    (NETS + "EfficientNetBN", {**TWO, "model_name": "efficientnet-b0", "pretrained": False}),
    (NETS + "FlexibleUNet", {**TWO, **LABELS, "backbone": "efficientnet-b0"}),
    (NETS + "AutoEncoder", {**TWO, "out_channels": 1, "channels": [4, 8], "strides": [2, 2]}),
    (
        NETS + "AutoencoderKL",
        {
            **{"spatial_dims": 2, "channels": [16, 32], "num_res_blocks": 1, "norm_num_groups": 8},
            "attention_levels": [False, True],
        },
    ),
    (NETS + "VQVAE", {**TWO, "out_channels": 1}),
    (NETS + "ViT", {**CUBE, **SMALL, "num_layers": 3}),
    (NETS + "ViTAutoEnc", {**CUBE, **SMALL, "patch_size": [4, 4, 4], "num_layers": 2}),
    (
        NETS + "MaskedAutoEncoderViT",
        {
            **{**TWO, **SMALL, **MASKED, "num_layers": 2},
            **{"img_size": [32, 32], "patch_size": [8, 8]},
        },
    ),
    (NETS + "DiffusionModelUNet", {**TWO, **DIFFUSION}),
    (NETS + "DiffusionModelUNet", {**TWO, **DIFFUSION, "_inputs_": {"timesteps": 10}}),
    (NETS + "PatchDiscriminator", {**TWO, "channels": 8}),
    (NETS + "Discriminator", {"in_shape": [1, 32, 32], "channels": [8, 16], "strides": [2, 2]}),
    (NETS + "GlobalNet", {**TWO, "image_size": [32, 32], "num_channel_initial": 4, "depth": 2}),
    (NETS + "HoVerNet", {"in_channels": 3}),
    (NETS + "MedNeXtS", TWO),
    (NETS + "MILModel", {"num_classes": 2, "pretrained": False}),
    ("torchvision.models.resnet18", {}),
    ("torchvision.models.convnext_tiny", {}),
    ("torchvision.models.vit_b_16", {}),
    ("torchvision.models.swin_t", {}),
    ("torchvision.models.densenet121", {}),
    ("torchvision.models.mobilenet_v3_small", {}),
    ("torchvision.models.segmentation.fcn_resnet50", {"weights": None, "weights_backbone": None}),
    ("timm.create_model", {"model_name": "resnet18", "in_chans": 1}),
    ("timm.create_model", {"model_name": "vit_tiny_patch16_224"}),
    ("timm.create_model", {"model_name": "swin_tiny_patch4_window7_224"}),
    ("timm.create_model", {"model_name": "convnext_atto"}),
    ("timm.create_model", {"model_name": "efficientnet_lite0"}),
    (
        "segmentation_models_pytorch.Unet",
        {"encoder_name": "resnet18", "encoder_weights": None, "in_channels": 1},
    ),
    ("surveyed_networks.nnunet_plain", {}),
    ("surveyed_networks.nnunet_residual", {}),
]

TINY = {
    **{"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    **{"image_size": 64, "patch_size": 16},
}
SAVED: list[tuple[str, dict[str, Any]]] = [
    ("transformers.ViTModel", TINY),
    ("transformers.Dinov2Model", TINY),
    ("transformers.ViTMAEModel", TINY),
    (
        "transformers.SwinModel",
        {"image_size": 64, "embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
    ),
    ("transformers.ConvNextModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}),
    (
        "diffusers.AutoencoderKL",
        {
            **{"block_out_channels": [16, 32], "norm_num_groups": 8},
            **{"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2},
        },
    ),
]
"""Saved with random weights and the configuration given, then named by their folder."""

BUNDLES: dict[str, list[dict[str, Any]]] = {
    "brats_mri_axial_slices_generative_diffusion": [{}, {"network": "autoencoder_def"}],
    "brats_mri_generative_diffusion": [{}, {"network": "autoencoder_def"}],
    "maisi_ct_generative": [
        {},
        {"network": "autoencoder_def"},
        {"network": "mask_generation_autoencoder_def"},
    ],
    "swin_unetr_btcv_segmentation": [{}, {"arguments": {"_leave_out_": ["img_size"]}}],
    "vista3d": [{}, {"inputs": {"class_vector": [1]}}],
}
"""How else a bundle is tried than by its folder alone: as its refusal says."""


def rows(zoo: Path | None) -> Iterator[Row]:
    """Every network, with the name and the remark of its row in the table."""
    for folder in sorted(path for path in zoo.iterdir() if path.is_dir()) if zoo else ():
        for how in BUNDLES.get(folder.name, [{}]):
            yield {"kind": "bundle", "name": folder.name, "what": str(folder), "weights": "random", **how}
    for what, arguments in CLASSES:
        yield {"kind": "class", "name": what, "what": what, "arguments": arguments}
    for what, configuration in SAVED:
        yield {"kind": "folder", "name": what, "configuration": configuration}


def key_of(row: Row) -> str:
    """What tells a row from all others, whatever machine the bundles lie on."""
    return json.dumps({name: value for name, value in row.items() if name != "what"}, sort_keys=True)


def save(name: str, configuration: dict[str, Any], folder: Path) -> None:
    """A model of transformers or diffusers with random weights, as its library writes it."""
    import importlib

    library, _, kind = name.partition(".")
    made = getattr(importlib.import_module(library), kind)
    made = made(**configuration) if library == "diffusers" else made(made.config_class(**configuration))
    made.save_pretrained(folder)


def nnunet_plain() -> nn.Module:
    """A plain U-Net of nnU-Net's library."""
    return _nnunet("PlainConvUNet", n_conv_per_stage=[1, 1, 1])


def nnunet_residual() -> nn.Module:
    """One with a residual encoder."""
    return _nnunet("ResidualEncoderUNet", n_blocks_per_stage=[1, 1, 1])


def _nnunet(kind: str, **arguments: Any) -> Any:
    from dynamic_network_architectures.architectures import unet
    from torch import nn

    return getattr(unet, kind)(
        input_channels=1,
        n_stages=3,
        features_per_stage=[8, 16, 32],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1, 2, 2],
        num_classes=2,
        n_conv_per_stage_decoder=[1, 1],
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={},
        nonlin=nn.LeakyReLU,
        conv_bias=True,
        **arguments,
    )
