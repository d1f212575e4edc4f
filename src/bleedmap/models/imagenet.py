"""EfficientNet-Lite0's ImageNet weights for the encoder: batch norm folded into the convolutions.

They come with the program (`weights/efficientnet-lite0.safetensors`, fp16, Apache-2.0; docs/decisions/0009 says from
where and how they were converted).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bleedmap.errors import WeightsError
from bleedmap.models.lite_unet import STAGES, LiteUNet

ENCODER_FILE = Path(__file__).parents[1] / "weights" / "efficientnet-lite0.safetensors"
_EPSILON = 1e-3  # of its batch norm


def load_encoder(network: LiteUNet, path: Path = ENCODER_FILE) -> None:
    """Put the encoder's weights into `network`; other than three channels share the first convolution's evenly.

    Raises:
        WeightsError: missing, or not that encoder.
    """
    try:
        stored = {name: tensor.float() for name, tensor in load_file(path).items()}
        stem, channels = stored["stem.weight"], network.settings.channels
        stored["stem.weight"] = (
            stem if channels == 3 else stem.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels
        )
        missing, unknown = network.load_state_dict(stored, strict=False)
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise _unusable(path, str(error)) from error
    missing = [name for name in missing if name.startswith(("stem.", "stages."))]
    if missing or unknown:
        raise _unusable(path, f"{len(missing)} weights missing, {len(unknown)} unknown")


def _unusable(path: Path, found: str) -> WeightsError:
    return WeightsError(
        path, found=f"cannot be used ({found})", needed="the encoder's weights that came with the program",
        remedy="install bleedmap again",
    )  # fmt: skip


def folded(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    scale = gamma / torch.sqrt(variance + _EPSILON)
    weight = published[f"{conv}.weight"].double() * scale[:, None, None, None]
    return {f"{name}.weight": weight.float().contiguous(), f"{name}.bias": (beta - mean * scale).float()}
