"""`bleedmap train`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.console import ProgressBar, explain_interrupt, progress_bar
from bleedmap.cli.options import (
    data_option,
    device_option,
    precision_option,
    settings_options,
)
from bleedmap.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich import CtIch
    from bleedmap.datasets.splits import Split
    from bleedmap.training.data import Side
    from bleedmap.training.device import Machine
    from bleedmap.training.run import Run


@click.command(
    short_help="Train a network on CT-ICH.",
    epilog="Presets: " + "; ".join(f"{name}, {text}" for name, (text, _) in PRESETS.items()) + ".",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the new run.")
@click.option("--split", "split_file", type=click.Path(path_type=Path), help="Split file, from `bleedmap split`.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Settings to start from; flags change them.")
@click.option("--resume", type=click.Path(path_type=Path), help="Folder of a run to continue, exactly as it was.")
@data_option
@device_option
@precision_option
@settings_options(TrainConfig)
def command(
    out: Path | None, split_file: Path | None, preset: str | None, resume: Path | None, data: Path | None,
    device: str, precision: str, **settings: Any,
) -> None:  # fmt: skip
    """Train a network on CT-ICH.

    In: the data set and a split file. Out: a run folder with config, split, metrics.jsonl, TensorBoard curves,
    checkpoint.safetensors (to resume) and best.safetensors (best on the validation side).

    \b
    bleedmap split --data ct-ich -o split.json
    bleedmap train --data ct-ich --split split.json --preset quick -o runs/quick
    bleedmap train --data ct-ich --resume runs/quick        continue after a stop
    tensorboard --logdir runs                               look at the curves
    torchrun --nproc-per-node 2 -m bleedmap.cli.main train …   on several GPUs

    Stop it at any moment: at most the last ten seconds and the epoch under way are lost, and the resumed run
    ends with the same weights.
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.splits import read_split
    from bleedmap.training.device import choose_machine, keep_memory
    from bleedmap.training.run import Run, open_run

    keep_memory()
    given = {name: value for name, value in settings.items() if value is not None}
    if resume is not None:
        if given or preset or out or split_file or device != "auto" or precision != "auto":
            raise click.UsageError("--resume takes its settings, split and device from the run: leave the others out.")
        run = open_run(resume)
        config, split, machine = run.config(), run.split(), run.machine()
    else:
        if out is None or split_file is None:
            raise click.UsageError("a new run needs --split FILE and --out FOLDER.")
        machine = choose_machine(device, precision)  # type: ignore[arg-type]
        run = Run(out)
        if machine.rank == 0:  # the others come when it may have begun the run already
            run.refuse_occupied()
        config, split = replace(PRESETS[preset or "thesis"][1], **given), read_split(split_file)
    dataset = open_ct_ich(data_root(data))
    split.check_against(dataset)
    sides = _sides(config, split, dataset, quiet=machine.rank > 0)  # before the run begins: they may be damaged
    if resume is None and machine.rank == 0:
        run.begin(config, split, machine)
    _train(run, config, sides, machine)


def _train(run: "Run", config: TrainConfig, sides: "tuple[Side, Side]", machine: "Machine") -> None:
    from bleedmap.io.files import output_error
    from bleedmap.training.loop import start_together, train

    leads = machine.rank == 0
    start_together(machine)
    if leads:
        counts = f"{len(sides[0].ids):,} training and {len(sides[1].ids):,} validation slices"
        click.echo(f"{config.network}, {counts}, split by {run.split().kind}, {machine.describe()}", err=True)
    try:
        with (
            explain_interrupt(f"continue with: bleedmap train --resume {run.folder}"),
            _TrainingBar(config, quiet=not leads) as bar,
        ):
            train(run, config, *sides, machine, bar.report)
    except OSError as error:  # a full disk, met by TensorBoard
        raise output_error(run.folder, error) from error
    if leads and (entries := run.metrics()):
        best = max(entries, key=lambda entry: entry.get("validation_dice", -1.0))  # the first of equals, as kept
        dice = best.get("validation_dice", float("nan"))
        click.echo(f"{run.folder}: best validation Dice {dice:.3f} (pooled pixels) at epoch {best['epoch']}")


def _sides(config: TrainConfig, split: "Split", dataset: "CtIch", *, quiet: bool) -> "tuple[Side, Side]":
    from bleedmap.training.data import joined, load_phantoms, load_side

    settings = config.preprocessing()
    with progress_bar("reading slices", quiet=quiet) as report:
        loaded = load_side(dataset, [*split.train, *split.validation], settings, report)
    training, validation = loaded.parted(len(split.train))
    if config.phantoms:
        with progress_bar("making phantoms", quiet=quiet) as report:
            training = joined(training, load_phantoms(config.phantoms, settings, config.seed, report))
    return training, validation


class _TrainingBar:
    """Epochs on a bar, the last metrics behind it; where standard error is no terminal, a line for each epoch."""

    def __init__(self, config: TrainConfig, *, quiet: bool) -> None:
        self.epochs, self.steps, self.last = config.epochs, 0, ""
        self.bar = ProgressBar(quiet=quiet)

    def __enter__(self) -> "_TrainingBar":
        self.bar.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.__exit__(*exception)

    def report(self, epoch: int, step: int, entry: dict[str, Any]) -> None:
        """Show an epoch's steps; `entry` holds its metrics once it has ended."""
        done = float(epoch)
        if entry:
            self.last = f"loss {entry['loss']:.3f}"
            if "validation_dice" in entry:
                self.last += f"  validation Dice {entry['validation_dice']:.3f}"
            self.bar.log(f"epoch {epoch}/{self.epochs}  {self.last}  {entry['seconds']:.1f} s")
        else:
            self.steps = max(self.steps, step)
            done += step / (self.steps + 1) - 1
        self.bar.report("epochs", done, self.epochs, self.last)
