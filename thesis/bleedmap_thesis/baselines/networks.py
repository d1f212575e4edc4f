"""Networks that classify slices as bleeding or not: those the thesis compares itself with, in plain torch.

AlexNet: Krizhevsky, Sutskever and Hinton, NeurIPS 2012. ResNet-50: He, Zhang, Ren and Sun, arXiv:1512.03385.
The 13-layer network: in the manner of Gautam and Raman, Biomedical Signal Processing and Control 63 (2021) 102178.
All take slices (n, 1, rows, columns) in 0 to 1, of `SMALLEST_SIDE` pixels or more, and give logits (n,).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bleedmap.arrays import FloatArray, Progress
from bleedmap.training.device import Machine
from bleedmap.training.samples import Side
from bleedmap_thesis.baselines.base import Prediction, bleeds_to_learn

SMALLEST_SIDE = 63  # rows and columns: what AlexNet's last pooling needs


def cnn_13() -> nn.Module:
    """Thirteen layers: three times convolution, batch norm, ReLU and pooling; then one fully connected.

    Of the paper we know the abstract: 13 layers, for three classes, after multi-focus image fusion. Which layers,
    how they are counted and their sizes are ours; the fusion is left out, for the abstract does not say how.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(4),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.AdaptiveMaxPool2d(4),
        nn.Flatten(1), nn.Linear(64 * 4 * 4, 1), nn.Flatten(0),
    )  # fmt: skip


def alexnet() -> nn.Module:
    """The 2012 paper's five convolutions (three of them in two groups) and three fully connected layers.

    Ours: one channel, one logit, pooling to 6×6 whatever the slice's size.
    """
    return nn.Sequential(
        nn.Conv2d(1, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True), _local_norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), _local_norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), nn.Flatten(1),
        nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.Linear(4096, 1), nn.Flatten(0),
    )  # fmt: skip


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


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {"cnn-13": cnn_13, "alexnet": alexnet, "resnet-50": ResNet50}


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


# Epochs, learning rate of Adam, batch size: cross-entropy, no validation, no early stop. Epochs are what about a minute
# on two CPU cores allows for 450 slices of 128×128.
RECIPES = {"cnn-13": (30, 1e-3, 16), "alexnet": (10, 1e-4, 32), "resnet-50": (7, 1e-3, 16)}
_AT_A_TIME = 32  # slices, when they are scored


def train_classifier(
    name: str, training: Side, test: Side, machine: Machine, seed: int, progress: Progress
) -> Prediction:  # fmt: skip
    """The baseline that trains the classifier called `name`, by its recipe.

    Mirrors (left–right and top–bottom) are drawn anew each epoch. The score is the probability of a bleed, after
    the last epoch. The same seed on the same machine gives the same scores.
    """

    bleeds_to_learn(training)
    network = build_classifier(name, seed).to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.random.fork_rng(devices=[machine.device] if machine.device.type == "cuda" else []):
        torch.manual_seed(seed)  # of dropout
        _train(network, name, training.to(machine.device), machine, seed, progress)
    parameters = sum(one.numel() for one in network.parameters())
    return Prediction(_score(network, test, machine), None, {}, parameters)


def _train(network: nn.Module, name: str, training: Side, machine: Machine, seed: int, progress: Progress) -> None:
    epochs, learning_rate, batch_size = RECIPES[name]
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    bleeds = torch.from_numpy(training.has_lesion.astype(np.float32)).to(machine.device)
    network.train()
    for epoch in range(epochs):
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(bleeds))
        mirrors = torch.from_numpy(random.random((2, len(bleeds))) < 0.5).to(machine.device)
        # Parts of nearly the same size: a last batch of one slice would have no variance to norm by.
        for part in np.array_split(order, max(1, round(len(order) / batch_size))):
            rows = torch.from_numpy(part).to(machine.device)
            slices = _mirrored(training.inputs[rows], mirrors[:, rows])
            loss = functional.binary_cross_entropy_with_logits(_logits(network, slices, machine), bleeds[rows])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
        progress(epoch + 1, epochs)


def _mirrored(slices: Tensor, mirrors: Tensor) -> Tensor:
    """(n, 1, size, size), flipped along the rows or columns where `mirrors` (2, n) says so."""
    for axis, chosen in zip((2, 3), mirrors, strict=True):
        slices = torch.where(chosen[:, None, None, None], slices.flip(axis), slices)
    return slices


def _logits(network: nn.Module, slices: Tensor, machine: Machine) -> Tensor:
    with torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16):
        logits: Tensor = network(slices.contiguous(memory_format=torch.channels_last))
    return logits.float()


@torch.no_grad()
def _score(network: nn.Module, test: Side, machine: Machine) -> FloatArray:
    network.eval()
    parts = [_logits(network, part.to(machine.device), machine) for part in torch.split(test.inputs, _AT_A_TIME)]
    return np.asarray(torch.sigmoid(torch.cat(parts)).cpu().numpy())
