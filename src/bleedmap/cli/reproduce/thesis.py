"""`bleedmap reproduce thesis`."""

import importlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli import options
from bleedmap.cli.console import ProgressBar, explain_interrupt, print_json, print_line, print_rows, progress_bar
from bleedmap.cli.reproduce.cluster import ray_option, run_on_cluster, threads_option
from bleedmap.errors import SettingsError

if TYPE_CHECKING:
    from bleedmap.archive.ledger import Job
    from bleedmap_thesis.plan import Cell, Scale
    from bleedmap_thesis.runner import CellRunner

PARTS = ("grid", "folds", "factors")
_MEMORY = 4 << 30  # of a cell's process
STATES = ("done", "running", "begun", "open")


@click.command()
@options.out_option("Folder of results, runs and report.")
@click.option(
    "--scale", "scale_name", type=click.Choice(["auto", "full", "medium", "small", "trial"]), default="auto",
    show_default=True,
    help="Size of the experiment. full: the thesis' own, for a GPU. medium, small: for a CPU, reported separately. "
    "trial: only shows in minutes how the command works. auto: full if there is a GPU, else small.",
)  # fmt: skip
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, help="Run only this part. Repeat for several."
)
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="Run only cells with this label. Repeat for several."
)
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=1, show_default=True,
    help="Number of repetitions, with seeds from 0.",
)  # fmt: skip
@click.option(
    "--each-alone", is_flag=True, help="Train each cell of Table 1 in its own run, not one run for each curve."
)
@click.option("--status", "only_status", is_flag=True, help="Only show which cells are done.")
@click.option("--report-only", is_flag=True, help="Only write the report from the finished cells.")
@ray_option
@threads_option
@options.data_option
@options.device_option
@options.precision_option
@options.json_option
def command(
    out: Path, scale_name: str, parts: tuple[str, ...], methods: tuple[str, ...], seeds: int, each_alone: bool,
    only_status: bool, report_only: bool, ray: str | None, threads: int, data: Path | None, device: str, precision: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Run the thesis' experiment on the real data and write its report.

    In: CT-ICH. Out: OUT/report with report.html (complete in one file), report.json and tables as CSV; OUT/results with
    a small file for each finished cell, from which the report is made; and OUT/runs with the networks.

    \b
    bleedmap reproduce thesis -o thesis --status          which cells are done
    bleedmap reproduce thesis -o thesis                   run what is missing, then write the report
    bleedmap reproduce thesis -o thesis --part grid --seeds 3
    bleedmap reproduce thesis -o thesis --report-only
    bleedmap reproduce thesis -o thesis --ray auto        cells side by side on a Ray cluster

    You can stop at any moment and give the same command again: finished cells stay, and the current one continues to
    the same result (exactly on a CPU, up to rounding on a GPU). Several commands may share OUT and divide the cells
    between them; on a CPU, two with OMP_NUM_THREADS=1 are faster than one with two threads. On a CPU the small scale
    takes some hours; its figures are not those of the thesis and are never in one table with them.
    """
    plan = load_thesis("plan")
    scale = plan.SCALES[_choose_scale(device) if scale_name == "auto" else scale_name]
    chosen = tuple(part for part in PARTS if part in parts) or PARTS
    every = plan.cells(scale, chosen, seeds, alone=each_alone)
    if unknown := set(methods) - (known := {cell.label for cell in every}):
        raise click.UsageError(f"no cell is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    planned = [cell for cell in every if not methods or cell.label in methods]
    if only_status:
        _status(out, scale, planned, as_json)
        return
    if not report_only:
        _run(out, planned, data, device, precision, ray, threads)
    _report(out, planned, data, as_json)


def load_thesis(module: str) -> Any:
    """Load a module of `bleedmap_thesis` by name: the package stands beside this one, which does not need it.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(f"bleedmap_thesis.{module}")
    except ModuleNotFoundError as error:
        if error.name != "bleedmap_thesis":
            raise
        raise SettingsError(
            "the thesis' experiment", found="the package 'bleedmap_thesis' is not installed",
            needed="a bleedmap that came with it",
            remedy="install bleedmap from its wheel or its repository, which hold both packages",
        ) from error  # fmt: skip


def _choose_scale(device: str) -> str:
    """Choose the full scale where there is a GPU to afford it."""
    import torch

    return "full" if device in ("auto", "cuda") and torch.cuda.is_available() else "small"


def _run(
    out: Path, planned: "Sequence[Cell]", data: Path | None, device: str, precision: str, ray: str | None, threads: int
) -> None:
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.io.files import refuse_folder
    from bleedmap.training.device import choose_machine, keep_memory

    keep_memory()
    thesis = load_thesis("runner")
    open_cells = [cell for cell in planned if not thesis.result_file(out, cell).exists()]
    if not open_cells:
        return
    refuse_folder(out / "report", overwrite=True)  # the report comes last: what would stop it is better met now
    thesis.read_results(out)
    if ray is not None:
        load = partial(_open_on_node, out, device, precision)
        run_on_cluster(ray, out, data, load, [open_cells], device=device, threads=threads, memory=_MEMORY)
        return
    machine = choose_machine(device, precision)  # type: ignore[arg-type]
    if machine.processes > 1:
        raise click.UsageError("torchrun is for `bleedmap train`; here start the command several times instead.")
    runner = thesis.CellRunner(out, open_ct_ich(data_root(data)), machine)
    with explain_interrupt():
        _run_cells(runner, open_cells, len(planned))


def _open_on_node(out: Path, device: str, precision: str, root: Path, run: str) -> "Callable[[Cell], str]":
    """Open the data set in an actor of a cluster; return what runs a cell there."""
    from bleedmap.datasets.ct_ich import open_ct_ich
    from bleedmap.training.device import choose_machine, keep_memory

    keep_memory()
    machine = choose_machine(device, precision)  # type: ignore[arg-type]
    return partial(load_thesis("runner").CellRunner(out, open_ct_ich(root), machine).run_beside_others, run)


def _run_cells(runner: "CellRunner", open_cells: "Sequence[Cell]", total: int) -> None:
    from bleedmap.archive.workers import run_jobs

    thesis = load_thesis("runner")
    done, by_key = total - len(open_cells), {cell.key: cell for cell in open_cells}
    with ProgressBar() as bar:

        def show(what: str, at: int, of: int) -> None:
            bar.report(f"cell {done + 1} of {total}: {what}", at, of)

        def do(job: "Job") -> None:
            nonlocal done
            result = runner.run(by_key[job.key], show)  # from its file where another command has just done it
            done += 1
            bar.log(f"{done}/{total} {job.key} {result.made['seconds']:.0f} s")

        ledger, jobs = thesis.cell_ledger(runner.folder), [thesis.make_job(cell) for cell in open_cells]
        elsewhere = run_jobs(ledger, jobs, do, lambda job: False, wait=False)
        if elsewhere:
            bar.warn(f"waiting for another command: {', '.join(job.key for job in elsewhere)}")
        run_jobs(ledger, elsewhere, do, lambda job: False, wait=True)


def _status(out: Path, scale: "Scale", planned: "Sequence[Cell]", as_json: bool) -> None:
    runner = load_thesis("runner")
    state = {cell.key: runner.find_state(out, cell) for cell in planned}
    if as_json:
        print_json({"scale": scale.name, "cells": state})
        return
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for cell in planned:
        label = "2^(6-2) design" if cell.part == "factors" else cell.label
        groups.setdefault((cell.part, label, cell.kind), Counter())[state[cell.key]] += 1
    rows = (
        (part, label, f"by {kind}", *(str(counts[name] or "") for name in STATES))
        for (part, label, kind), counts in groups.items()
    )
    print_line(f"Scale {scale.name}: {scale.text}.")
    print_rows("Part", "Cells", "Split", *(f">{one.capitalize()}" for one in STATES), rows=rows)
    print_line(f"{sum(value == 'done' for value in state.values())} of {len(state)} cells are done.")


def _report(out: Path, planned: "Sequence[Cell]", data: Path | None, as_json: bool) -> None:
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.errors import InputError

    thesis, runner = load_thesis("report"), load_thesis("runner")
    results = runner.read_results(out)
    if not results:
        raise InputError(
            out / "results", found="no finished cell", needed="the result of one cell or more",
            remedy="run the command without --report-only, or give the folder that holds results/",
        )  # fmt: skip
    dataset = open_ct_ich(data_root(data)) if data is not None or os.environ.get("BLEEDMAP_DATA") else None
    with runner.cell_ledger(out).lock("report", wait=True), progress_bar("report") as report:
        sources = thesis.Sources(dataset, lambda cell: runner.open_run(out, cell), lambda what, at, of: report(at, of))
        page = thesis.write_report(results, planned, out / "report", sources)
    if as_json:
        click.echo((page.parent / "report.json").read_text("utf-8"))
    else:
        click.echo(f"{page}: report of {len(results)} finished cells")
