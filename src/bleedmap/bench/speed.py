"""Training throughput: our loop beside a plain one (fp32, eager, DataLoader, same network), in one run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from bleedmap.models.unet import build
from bleedmap.training.augment import draw_epoch
from bleedmap.training.config import TrainConfig
from bleedmap.training.data import Side
from bleedmap.training.device import Machine
from bleedmap.training.loop import optimiser_of, prepared, train_epoch
from bleedmap.training.losses import batch_loss

LESION_SHARE = 0.5  # of the made slices, as in the thesis' balanced set
MATRIX = 4096  # rows and columns of the matrix product that stands for the machine's own rate
FLOP_FACTOR = 3  # a training step is a forward pass and a backward one of twice its cost


@dataclass(frozen=True)
class Speed:
    """Slices trained per second, each loop's epochs in turn.

    Attributes:
        plain: of each epoch of the plain loop.
        ours: of each epoch of ours.
        flop_per_slice: of one training slice: three forward passes, multiply and add counted as two.
        matrix_tflops: the machine's own rate in a 4096³ matrix product of the precision that ours uses.
    """

    plain: tuple[float, ...]
    ours: tuple[float, ...]
    flop_per_slice: float
    matrix_tflops: float

    def to_dict(self) -> dict[str, Any]:
        """Medians, their ratio, and the share of the machine's own rate."""
        plain, ours = median(self.plain), median(self.ours)
        tflops = ours * self.flop_per_slice / 1e12
        return {
            "plain_slices_per_s": round(plain, 2), "ours_slices_per_s": round(ours, 2), "ratio": round(ours / plain, 2),
            "gflop_per_training_slice": round(self.flop_per_slice / 1e9, 2), "ours_tflops": round(tflops, 3),
            "matrix_product_tflops": round(self.matrix_tflops, 3), "share": round(tflops / self.matrix_tflops, 3),
            "plain_epochs": [round(one, 2) for one in self.plain], "ours_epochs": [round(one, 2) for one in self.ours],
        }  # fmt: skip


def measure_speed(config: TrainConfig, machine: Machine, slices: int, epochs: int, workers: int = 0) -> Speed:
    """Train the same network on the same made slices by both loops, epoch by epoch in turn, after one to warm up.

    Args:
        config: network, size, batch, augmentation.
        machine: where ours runs; the plain loop runs on the same device in fp32, not compiled. (On CUDA torch lets
            fp32 convolutions take TF32 unless told otherwise; so does the plain loop.)
        slices: of an epoch; made of noise, as speed does not depend on what they show.
        epochs: measured, of each.
        workers: processes that feed the plain loop's DataLoader; 0 feeds it from the training process.
    """
    side = _made(slices, config.size, config.seed)
    plain, ours = _plain_loop(config, machine, side, workers), _our_loop(config, machine, side)
    times: tuple[list[float], list[float]] = ([], [])
    for epoch in range(epochs + 1):
        for loop, own in zip((plain, ours), times, strict=True):
            begun = time.perf_counter()
            loop(epoch)
            _wait(machine)
            if epoch:
                own.append(slices / (time.perf_counter() - begun))
    return Speed(tuple(times[0]), tuple(times[1]), FLOP_FACTOR * forward_flop(config), _matrix_tflops(machine))


def _made(slices: int, size: int, seed: int) -> Side:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.rand((slices, 1, size, size), generator=random)
    lesion = (torch.arange(slices) < slices * LESION_SHARE)[:, None, None, None]
    masks = ((inputs > 0.99) & lesion).to(torch.uint8)
    return Side(tuple(f"000/{number + 1}" for number in range(slices)), inputs, masks)


def _plain_loop(config: TrainConfig, machine: Machine, side: Side, workers: int) -> Callable[[int], None]:
    """As tutorials write it: samples one by one from a DataLoader, mirrored on the host, moved batch by batch."""
    network = build(config.network_settings(), config.seed).to(machine.device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    loader = DataLoader(
        TensorDataset(side.inputs, side.masks), config.batch_size, shuffle=True, collate_fn=_mirrored,
        pin_memory=machine.device.type == "cuda", num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip

    def epoch(number: int) -> None:
        for inputs, masks in loader:
            loss = batch_loss(config.loss, network(inputs.to(machine.device)), masks.to(machine.device))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()

    return epoch


def _mirrored(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    pairs = []
    for one, mask in samples:
        axes = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
        pairs.append((one.flip(axes), mask.flip(axes)))
    inputs, masks = zip(*pairs, strict=True)
    return torch.stack(inputs), torch.stack(masks)


def _our_loop(config: TrainConfig, machine: Machine, side: Side) -> Callable[[int], None]:
    network = build(config.network_settings(), config.seed)
    network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    called, optimiser, placed = prepared(network, machine), optimiser_of(network, config), side.to(machine.device)

    def epoch(number: int) -> None:
        drawn = draw_epoch(config, side.has_lesion, number)
        train_epoch(called, optimiser, config, drawn, placed, machine, number)

    return epoch


def forward_flop(config: TrainConfig) -> float:
    """Floating-point operations of one forward pass of one slice; multiply and add are two."""
    network = build(config.network_settings(), 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, config.size, config.size))
    return float(counter.get_total_flops())


def _matrix_tflops(machine: Machine) -> float:
    """The best of five 4096³ matrix products, in TFLOP/s."""
    form = torch.bfloat16 if machine.bf16 else torch.float32
    one = torch.rand((MATRIX, MATRIX), device=machine.device).to(form)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        _ = one @ one
        _wait(machine)
        seconds.append(time.perf_counter() - begun)
    return 2 * MATRIX**3 / min(seconds) / 1e12


def _wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
