"""The U-Net, one definition for all (Ronneberger et al. 2015; Model 1 and 2 of the 2021 thesis)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bleedmap.models.networks import UNetSettings


class Block(nn.Module):
    """conv → ReLU → dropout → conv → batch norm → ReLU; rows and columns unchanged, or halved by a stride of 2."""

    def __init__(self, inward: int, outward: int, settings: UNetSettings, stride: int = 1) -> None:
        super().__init__()
        kernel, edge = settings.kernel, settings.kernel // 2
        self.conv1 = nn.Conv2d(inward, outward, kernel, stride, padding=edge)
        self.dropout = nn.Dropout(settings.dropout)
        self.conv2 = nn.Conv2d(outward, outward, kernel, padding=edge)
        self.norm = nn.BatchNorm2d(outward) if settings.batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(functional.relu(self.conv1(x)))
        return functional.relu(self.norm(self.conv2(x)))


class UNet(nn.Module):
    """Slices (n, channels, rows, columns) in 0 to 1 → logits (n, 1, rows, columns), of any size."""

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = [settings.channels, *settings.filters]
        self.pool = settings.downsample == "pool"
        self.down = nn.ModuleList(
            Block(a, b, settings, stride=1 if self.pool or level == 0 else 2)
            for level, (a, b) in enumerate(pairwise(widths))
        )
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for below, here in zip(settings.filters[:0:-1], settings.filters[-2::-1], strict=True):
            self.up.append(nn.ConvTranspose2d(below, here, 2, stride=2))
            self.merge.append(Block(2 * here, here, settings))
        self.bottom_dropout = nn.Dropout(settings.bottom_dropout)
        self.head = nn.Conv2d(settings.filters[0], 1, 1)

    def forward(self, slices: Tensor) -> Tensor:
        rows, columns = slices.shape[-2:]
        below, right = -rows % self.settings.multiple, -columns % self.settings.multiple
        x = functional.pad(slices, (0, right, 0, below)) if below or right else slices
        skips = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level and self.pool else x)
            if level >= len(self.down) - 2:
                x = self.bottom_dropout(x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))  # (n, 2·filters, rows, columns)
        logits: Tensor = self.head(x)
        return logits[..., :rows, :columns] if below or right else logits


def build(settings: UNetSettings, seed: int) -> UNet:
    """A network with fresh weights, the same for the same seed; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(settings)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                # Glorot uniform and zero bias: the default of the thesis' Keras.
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return network
