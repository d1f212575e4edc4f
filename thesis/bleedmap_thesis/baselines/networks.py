"""Networks that say 'bleed or not' of a slice: those the thesis sets itself against, in plain torch.

AlexNet: Krizhevsky, Sutskever and Hinton, NeurIPS 2012. ResNet-50: He, Zhang, Ren and Sun, arXiv:1512.03385.
The 13-layer network: in the manner of Gautam and Raman, Biomedical Signal Processing and Control 63 (2021) 102178.
All take slices (n, 1, rows, columns) in 0 to 1, of `SMALLEST_SIDE` pixels or more, and give logits (n,).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_SIDE = 63  # rows and columns: what AlexNet's last pooling needs


class Cnn13(nn.Module):
    """Thirteen layers: three times convolution, batch norm, ReLU and pooling; then one fully connected.

    Of the paper we know the abstract: 13 layers, for three classes, after multi-focus image fusion. Which layers,
    how they are counted and their sizes are ours; the fusion is left out, for the abstract does not say how.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(4),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.AdaptiveMaxPool2d(4),
        )  # fmt: skip
        self.full = nn.Linear(64 * 4 * 4, 1)

    def forward(self, slices: Tensor) -> Tensor:
        logits: Tensor = self.full(self.layers(slices).flatten(1))
        return logits[:, 0]


class AlexNet(nn.Module):
    """The 2012 paper's five convolutions (three of them in two groups) and three fully connected layers.

    Ours: one channel, one logit, pooling to 6×6 whatever the slice's size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True), _local_norm(), nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), _local_norm(), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.AdaptiveAvgPool2d(6),
        )  # fmt: skip
        self.full = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5),
            nn.Linear(4096, 1),
        )  # fmt: skip

    def forward(self, slices: Tensor) -> Tensor:
        logits: Tensor = self.full(self.layers(slices).flatten(1))
        return logits[:, 0]


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions around a shortcut; a stride stands in the first, as in the paper."""

    def __init__(self, inward: int, width: int, stride: int) -> None:
        super().__init__()
        outward = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(inward, width, 1, stride, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, outward, 1, bias=False), nn.BatchNorm2d(outward),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if inward != outward:
            self.shortcut = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.layers(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """3, 4, 6 and 3 bottlenecks. Ours: one channel, one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )  # fmt: skip
        blocks: list[nn.Module] = []
        inward = 64
        for count, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
            for index in range(count):
                blocks.append(Bottleneck(inward, width, stride=2 if index == 0 and width > 64 else 1))
                inward = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.full = nn.Linear(inward, 1)

    def forward(self, slices: Tensor) -> Tensor:
        features = self.blocks(self.stem(slices)).mean(dim=(2, 3))  # (n, 2048)
        logits: Tensor = self.full(features)
        return logits[:, 0]


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {"cnn-13": Cnn13, "alexnet": AlexNet, "resnet-50": ResNet50}


def build_classifier(name: str, seed: int) -> nn.Module:
    """A classifier of `CLASSIFIERS` with fresh weights, the same for the same seed.

    Weights are drawn as He et al. 2015 (arXiv:1502.01852) do, biases start at 0: the draw of the AlexNet paper
    needs many more slices than these to begin to learn. Torch's own generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CLASSIFIERS[name]()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, Bottleneck):
                # Each block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677).
                nn.init.zeros_(module.layers[-1].weight)  # type: ignore[arg-type]
    return network


def _local_norm() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)  # section 3.3 of the AlexNet paper
