"""`bleedmap train`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.console import ProgressBar, explain_interrupt, progress_bar
from bleedmap.cli.options import data_option, device_option, out_option, precision_option, settings_options
from bleedmap.training.config import PRESETS, LiteConfig, TrainConfig

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich import CtIch
    from bleedmap.datasets.splits import Split
    from bleedmap.training.device import Machine
    from bleedmap.training.loop import Report
    from bleedmap.training.run import Run
    from bleedmap.training.samples import Side

LINE_EVERY_S = 30.0  # of progress, where standard error is no terminal


@click.command(
    short_help="Train a network on CT-ICH.",
    epilog="Presets: " + "; ".join(f"{name}, {text}" for name, (text, _) in PRESETS.items()) + ".",
)
@out_option("Folder of the new run.", required=False)
@click.option("--split", "split_file", type=click.Path(path_type=Path), help="Split file, from `bleedmap split`.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Settings to start from; flags change them.")
@click.option("--resume", type=click.Path(path_type=Path), help="Folder of a run to continue, exactly as it was.")
@data_option
@device_option
@precision_option
@click.option("--steps", type=click.IntRange(min=1), help="Presets lite and bone: steps of each stage.")
@settings_options(TrainConfig)
def command(
    out: Path | None, split_file: Path | None, preset: str | None, resume: Path | None, data: Path | None,
    device: str, precision: str, steps: int | None, **settings: Any,
) -> None:  # fmt: skip
    """Train a network on CT-ICH.

    In: the data set and a split file. Out: a run folder with config, split, metrics.jsonl, TensorBoard curves,
    checkpoint.safetensors (to resume) and best.safetensors (best on the validation side).

    The preset lite trains the network that ships, on whole studies of the split's patients, in stages: phantoms,
    patients, patients with painted bleeds, and these with phantoms again; bone is the next recipe, in two stages. Each
    stage has a folder below the run's. Thresholds and calibration are then chosen on the validation side. Of the
    settings below they take --seed alone.

    \b
    bleedmap split --data ct-ich -o split.json
    bleedmap train --data ct-ich --split split.json --preset quick -o runs/quick
    bleedmap train --data ct-ich --split split.json --preset lite -o runs/lite     hours on a CPU
    bleedmap train --data ct-ich --resume runs/quick        continue after a stop
    tensorboard --logdir runs                               look at the curves
    torchrun --nproc-per-node 2 -m bleedmap train …   on several GPUs

    Stop it at any moment: at most the last ten seconds (lite: the last minute) and the epoch under way are lost, and
    the resumed run ends with the same weights. Under torchrun each process takes its share of every batch, with batch
    norm of its share: the weights depend on the number of processes.
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.splits import read_split
    from bleedmap.training.device import choose_machine, keep_memory
    from bleedmap.training.run import Run, open_run

    keep_memory()
    given = {name: value for name, value in settings.items() if value is not None}
    if resume is not None:
        if given or steps or preset or out or split_file or device != "auto" or precision != "auto":
            raise click.UsageError("--resume takes its settings, split and device from the run: leave the others out.")
        run = open_run(resume)
        config, split, machine = run.settings(), run.split(), run.machine()
    else:
        if out is None or split_file is None:
            raise click.UsageError("a new run needs --split FILE and --out FOLDER.")
        machine = choose_machine(device, precision)  # type: ignore[arg-type]
        run = Run(out)
        if machine.rank == 0:  # the others come when it may have begun the run already
            run.refuse_occupied()
        config, split = _change(PRESETS[preset or "thesis"][1], steps, given), read_split(split_file)
    dataset = open_ct_ich(data_root(data))
    split.check_against(dataset)
    if isinstance(config, LiteConfig):
        _train_lite(run, config, split, dataset, machine, begins=resume is None)
        return
    sides = _sides(config, split, dataset, quiet=machine.rank > 0)  # before the run begins: they may be damaged
    if resume is None and machine.rank == 0:
        run.begin(config, split, machine)
    _train(run, config, sides, machine)


def _change(config: TrainConfig | LiteConfig, steps: int | None, given: dict[str, Any]) -> TrainConfig | LiteConfig:
    """A preset with the settings that were given.

    Raises:
        UsageError: settings of the other kind of training.
    """
    if isinstance(config, LiteConfig):
        if others := [f"--{name.replace('_', '-')}" for name in given if name != "seed"]:
            raise click.UsageError(f"a preset in stages takes --seed and --steps, not {', '.join(others)}.")
        return config.change(seed=given.get("seed"), steps=steps)
    if steps is not None:
        raise click.UsageError("--steps is for presets in stages (lite, bone); the others count --epochs.")
    return replace(config, **given)


def _train_lite(
    run: "Run", config: LiteConfig, split: "Split", dataset: "CtIch", machine: "Machine", *, begins: bool
) -> None:  # fmt: skip
    from bleedmap.folds.run import check_choices, choose_for_run
    from bleedmap.io.files import output_error
    from bleedmap.training.loop import start_together
    from bleedmap.training.steps import PoolSource, train_stages

    leads, patients = machine.rank == 0, tuple(int(one) for one in split.patients("train"))
    check_choices(dataset, split)
    with (
        explain_interrupt(f"continue with: bleedmap train --resume {run.folder}"),
        ProgressBar(quiet=not leads, line_every_s=LINE_EVERY_S) as bar,
    ):
        source = PoolSource(dataset, None, bar.report)
        if begins:
            source.read_patients(next(recipe for _, recipe in config.stages if recipe.lesion))  # may be damaged
            if leads:
                run.begin(config, split, machine)
        start_together(machine)
        if leads:
            click.echo(f"whole studies of {len(patients)} patients, {machine.describe()}", err=True)
        try:
            network = train_stages(run, config, source, patients, machine)
            if leads and not run.best_file.is_file():
                choose_for_run(run, config, dataset, network, bar.report)
        except OSError as error:  # a full disk, met by TensorBoard
            raise output_error(run.folder, error) from error
    if leads:
        threshold = run.best()[1].record["export"]["threshold"]
        click.echo(f"{run.folder}: all {len(config.stages)} stages; pixels are marked from {threshold:g} on")


def _train(run: "Run", config: TrainConfig, sides: "tuple[Side, Side]", machine: "Machine") -> None:
    from bleedmap.io.files import output_error
    from bleedmap.training.loop import start_together
    from bleedmap.training.passes import train_passes

    leads = machine.rank == 0
    start_together(machine)
    if leads:
        counts = f"{len(sides[0].ids):,} training and {len(sides[1].ids):,} validation slices"
        click.echo(f"{config.network}, {counts}, split by {run.split().kind}, {machine.describe()}", err=True)
    try:
        with (
            explain_interrupt(f"continue with: bleedmap train --resume {run.folder}"),
            ProgressBar(quiet=not leads) as bar,
        ):
            train_passes(run, config, *sides, machine, _report_epochs(bar, config.epochs))
    except OSError as error:  # a full disk, met by TensorBoard
        raise output_error(run.folder, error) from error
    if leads and (entries := run.metrics()):
        best = max(entries, key=lambda entry: entry.get("validation_dice", -1.0))  # the first of equals, as kept
        dice = best.get("validation_dice", float("nan"))
        click.echo(f"{run.folder}: best validation Dice {dice:.3f} (pooled pixels) at epoch {best['epoch']}")


def _sides(config: TrainConfig, split: "Split", dataset: "CtIch", *, quiet: bool) -> "tuple[Side, Side]":
    from bleedmap.training.samples import join_sides, load_phantom_side, load_side

    settings = config.preprocessing()
    with progress_bar("reading slices", quiet=quiet) as report:
        loaded = load_side(dataset, [*split.train, *split.validation], settings, report)
    training, validation = loaded.split_at(len(split.train))
    if config.phantoms:
        with progress_bar("making phantoms", quiet=quiet) as report:
            training = join_sides(training, load_phantom_side(config.phantoms, settings, config.seed, report))
    return training, validation


def _report_epochs(bar: ProgressBar, epochs: int) -> "Report":
    """Epochs on the bar, the last metrics behind it; where standard error is no terminal, a line for each epoch."""
    last = ""

    def report(done: float, entry: dict[str, Any]) -> None:
        nonlocal last
        if entry:
            last = f"loss {entry['loss']:.3f}"
            if "validation_dice" in entry:
                last += f"  validation Dice {entry['validation_dice']:.3f}"
            bar.log(f"epoch {done:.0f}/{epochs}  {last}  {entry['seconds']:.1f} s")
        bar.report("epochs", done, epochs, last)

    return report
