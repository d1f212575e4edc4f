"""`bleedmap train`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli import options
from bleedmap.cli.console import ProgressBar, explain_interrupt, progress_bar
from bleedmap.training.config import PRESETS, LiteConfig, TrainConfig

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich import CtIch
    from bleedmap.datasets.splits import Split
    from bleedmap.evaluation.studies.find import NoMask
    from bleedmap.folds.own_studies import OwnPlaces, OwnReading
    from bleedmap.folds.run import Material
    from bleedmap.models.checkpoint import Checkpoint
    from bleedmap.training.config import Recipe
    from bleedmap.training.device import Machine
    from bleedmap.training.loop import Report
    from bleedmap.training.run import Run
    from bleedmap.training.samples import Side
    from bleedmap.training.steps import PoolSource

LINE_EVERY_S = 30.0  # of progress, where standard error is no terminal


@click.command(epilog="Presets: " + "; ".join(f"{name}, {text}" for name, (text, _) in PRESETS.items()) + ".")
@options.out_option("Folder of the new run.", required=False)
@click.option("--split", "split_file", type=click.Path(path_type=Path), help="Split file, from `bleedmap split`.")
@options.path_option(
    "--studies", text="Train on a folder of head CTs with reference masks, in place of a split of CT-ICH."
)
@options.path_option("--masks", text="With --studies: the folder of the masks, if they are not in the images' folders.")
@options.mask_name_option
@options.mask_label_option
@options.patients_option
@options.path_option(
    "--test", text="With --studies: a CSV with the column patient or study; these patients are never read."
)
@click.option(
    "--validation", type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="With --studies: part of the patients on whom thresholds are chosen. Not given: 0.2.",
)  # fmt: skip
@click.option("--start", metavar="WEIGHTS", help="With --studies: go on from these weights, by the last stage alone.")
@options.choice_option(
    "--no-mask-means", ("unknown", "lesion-free"), "With --studies: what a study without a mask file is."
)
@options.window_option
@options.accept_option
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Settings to start from; flags change them.")
@click.option("--resume", type=click.Path(path_type=Path), help="Folder of a run to continue, exactly as it was.")
@options.data_option
@options.device_option
@options.precision_option
@click.option("--steps", type=click.IntRange(min=1), help="Presets lite, bone, balanced and fine: steps of each stage.")
@options.settings_options(TrainConfig)
def command(
    out: Path | None, split_file: Path | None, studies: Path | None, masks: Path | None, mask_name: str | None,
    mask_labels: tuple[int, ...], patients: Path | None, test: Path | None, validation: float | None,
    start: str | None, no_mask_means: "NoMask", window: tuple[float, float] | None, accept: tuple[str, ...],
    preset: str | None, resume: Path | None, data: Path | None, device: str, precision: str, steps: int | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Train a network on CT-ICH, or on your own studies with masks.

    In: the data set and a split file, or a folder of studies. Out: a run folder with config, split, metrics.jsonl,
    TensorBoard curves, checkpoint.safetensors (to resume) and best.safetensors (best on the validation side).

    The preset lite trains the network that ships, on whole studies, in stages: phantoms, patients, patients with
    painted bleeds, and these with phantoms again; bone, balanced and fine are other recipes for it, in two stages. Each
    stage has a folder below the run's. Thresholds and calibration are then chosen on the validation side. Of the
    settings below they take --seed alone.

    Studies of your own lie as `bleedmap evaluate --studies` reads them. They are split by patient, by --seed: no
    patient is both trained and validated on, nor tested. The run keeps hashes of them, no names. With --data the
    patients of CT-ICH are trained on too.

    \b
    bleedmap split --data ct-ich -o split.json
    bleedmap train --data ct-ich --split split.json --preset quick -o runs/quick
    bleedmap train --data ct-ich --split split.json --preset lite -o runs/lite     hours on a CPU
    bleedmap train --studies hospital --start ct-ich-lite -o runs/own              your own masks
    bleedmap train --data ct-ich --resume runs/quick        continue after a stop
    tensorboard --logdir runs                               look at the curves
    torchrun --nproc-per-node 2 -m bleedmap train …   on several GPUs

    Stop it at any moment: at most the last ten seconds (lite: the last minute) and the epoch under way are lost, and
    the resumed run ends with the same weights. Under torchrun each process takes its share of every batch, with batch
    norm of its share: the weights depend on the number of processes.
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.splits import read_split
    from bleedmap.folds.own_studies import OwnPlaces, OwnReading
    from bleedmap.training.device import choose_machine, keep_memory
    from bleedmap.training.run import Run, open_run

    keep_memory()
    given = {name: value for name, value in settings.items() if value is not None}
    of_studies = (masks, mask_name, patients, test, validation, start, window) != (None,) * 7
    own = of_studies or mask_labels or no_mask_means != "unknown" or accept
    if own and studies is None:
        raise click.UsageError(
            "--masks, --mask-name, --mask-label, --patients, --test, --validation, --start, --no-mask-means, --window "
            "and --accept speak of --studies FOLDER: give it too."
        )
    if resume is not None:
        fixed = (test, validation, start, window) != (None,) * 4 or no_mask_means != "unknown" or accept
        if given or fixed or steps or preset or out or split_file or device != "auto" or precision != "auto":
            raise click.UsageError("--resume takes its settings, split and device from the run: leave the others out.")
        run = open_run(resume)
        if run.is_own != (studies is not None):
            how = (
                ("CT-ICH", "--data FOLDER, without --studies") if studies else ("your own studies", "--studies FOLDER")
            )
            raise click.UsageError(f"{run.folder} was trained on {how[0]}: resume it with {how[1]}.")
        config, machine = run.settings(), run.machine()
    else:
        if out is None or (split_file is None) == (studies is None):
            raise click.UsageError("a new run needs --out FOLDER, and either --split FILE or --studies FOLDER.")
        machine = choose_machine(device, precision)  # type: ignore[arg-type]
        run = Run(out)
        if machine.rank == 0:  # the others come when it may have begun the run already
            run.refuse_occupied()
        config = _change(PRESETS[preset or ("thesis" if studies is None else "lite")][1], steps, given)
    if studies is not None:
        places = OwnPlaces(studies, masks, patients, test, data, run.folder, mask_name or None, frozenset(mask_labels))
        reading = OwnReading(window or OwnReading.window, accept, no_mask_means, validation or OwnReading.validation)
        _train_own(run, config, places, reading, start, machine, begins=resume is None)
        return
    split = run.split() if split_file is None else read_split(split_file)
    dataset = open_ct_ich(data_root(data))
    split.check_against(dataset)
    if isinstance(config, LiteConfig):
        _train_ct_ich(run, config, split, dataset, machine, begins=resume is None)
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
        raise click.UsageError("--steps is for presets in stages (lite, bone, balanced); the others count --epochs.")
    return replace(config, **given)


def _train_ct_ich(
    run: "Run", config: LiteConfig, split: "Split", dataset: "CtIch", machine: "Machine", *, begins: bool
) -> None:  # fmt: skip
    from bleedmap.folds.run import check_choices, of_ct_ich
    from bleedmap.training.steps import PoolSource

    check_choices(dataset, split)
    material = of_ct_ich(dataset, split)
    with _staged(run, config, machine) as bar:
        source = PoolSource(material.studies, None, bar.report)
        if begins:
            source.read_patients(_first_of_patients(config))  # may be damaged
        words = f"whole studies of {len(material.train)} patients"
        _train_stages(run, config, material, source, machine, bar, words, None, begins=begins)


def _train_own(
    run: "Run", config: TrainConfig | LiteConfig, places: "OwnPlaces", given: "OwnReading", start_name: str | None,
    machine: "Machine", *, begins: bool,
) -> None:  # fmt: skip
    """Train on studies of one's own; the rest of what is given stands in a run that is resumed."""
    from bleedmap.folds.own_studies import find_own, load_start, material_of, split_own
    from bleedmap.models.checkpoint import read_checkpoint
    from bleedmap.training.steps import PoolSource

    if not isinstance(config, LiteConfig):
        raise click.UsageError("--studies is for presets in stages: --preset lite, bone or balanced.")
    split, start = None if begins else run.own_split(), None
    if start_name is not None:
        config = replace(config, stages=config.stages[-1:])
        start = load_start(start_name, config.recipe)
    elif run.start_file.is_file():
        start = read_checkpoint(run.start_file)
    with _staged(run, config, machine, f" --studies {places.studies}") as bar:
        found = find_own(places, given, split, bar.report)
        source = PoolSource(found.studies, None, bar.report)
        if split is None:
            split = split_own(found, source.read_patients(_first_of_patients(config)), given, config.recipe.seed)
        material = material_of(found, split, start)
        words = found.describe(split)
        _train_stages(run, config, material, source, machine, bar, words, start, begins=begins)


def _first_of_patients(config: LiteConfig) -> "Recipe":
    return next(recipe for _, recipe in config.stages if recipe.lesion)


@contextmanager
def _staged(run: "Run", config: LiteConfig, machine: "Machine", more: str = "") -> Iterator[ProgressBar]:
    """The bar of a training in stages; at its end the threshold that was chosen is told.

    `more`: what the command that resumes it needs too.
    """
    with (
        explain_interrupt(f"continue with: bleedmap train --resume {run.folder}{more}"),
        ProgressBar(quiet=machine.rank > 0, line_every_s=LINE_EVERY_S) as bar,
    ):
        yield bar
    if machine.rank == 0:
        threshold = run.best()[1].record["export"]["threshold"]
        click.echo(f"{run.folder}: all {len(config.stages)} stages; pixels are marked from {threshold:g} on")


def _train_stages(
    run: "Run", config: LiteConfig, material: "Material", source: "PoolSource", machine: "Machine", bar: ProgressBar,
    words: str, start: "Checkpoint | None", *, begins: bool,
) -> None:  # fmt: skip
    """Train a run's stages, and choose its thresholds; `words` say on what."""
    from bleedmap.folds.run import choose_for_run
    from bleedmap.io.files import writing
    from bleedmap.training.loop import start_together
    from bleedmap.training.steps import train_stages

    leads = machine.rank == 0
    if begins and leads:
        run.begin(config, material.split, machine, start)
    start_together(machine)
    if leads:
        click.echo(f"{words}, {machine.describe()}", err=True)
    with writing(run.folder):  # a full disk, met by TensorBoard
        network = train_stages(run, config, source, material.train, machine)
        if leads and not run.best_file.is_file():
            choose_for_run(run, config, material, network, bar.report)


def _train(run: "Run", config: TrainConfig, sides: "tuple[Side, Side]", machine: "Machine") -> None:
    from bleedmap.io.files import writing
    from bleedmap.training.loop import start_together
    from bleedmap.training.passes import train_passes

    leads = machine.rank == 0
    start_together(machine)
    if leads:
        counts = f"{len(sides[0].ids):,} training and {len(sides[1].ids):,} validation slices"
        click.echo(f"{config.network}, {counts}, split by {run.split().kind}, {machine.describe()}", err=True)
    with (
        writing(run.folder),  # a full disk, met by TensorBoard
        explain_interrupt(f"continue with: bleedmap train --resume {run.folder}"),
        ProgressBar(quiet=not leads) as bar,
    ):
        train_passes(run, config, *sides, machine, _report_epochs(bar, config.epochs))
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
