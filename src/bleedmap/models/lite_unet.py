"""A U-Net on EfficientNet-Lite0, with heads for presence and type; its encoder begins with ImageNet's weights.

EfficientNet: Tan and Le, ICML 2019, arXiv:1905.11946; its Lite variants (no squeeze-and-excitation, ReLU6):
tensorflow/tpu, models/official/efficientnet/lite. U-Net: Ronneberger et al. 2015. Batch norm of the encoder is folded
into its convolutions, and its depthwise convolutions stay as ImageNet left them: on a CPU
their gradient costs as much as all the rest.

ImageNet's weights come with the program (`weights/efficientnet-lite0.safetensors`, fp16, Apache-2.0;
docs/decisions/0009 says from where and how they were converted).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from bleedmap.errors import WeightsError, usable
from bleedmap.models.networks import LABELS, LiteUNetSettings

# expansion, kernel, stride, filters in, filters out, blocks: EfficientNet-B0's seven stages
STAGES = (
    (1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1),
)  # fmt: skip
STEM = 32
_SKIPS = (0, 1, 2, 4)  # the last stages at a half, a fourth, an eighth, a sixteenth of the input
FEATURES = STAGES[-1][4]
ENCODER_FILE = Path(__file__).parents[1] / "weights" / "efficientnet-lite0.safetensors"


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says of n slices."""

    logits: Tensor  # (n, 1, rows/2, columns/2), of pixels; of a fine network (n, 1, rows, columns)
    labels: Tensor  # (n, 6) logits: presence of a bleed, then `bleedmap.models.networks.LABELS`' types
    features: Tensor  # (n, 320), the encoder's last, averaged over the slice
    guides: tuple[Tensor, ...] = ()  # in training with guides: (n, 1, …) logits of pixels at 1/8 and 1/4, skull at 1/2


def _same(x: Tensor, kernel: int) -> Tensor:
    """TensorFlow's 'same' padding for a stride of 2 and even sides: one more below and to the right."""
    before = (kernel - 2) // 2
    return functional.pad(x, (before, kernel - 2 - before, before, kernel - 2 - before))


def _convolve_each(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolve each channel with a filter of its own, in steps of 1 or 2."""
    kernel = weight.shape[-1]
    padded, edge = (_same(x, kernel), 0) if stride == 2 else (x, kernel // 2)
    return functional.conv2d(padded, weight, bias, stride, edge, 1, len(weight))


class _FixedDepthwise(torch.autograd.Function):
    """A depthwise convolution whose weights learn nothing: its gradient is one more forward convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.shape = stride, x.shape
        return _convolve_each(x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,), (weight,) = grads, ctx.saved_tensors
        kernel, turned = weight.shape[-1], weight.flip(2, 3)
        if ctx.stride == 1:
            return functional.conv2d(grad, turned, None, 1, kernel // 2, 1, len(weight)), None, None, None
        before = (kernel - 2) // 2
        spread = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last).zero_()
        spread[:, :, ::2, ::2] = grad
        around = (kernel - 1 - before, before)
        return (
            functional.conv2d(functional.pad(spread, around * 2), turned, None, 1, 0, 1, len(weight)), None, None, None,
        )  # fmt: skip


class Depthwise(nn.Module):
    """One filter a channel; fixed."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, kernel, kernel), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.training:
            fixed: Tensor = _FixedDepthwise.apply(x, weight, bias, self.stride)  # type: ignore[no-untyped-call]
            return fixed
        return _convolve_each(x, weight, bias, self.stride)


class Inverted(nn.Module):
    """Inverted residual block: 1×1 to more channels, depthwise, 1×1 to fewer; ReLU6 after the first two."""

    def __init__(self, expansion: int, kernel: int, stride: int, inward: int, outward: int) -> None:
        super().__init__()
        middle = inward * expansion
        self.expand = nn.Conv2d(inward, middle, 1) if expansion > 1 else None
        self.depthwise = Depthwise(middle, kernel, stride)
        self.project = nn.Conv2d(middle, outward, 1)
        self.residual = stride == 1 and inward == outward

    def forward(self, x: Tensor) -> Tensor:
        inside = x if self.expand is None else functional.relu6(self.expand(x))
        inside = self.project(functional.relu6(self.depthwise(inside)))
        out: Tensor = x + inside if self.residual else inside
        return out


class Merge(nn.Module):
    """Doubles rows and columns, joins the skip, then two times convolution, batch norm and ReLU."""

    def __init__(self, below: int, skip: int, outward: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(below + skip, outward, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outward)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat([functional.interpolate(below, scale_factor=2, mode="nearest"), skip], dim=1)
        return functional.relu(self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x))))))


class LiteUNet(nn.Module):
    """Slices (n, channels, rows, columns) in 0 to 1, sides multiples of 32 → `Answer`.

    `guided`: with heads that only training asks for; `drop_guides` leaves them out of the weights.
    """

    def __init__(self, settings: LiteUNetSettings, guided: bool = False) -> None:
        super().__init__()
        self.settings = settings
        self.stem = nn.Conv2d(settings.channels, STEM, 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Inverted(expansion, kernel, 1 if block else stride, outward if block else inward, outward)
                    for block in range(blocks)
                )
            )
            for expansion, kernel, stride, inward, outward, blocks in STAGES
        )
        skips = [STAGES[index][4] for index in reversed(_SKIPS)] + [settings.channels] * settings.is_fine
        belows = [FEATURES, *settings.decoder[:-1]]
        self.merges = nn.ModuleList(Merge(*widths) for widths in zip(belows, skips, settings.decoder, strict=True))
        self.pixels = nn.Conv2d(settings.decoder[-1], 1, 1)
        self.dropout = nn.Dropout(settings.dropout)
        self.labels = nn.Linear(2 * FEATURES, len(LABELS))
        self.guides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in settings.decoder[1:4] if guided)

    def forward(self, slices: Tensor) -> Answer:
        x = functional.relu6(self.stem(_same(slices * 2 - 1, 3)))  # ImageNet's weights expect -1 to 1
        skips = [slices] * self.settings.is_fine
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _SKIPS:
                skips.append(x)
        mean, most = x.mean(dim=(2, 3)), x.amax(dim=(2, 3))  # (n, 320)
        labels = self.labels(self.dropout(torch.cat([mean, most], dim=1)))
        decoded = []
        for merge in self.merges:
            x = merge(x, skips.pop())
            decoded.append(x)
        # Without guides there is nothing to pair.
        guides = tuple(guide(one) for guide, one in zip(self.guides, decoded[1:4], strict=False))
        return Answer(self.pixels(x), labels, mean, guides)

    def probability(self, answer: Answer) -> Tensor:
        """(n, 1, rows, columns) of pixels, at the input's size."""
        logits = answer.logits
        if not self.settings.is_fine:
            logits = functional.interpolate(logits, scale_factor=2, mode="bilinear")
        return torch.sigmoid(logits)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those that ImageNet gave and training changes."""
        return [one for part in (self.stem, self.stages) for one in part.parameters() if one.requires_grad]

    def new_parameters(self) -> list[nn.Parameter]:
        """Decoder and heads."""
        return [one for part in (self.merges, self.pixels, self.labels, self.guides) for one in part.parameters()]


def build_lite(settings: LiteUNetSettings, seed: int, guided: bool = False) -> LiteUNet:
    """A network whose decoder and heads are fresh, the same for the same seed; the encoder's weights are not set."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LiteUNet(settings, guided)
        nn.init.constant_(network.pixels.bias, -4.0)  # type: ignore[arg-type]  # lesion pixels are rare
    return network


def drop_guides(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network that predicts."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith("guides.")}


def load_encoder(network: LiteUNet, path: Path = ENCODER_FILE, slices: int | None = None) -> None:
    """Put the encoder's weights into `network`; other than three slices share the first convolution's evenly.

    Args:
        network: is changed.
        slices: the first channels; those beyond begin with weights of 0. None: all channels are slices.

    Raises:
        WeightsError: missing, or not that encoder.
    """
    needed = "the encoder's weights that came with the program"
    with usable(path, WeightsError, needed, "install bleedmap again", RuntimeError, SafetensorError):
        stored = {name: tensor.float() for name, tensor in load_file(path).items()}
        stem, channels = stored["stem.weight"], network.settings.channels
        slices = channels if slices is None else slices
        shared = stem if slices == 3 else stem.sum(1, keepdim=True).repeat(1, slices, 1, 1) / slices
        stored["stem.weight"] = functional.pad(shared, (0, 0, 0, 0, 0, channels - slices))
        missing, unknown = network.load_state_dict(stored, strict=False)
        missing = [name for name in missing if name.startswith(("stem.", "stages."))]
        if missing or unknown:
            raise ValueError(f"{len(missing)} weights missing, {len(unknown)} unknown")
