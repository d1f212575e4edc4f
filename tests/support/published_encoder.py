"""How the encoder's weights that come with the program were made of those that were published (decision 0009)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bleedmap.models.lite_unet import STAGES

EPSILON = 1e-3  # of the published network's batch norm


def fold_batch_norm(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published state (names of the PyTorch port of EfficientNet) → this encoder's, fp32."""
    result = _fold(published, "_conv_stem", "_bn0", "stem")
    number = 0
    for stage, (expansion, _, _, _, _, blocks) in enumerate(STAGES):
        for block in range(blocks):
            source, target = f"_blocks.{number}.", f"stages.{stage}.{block}."
            if expansion > 1:
                result |= _fold(published, f"{source}_expand_conv", f"{source}_bn0", f"{target}expand")
            result |= _fold(published, f"{source}_depthwise_conv", f"{source}_bn1", f"{target}depthwise")
            result |= _fold(published, f"{source}_project_conv", f"{source}_bn2", f"{target}project")
            number += 1
    return result


def _fold(published: Mapping[str, Tensor], conv: str, norm: str, name: str) -> dict[str, Tensor]:
    gamma, beta, mean, variance = (
        published[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / torch.sqrt(variance + EPSILON)
    weight = published[f"{conv}.weight"].double() * scale[:, None, None, None]
    return {f"{name}.weight": weight.float().contiguous(), f"{name}.bias": (beta - mean * scale).float()}
