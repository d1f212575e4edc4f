"""`bleedmap bench`: measuring, and a table for each part."""

import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from bleedmap.cli import options
from bleedmap.cli.console import make_table, or_dash, print_json, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from bleedmap.inference.weights import WeightsFile

PARTS = ("network", "study", "growth", "training")
_LABELS = {"network": "The network alone", "study": "A whole study", "growth": "Growing work", "training": "Training"}
_NEEDS_TRAIN = "needs the extra 'train': pip install 'bleedmap[train]'"


@click.command()
@options.weights_option
@click.option(
    "--network", type=click.Choice(["model-1", "model-2", "original"]),
    help="Measure an untrained network of the thesis instead of weights; only its own speed can be measured.",
)  # fmt: skip
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True,
    help="Measure only this part. Repeat for several. Not given: all.",
)  # fmt: skip
@click.option(
    "--repeats", type=click.IntRange(1, 1000), default=5, show_default=True,
    help="How often everything is measured; the median counts.",
)  # fmt: skip
@options.choice_option(
    "--batch", ("1", "2", "4", "8"),
    "Part network: slices computed together. `bleedmap segment` computes each by itself.",
)  # fmt: skip
@click.option(
    "--shape", type=(click.IntRange(10, 1000), click.IntRange(128, 1024), click.IntRange(128, 1024)),
    metavar="SLICES ROWS COLUMNS", default=(30, 512, 512), show_default=True,
    help="Size of the phantom study.",
)  # fmt: skip
@click.option(
    "--studies", type=click.IntRange(1), default=10, show_default=True,
    help="Part growth: the largest batch to measure, of 1, 10 and 100 studies.",
)  # fmt: skip
@options.threads_option
@options.out_option("A new or empty folder for bench.json.", required=False)
@options.overwrite_option
@options.json_option
def command(
    weights: str | None, network: str | None, parts: tuple[str, ...], repeats: int, batch: str,
    shape: tuple[int, int, int], studies: int, threads: int | None, out: Path | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure how fast bleedmap is on this machine.

    In: nothing; the head is a phantom. Out: tables or, with --json, one record.

    \b
    network   slices per second, one at a time or --batch at a time, in OpenVINO, torch (eager and compiled) and, if
              installed, ONNX Runtime, in fp32 and, if the processor supports it, bf16; the ratio to torch eager
              fp32, the share of this machine's own rate in a 4096³ matrix product, and the largest difference of
              a pixel's probability
    study     `bleedmap segment` on a DICOM study: in a fresh process, and warm with the time of each stage; memory
    growth    10 to 400 slices, 128 to 650 pixels, `bleedmap batch` of 1 and 10 studies (and 100 with --studies 100)
    training  slices per second of our recipe and of a plain fp32 loop that trains the depthwise filters too

    Growth takes longest, some minutes. Everything is measured in turn, so that ratios within one run are reliable.
    Absolute figures hold for this machine under its present load, which is stated.

    \b
    bleedmap bench --part network
    bleedmap bench --network model-2 --batch 8
    bleedmap bench --threads 1 -o bench/
    bleedmap bench --part growth --studies 100 --json
    """
    from bleedmap.bench.machine import describe_machine
    from bleedmap.bench.study import Load, measure_growth, measure_study
    from bleedmap.inference.backends import check_threads
    from bleedmap.inference.weights import locate
    from bleedmap.io.files import folder_written_whole, refuse_folder, write_json

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
    load = Load(weights, threads)
    record: dict[str, Any] = {
        "machine": describe_machine(), "weights": {"name": chosen.name, "sha256": chosen.sha256},
        "threads": threads, "repeats": repeats, "left_out": {},
    }  # fmt: skip
    if "training" in parts:
        import torch  # noqa: F401 - asked for by name: it fails at once where it is missing
    for part in parts or PARTS:
        with progress_bar(_LABELS[part], quiet=as_json) as progress:
            if part == "network":
                record[part] = _measure_network(chosen, threads, repeats, int(batch), record["left_out"], progress)
            elif part == "training":
                _measure_training(record, threads, repeats)
            else:
                measure: Any = measure_study if part == "study" else partial(measure_growth, studies=studies)
                record[part] = measure(load, repeats, shape=shape, progress=progress)
    if out is not None:
        with folder_written_whole(out, overwrite=overwrite) as folder:
            write_json(folder / "bench.json", record)
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


def _measure_network(
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


def _measure_training(record: dict[str, Any], threads: int | None, repeats: int) -> None:
    if find_spec("torch") is None:
        record["left_out"]["training"] = _NEEDS_TRAIN
        return
    from bleedmap.bench.machine import in_fresh_process
    from bleedmap.bench.training import measure_recipe
    from bleedmap.training.config import RECIPE

    record["training"] = in_fresh_process(measure_recipe, RECIPE, threads, repeats)


def print_tables(record: dict[str, Any]) -> None:
    """Print the machine, a table for each part that was measured, and what was left out."""
    print_line(escape(_machine_line(record)))
    tables = {"network": _network_table, "study": _study_table, "growth": _growth_table, "training": _training_table}
    for part, table in tables.items():
        if part in record:
            print_line()
            print_table(table(record[part]))
    for name, why in record["left_out"].items():
        print_line(f"[dim]left out: {escape(name)}: {escape(why)}[/]")


def _machine_line(record: dict[str, Any]) -> str:
    """The machine that was measured, in a line."""
    machine = record["machine"]
    threads = f"{record['threads'] or 'own choice'} of {machine['threads']}"
    load = "" if machine["load"] is None else f"; load at the start {machine['load']:.1f}"
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    return (
        f"{machine['processor']}, threads: {threads}, {machine['memory_gib'] or '?'} GiB{load}; {versions}; "
        f"weights {record['weights']['name']}; medians of {record['repeats']}"
    )


def _network_table(found: dict[str, Any]) -> Table:
    at_a_time = "a slice" if found["batch"] == 1 else f"{found['batch']} slices"
    title = f"The network alone, {at_a_time} at a time: {_times(found['input'])}, {found['gflop_per_slice']:.2f} GFLOP"
    rows = (
        (
            f"{one['name']} {one['precision']}", f"{one['slices_per_s']:,.1f}", f"{one['ms_per_slice']:,.1f}",
            f"{one['tflops']:.3f}", f"{one['share']:.0%}", f"{one['ratio']:.2f}", f"{one['largest_difference']:.1e}",
        )
        for one in found["backends"]
    )  # fmt: skip
    heads = ("", ">Slices/s", ">ms", ">TFLOP/s", ">Share", ">Ratio", ">Difference")
    table = make_table(*heads, rows=rows, title=title)
    rates = "; ".join(
        f"{rate:.3f} TFLOP/s in {form}, {found['matrix_product_ratios'][form]:.1f} × {found['reference']}"
        for form, rate in found["matrix_product_tflops"].items()
    )
    table.caption = (
        f"Share: of this machine's own matrix product: {rates}. Ratio and largest difference of a probability: against "
        f"{found['reference']}."
    )
    if found["batch"] == 1:
        table.caption += " OpenVINO has as many slices under way as in `segment`, the others one."
    return table


def _study_table(found: dict[str, Any]) -> Table:
    cold, warm = found["cold"], found["warm"]
    rows = [
        ("a fresh process", f"{cold['seconds']:.2f}", "", _mib(cold["peak_mib"])),
        ("warm", f"{warm['seconds']:.2f}", "", _mib(warm["peak_mib"])),
        *(
            (f"  {name.replace('_', ' ')}", f"{seconds:.2f}", f"{warm['shares'][name]:.0%}", "")
            for name, seconds in warm["parts_s"].items()
        ),
    ]
    return make_table("", ">Seconds", ">Share", ">MiB", rows=rows, title=f"A whole study: {_times(found['shape'])}")


def _growth_table(found: dict[str, Any]) -> Table:
    table = make_table("", ">Seconds", ">Each", ">MiB", title="Growing work")
    for key, number in (("slices", 0), ("pixels", 1)):
        for one in found[key]:
            each = f"{1e3 * one['seconds'] / one['shape'][0]:,.0f} ms a slice"
            name = f"{one['shape'][number]} {key}: {_times(one['shape'])}, warm"
            table.add_row(name, f"{one['seconds']:.2f}", each, _mib(one["peak_mib"]))
    for one in found["studies"]:
        several = f"{one['processes']} fresh processes, MiB of the first"
        name = f"batch of {one['studies']}, {several if one['processes'] > 1 else 'a fresh process'}"
        each = f"{one['seconds_per_study']:.2f} s a study"
        table.add_row(name, f"{one['seconds']:.2f}", each, _mib(one["peak_mib"]))
    return table


def _training_table(found: dict[str, Any]) -> Table:
    rows = [
        ("a plain loop, fp32, depthwise filters learn", f"{found['plain_slices_per_s']:.1f}", "1.00"),
        (f"the recipe, {found['machine']}", f"{found['ours_slices_per_s']:.1f}", f"{found['ratio']:.2f}"),
    ]
    title = f"Training, {found['size']}×{found['size']}, batch {found['batch']}"
    return make_table("", ">Slices/s", ">Ratio", rows=rows, title=title)


def _times(shape: list[int]) -> str:
    return " × ".join(map(str, shape))


def _mib(peak: float | None) -> str:
    return or_dash(peak, ",.0f")
