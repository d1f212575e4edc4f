"""Experiments of `bleedmap reproduce` on a Ray cluster."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from bleedmap.cli.console import ProgressBar, explain_interrupt

ray_option = click.option(
    "--ray", metavar="ADDRESS",
    help="Have a Ray cluster train side by side, each training on a GPU where there are GPUs: HOST:PORT of its head, "
    "auto or local. Needs the extra ray.",
)  # fmt: skip
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="With --ray: CPUs of each training."
)


def run_on_cluster(
    address: str, out: Path, data: Path | None, load: Callable[[Path, str], Callable[[Any], str]],
    waves: Sequence[Sequence[Any]], *, device: str, threads: int, memory: int,
) -> None:  # fmt: skip
    """Have cells of an experiment run by a cluster, so that they are there when this process looks for them.

    Args:
        address: as `cluster.connect` takes it.
        out: the experiment's folder, which all nodes share.
        data: as `data_root` takes it.
        load: called in each actor with the data set's folder and this run's name, which `try_cell` takes; gives what
            runs a cell there and returns its name.
        waves: cells to be run side by side; each wave needs those before.
        threads: CPUs of a cell.
        memory: of a cell, in bytes.
    """
    from bleedmap.archive.workers import Share, guard_local_cluster

    guard_local_cluster(address)
    from bleedmap.archive.cluster import Cluster, connect, has_gpus
    from bleedmap.datasets.ct_ich import data_root

    root, done, of = data_root(data), list[str](), sum(map(len, waves))
    with explain_interrupt(), connect(address), ProgressBar(line_every_s=30) as bar:
        gpus = int(device in ("auto", "cuda") and has_gpus())
        cluster, load_here = Cluster(out, [root], bar.warn), partial(load, root, uuid4().hex)

        def show(actor: int, name: str) -> None:
            done.append(name)
            bar.report("Trainings", len(done), of, f"done: {name}")

        for wave in waves:
            cluster.run(load_here, wave, show, Share(threads, gpus, memory, most=len(wave), ahead=1))
