"""`bleedmap reproduce speed`."""

from typing import Any

import click

from bleedmap.cli import options
from bleedmap.cli.console import print_json
from bleedmap.models.networks import NETWORKS


@click.command()
@click.option(
    "--network",
    type=click.Choice(list(NETWORKS)),
    default="model-2",
    show_default=True,
    help="Network of the thesis to train.",
)
@click.option(
    "--width", type=click.FloatRange(0, 8, min_open=True), default=1.0, show_default=True, help="Factor on the filters."
)
@click.option("--size", type=click.IntRange(32, 1024), default=256, show_default=True, help="Rows and columns.")
@click.option("--batch-size", type=click.IntRange(1, 1024), default=32, show_default=True, help="Slices a step.")
@click.option("--slices", type=click.IntRange(1), default=512, show_default=True, help="Slices in each epoch.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Epochs that are measured of each loop, after a first one.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    default=0,
    show_default=True,
    help="Worker processes of the plain DataLoader.",
)
@options.device_option
@options.precision_option
@options.json_option
def command(
    network: str, width: float, size: int, batch_size: int, slices: int, epochs: int, workers: int, device: str,
    precision: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure training slices per second: this program's loop beside a plain one, in one run.

    In: nothing; slices of noise are made. Out: slices/s of both, epoch by epoch in turn, their ratio, and the share of
    the machine's own rate in a 4096³ matrix product. The plain loop is the same network in fp32 (on CUDA with TF32
    convolutions, torch's default), eager, fed by a DataLoader that mirrors each sample on the host.

    \b
    bleedmap reproduce speed                                       on a GPU: the thesis' own size
    bleedmap reproduce speed --width 0.125 --size 128 --slices 128   on two CPU cores: about a minute
    """
    from bleedmap.bench.training import measure_passes
    from bleedmap.training.config import TrainConfig
    from bleedmap.training.device import choose_machine, keep_memory

    keep_memory()
    config = TrainConfig(network=network, width=width, size=size, batch_size=batch_size)
    machine = choose_machine(device, precision)  # type: ignore[arg-type]
    found = measure_passes(config, machine, slices, epochs, workers)
    settings = {"network": network, "width": width, "size": size, "batch_size": batch_size, "slices": slices,
                "plain_workers": workers}  # fmt: skip
    found = {"machine": machine.describe(), **settings, **found}
    print_json(found) if as_json else click.echo(_describe(found))


def _describe(found: dict[str, Any]) -> str:
    plain, ours = found["plain_slices_per_s"], found["ours_slices_per_s"]
    return (
        f"{found['network']}, width {found['width']:g}, {found['size']}×{found['size']}, batch {found['batch_size']}\n"
        f"plain loop   {plain:10.1f} training slices/s   (fp32, eager, DataLoader, {found['plain_workers']} workers)\n"
        f"this program {ours:10.1f} training slices/s   ({found['machine']})\n"
        f"ratio        {found['ratio']:10.2f}   (medians of {len(found['ours_epochs'])} epochs each, in turn)\n"
        f"this program computes {found['ours_tflops']} TFLOP/s, {found['share']:.0%} of this machine's own "
        f"{found['matrix_product_tflops']} in a 4096³ matrix product"
    )
