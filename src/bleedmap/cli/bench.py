"""`bleedmap bench`."""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.console import print_json, progress_bar
from bleedmap.cli.options import json_option, threads_option, weights_option

if TYPE_CHECKING:
    from bleedmap.inference.weights import WeightsFile

PARTS = ("network", "study", "growth", "training")
_LABELS = {"network": "The network alone", "study": "A whole study", "growth": "Growing work", "training": "Training"}
_RECORD = "bench.json"
_NEEDS_TRAIN = "needs the extra 'train': pip install 'bleedmap[train]'"


@click.command(short_help="How fast it is here: network, whole study, growing work, training.")
@weights_option
@click.option(
    "--network", type=click.Choice(["model-1", "model-2", "original"]),
    help="In place of weights: a network of the thesis, untrained, for the speed of the network alone.",
)  # fmt: skip
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, help="Only this one; repeat for several. Default: all."
)
@click.option(
    "--repeats", type=click.IntRange(1, 1000), default=5, show_default=True,
    help="Turns of everything that is measured; the median counts.",
)  # fmt: skip
@click.option(
    "--batch", type=click.Choice(["1", "2", "4", "8"]), default="1", show_default=True,
    help="Network: slices that compute as one; in `segment` each computes by itself.",
)  # fmt: skip
@click.option(
    "--shape", type=(click.IntRange(10, 1000), click.IntRange(128, 1024), click.IntRange(128, 1024)),
    metavar="SLICES ROWS COLUMNS", default=(30, 512, 512), show_default=True, help="Of the phantom study.",
)  # fmt: skip
@click.option(
    "--studies", type=click.IntRange(1), default=10, show_default=True,
    help="Growth: the most of a batch, of 1, 10 and 100.",
)  # fmt: skip
@threads_option
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help=f"A new or empty folder for {_RECORD}.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run in that folder.")
@json_option
def command(
    weights: str | None, network: str | None, parts: tuple[str, ...], repeats: int, batch: str,
    shape: tuple[int, int, int], studies: int, threads: int | None, out: Path | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """How fast this program is on this machine; all figures of a run are measured in turn, for ratios within it.

    In: nothing; the head is a phantom. Out: tables, or --json.

    \b
    network   slices/s, one or --batch at a time, of OpenVINO, torch (eager, compiled) and, if installed, ONNX
              Runtime, in fp32 and, where the processor has it, bf16; the ratio to torch eager fp32, the share of
              this machine's own rate in a 4096³ matrix product, the largest difference of a pixel's probability
    study     `bleedmap segment` on a DICOM study: in fresh processes, and warm, by stage; memory
    growth    10 to 400 slices, 128 to 650 pixels, `bleedmap batch` of 1 and 10 studies (--studies 100: and 100)
    training  slices/s of the recipe beside a plain fp32 loop of the same network whose depthwise filters learn

    Growth takes longest, some minutes. Absolute figures are this machine's, under its load of the moment, which is
    stated: compare the ratios.

    \b
    bleedmap bench --part network
    bleedmap bench --network model-2 --batch 8
    bleedmap bench --threads 1 -o bench/
    bleedmap bench --part growth --studies 100 --json
    """
    from bleedmap.bench.machine import describe_machine
    from bleedmap.cli.bench_tables import print_tables
    from bleedmap.inference.backends import check_threads
    from bleedmap.inference.weights import locate
    from bleedmap.io.files import refuse_folder

    check_threads(threads)
    if out is not None:
        refuse_folder(out, overwrite=overwrite)
    if batch != "1" and "network" not in (parts or PARTS):
        raise click.BadParameter("of the network alone: --part network", param_hint="--batch")
    if network is not None:
        parts = _network_alone(weights, parts)
        from bleedmap.bench.torch_backends import untrained

        with tempfile.TemporaryDirectory() as folder:
            chosen = locate(untrained(network, Path(folder)))
    else:
        chosen = locate(weights)
    record: dict[str, Any] = {
        "machine": describe_machine(), "weights": {"name": chosen.name, "sha256": chosen.sha256},
        "threads": threads, "repeats": repeats, "left_out": {},
    }  # fmt: skip
    if "training" in parts:
        import torch  # noqa: F401 - asked for by name: its absence is told at once
    for part in parts or PARTS:
        with progress_bar(_LABELS[part], quiet=as_json) as progress:
            if part == "network":
                record[part] = _network(chosen, threads, repeats, int(batch), record["left_out"], progress)
            elif part == "training":
                _training(record, threads, repeats)
            else:
                record[part] = _studies(part, weights, threads, repeats, shape, studies, progress)
    if out is not None:
        _write(record, out, overwrite)
    if as_json:
        print_json(record)
    else:
        print_tables(record)


def _network_alone(weights: str | None, parts: tuple[str, ...]) -> tuple[str, ...]:
    """The parts that an untrained network can be measured in.

    Raises:
        BadParameter: others were asked for, or weights too.
    """
    if weights is not None:
        raise click.BadParameter("either a network of the thesis or weights, not both", param_hint="--network")
    if set(parts) - {"network"}:
        raise click.BadParameter(
            "an untrained network has a speed and nothing else: --part network", param_hint="--part"
        )
    return ("network",)


def _network(
    weights: "WeightsFile", threads: int | None, repeats: int, batch: int, left_out: dict[str, str], progress: Any
) -> dict[str, Any]:
    from bleedmap.bench.network import base_runners, measure_network

    runners, without = base_runners(weights, threads, batch)
    left_out |= without
    if find_spec("torch") is None:
        left_out["torch"] = _NEEDS_TRAIN
    else:
        from bleedmap.bench.torch_backends import torch_runners

        more, without = torch_runners(weights, threads, batch)
        runners += more
        left_out |= without
    return measure_network(weights, runners, threads, repeats, progress, batch=batch)


def _studies(
    part: str, weights: str | None, threads: int | None, repeats: int, shape: tuple[int, int, int], studies: int,
    progress: Any,
) -> dict[str, Any]:  # fmt: skip
    from bleedmap.bench.study import Load, measure_growth, measure_study

    load = Load(weights, threads)
    if part == "study":
        return measure_study(load, repeats, shape, progress)
    return measure_growth(load, repeats, studies, shape, progress)


def _training(record: dict[str, Any], threads: int | None, repeats: int) -> None:
    if find_spec("torch") is None:
        record["left_out"]["training"] = _NEEDS_TRAIN
        return
    from bleedmap.bench.machine import in_fresh_process
    from bleedmap.bench.training import measure_training
    from bleedmap.training.recipe import RECIPE

    record["training"] = in_fresh_process(measure_training, RECIPE, threads, repeats)


def _write(record: dict[str, Any], out: Path, overwrite: bool) -> None:
    from bleedmap.io.files import folder_written_whole, write_json

    with folder_written_whole(out, overwrite=overwrite) as folder:
        write_json(folder / _RECORD, record)
