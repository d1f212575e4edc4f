"""`bleedmap reproduce folds`, `ablations` and `strangers`: our own recipe and network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.console import ProgressBar, explain_interrupt, make_table, print_json, print_table
from bleedmap.cli.options import choice_option, data_option, device_option, json_option, out_option, precision_option
from bleedmap.cli.reproduce.cluster import ray_option, run_on_cluster, threads_option

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich import CtIch
    from bleedmap.datasets.folds import ProtocolFolds
    from bleedmap.folds.recipes import CrossValidation

folds_option = out_option("Folder of folds: OUT/mixed of `reproduce folds`.")
ALL = "all"
_MEMORY = 10 << 30  # of a training's process
_LINE_EVERY_S = 30.0


def open_with_folds(data: Path | None) -> "tuple[CtIch, ProtocolFolds]":
    """The data set and the protocol's folds of it.

    Raises:
        SplitError: these are not the files that the folds were drawn from.
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.folds import protocol_folds

    dataset, folds = open_ct_ich(data_root(data)), protocol_folds()
    folds.check_against(dataset)
    return dataset, folds


@contextmanager
def _open_validation(
    out: Path, data: Path | None, device: str = "cpu", precision: str = "auto"
) -> "Iterator[CrossValidation]":
    """The first recipe's cross-validation in a folder, its progress on the bar."""
    from bleedmap.folds.recipes import CrossValidation
    from bleedmap.training.device import choose_machine, keep_memory

    keep_memory()
    machine = choose_machine(device, precision)  # type: ignore[arg-type]
    dataset, folds = open_with_folds(data)
    with ProgressBar(line_every_s=_LINE_EVERY_S) as bar:
        yield CrossValidation(dataset, folds, out, machine, report=bar.report)


@click.command(short_help="Train our own recipe on the protocol's folds, and the network that ships.")
@out_option("Folder of the networks and records.")
@click.option(
    "--fold", "wanted", type=click.Choice(["1", "2", "3", "4", "5", ALL]), multiple=True,
    help="Only this fold; 'all' is the network trained on all patients. Repeat for several.",
)  # fmt: skip
@choice_option(
    "--recipe", ("mixed", "painted", "first", "bone", "balanced", "fine"),
    "'mixed' is the one that ships. It trains the networks of 'painted' further, which trains those of 'first'; "
    "what is missing is trained first. 'bone' sees bone and true sizes; it was judged and does not ship. "
    "'balanced' trains in one run, with each lesion slice's own Dice in the loss; it outlined about as well on two "
    "folds and does not ship. 'fine' is the same with pixels told at the input's own size; on four "
    "folds it outlined less well.",
)  # fmt: skip
@ray_option
@threads_option
@data_option
@device_option
@precision_option
def command(
    out: Path, wanted: tuple[str, ...], recipe: str, ray: str | None, threads: int, data: Path | None, device: str,
    precision: str,
) -> None:  # fmt: skip
    """Train our own recipe on the protocol's five folds by patient, and the network that ships.

    In: the data set. Out, in OUT/mixed (OUT/painted, OUT/bone, OUT/balanced, OUT/fine, OUT for the first recipe): a
    folder for each fold (weights, its choices, predictions, records); records.json once all five are there; and all/,
    the network trained on every patient, with the folds' choices, as one .onnx file.

    \b
    bleedmap reproduce folds -o folds --data ct-ich              everything: hours on a CPU; no GPU was tried
    bleedmap reproduce folds -o folds --data ct-ich --fold 1     one fold
    bleedmap reproduce folds -o folds --data ct-ich --ray auto   folds side by side on a Ray cluster
    bleedmap evaluate --protocol cross-validation folds/mixed/records.json \\
        --predictions folds/mixed/predictions -o report

    Stop it at any moment and give the same command again: what is finished is not done again, and a training goes on
    from its last minute. Two commands for different folds may share OUT; each takes up to 10 GB of memory.
    """
    cells = wanted or ("1", "2", "3", "4", "5", ALL)
    with explain_interrupt():
        if ray is not None:
            from bleedmap.folds.run import run_cell

            load = partial(_open_on_node, recipe, run_cell, out, device, precision)
            waves = sorted(set(cells) - {ALL}), [ALL] if ALL in cells else []  # `ALL` needs what the folds chose
            run_on_cluster(ray, out, data, load, waves, device=device, threads=threads, memory=_MEMORY)
        with _open_validation(out, data, *(() if ray else (device, precision))) as first:
            _run(cells, _choose_recipe(first, recipe), made=ray is not None)


def _choose_recipe(first: "CrossValidation", recipe: str) -> "CrossValidation":
    from bleedmap.folds.recipes import balanced, bone, fine, mixed, painted

    if recipe == "first":
        return first
    makers = {"painted": painted, "mixed": mixed, "bone": bone, "balanced": balanced, "fine": fine}
    return makers[recipe](first)


def _run(wanted: tuple[str, ...], validation: "CrossValidation", *, made: bool) -> None:
    """What was asked for, folds first: the network of all patients takes its thresholds from them. `made`: it is there
    already."""
    from bleedmap.folds.run import SHIPPED, merge_folds, run_all, run_fold

    for number in sorted(set(wanted) - {ALL}):
        run_fold(validation, int(number))
    if merge_folds(validation) is not None:
        click.echo(f"{validation.record_file}: all folds")
    if ALL in wanted:
        path = validation.folder / ALL / f"{SHIPPED}.onnx" if made else run_all(validation)
        click.echo(f"{path}: trained on all patients")


def _open_on_node(
    recipe: str, do: "Callable[[CrossValidation, str, Any], str]", out: Path, device: str, precision: str, root: Path,
    run: str,
) -> Callable[[Any], str]:  # fmt: skip
    """Open the data set in an actor of a cluster; return what runs a cell there."""
    with _open_validation(out, root, device, precision) as first:
        return partial(do, _choose_recipe(first, recipe), run)


@click.command(short_help="What each part of our recipe is worth, on inner patients.")
@out_option("Folder of `reproduce folds`.")
@click.option("--only", "wanted", multiple=True, help="Run only the training with this name. Repeat for several.")
@click.option(
    "--fold",
    "folds",
    type=click.IntRange(1, 5),
    multiple=True,
    default=(1,),
    show_default=True,
    help="Train on this fold's training patients and judge on its validation patients. Repeat for several.",
)
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(0),
    multiple=True,
    default=(0,),
    show_default=True,
    help="Seed of all that is random. Repeat to train each several times.",
)
@ray_option
@threads_option
@data_option
@device_option
@precision_option
@json_option
def ablations(
    out: Path, wanted: tuple[str, ...], folds: tuple[int, ...], seeds: tuple[int, ...], ray: str | None, threads: int,
    data: Path | None, device: str, precision: str, as_json: bool,
) -> None:  # fmt: skip
    """Train our recipe without one of its parts, and judge each training on a fold's validation patients.

    In: the data set. Out: a folder for each training below OUT/ablations, and a table of all folds and seeds together,
    with each training's difference (95 %, over bleeding patients) to the one of which it changes a part, where that one
    is named too. Most are shorter than the recipe's own training. No test patient of the fold is seen.

    \b
    bleedmap reproduce ablations -o folds --data ct-ich                        all: hours on a CPU
    bleedmap reproduce ablations -o folds --data ct-ich --only no-phantoms
    bleedmap reproduce ablations -o folds --data ct-ich --only small-bone --only small-deep --fold 1 --fold 2
    bleedmap reproduce ablations -o folds --data ct-ich --ray auto             side by side on a Ray cluster
    """
    from bleedmap.folds.ablations import VARIANTS, list_trials, run_trial, summarise, try_trial

    names = [one.name for one in VARIANTS]
    if unknown := set(wanted) - set(names):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: none of {', '.join(names)}", param_hint="--only")
    variants = [one for one in VARIANTS if one.name in (wanted or names)]
    trials = list_trials(variants, sorted(set(folds)), sorted(set(seeds)))
    if ray is not None:
        load = partial(_open_on_node, "first", try_trial, out, device, precision)
        run_on_cluster(ray, out, data, load, [trials], device=device, threads=threads, memory=_MEMORY)
    with _open_validation(out, data, *(() if ray else (device, precision))) as experiment:
        found = summarise([run_trial(experiment, one) for one in trials])
    if as_json:
        print_json(found)
        return
    table = make_table(
        "training", ">steps", ">runs", ">Dice", ">AUC", ">< 1 mL", ">≥ 1 mL", ">marked", ">painted",
        caption="Dice: mean of bleeding patients' volumes, nothing marked counts 0. AUC: of slices. < 1 mL, ≥ 1 mL: "
        "lesions of ten voxels or more that are touched. Marked: slices of bleed-free patients with any marked pixel. "
        "Painted: mean Dice of new bleeds painted into these patients' heads.",
    )  # fmt: skip
    for one in found:
        shares = ("" if one[key] is None else f"{one[key]:.1%}" for key in ("below_1_ml", "1_ml_or_more", "marked"))
        table.add_row(
            one["name"], f"{one['steps']:,}", str(one["trainings"]), f"{one['volume_dice']:.3f}",
            f"{one['slice_auc']:.3f}", *shares, "" if one["painted_dice"] is None else f"{one['painted_dice']:.3f}",
        )  # fmt: skip
    print_table(table)
    bases = {one.name: one.base for one in variants}
    for one in found:
        difference = ""
        if one["difference"] is not None:
            middle, low, high = one["difference"]
            difference = f"; Dice {middle:+.3f} ({low:+.3f} to {high:+.3f}) to {bases[one['name']]}"
        click.echo(f"{one['name']}: {one['words']}{difference}")


@click.command(short_help="Does the program notice images unlike those that it was trained on?")
@folds_option
@data_option
@json_option
def strangers(out: Path, data: Path | None, as_json: bool) -> None:
    """Find out whether the program notices images unlike those that it was trained on.

    In: the data set and the folds' networks. Twenty test patients without a bleed are changed on purpose: noise, a
    wrong slope, a wrong plane, no anatomy. Out: a table that says how many of them are called unlike the training data.

    \b
    bleedmap reproduce strangers -o folds/mixed --data ct-ich
    """
    from bleedmap.folds.out_of_distribution import measure_out_of_distribution

    with _open_validation(out, data) as experiment:
        found = measure_out_of_distribution(experiment)
    if as_json:
        print_json(found)
        return
    table = make_table("what was done", ">studies", ">called unlike", ">median distance")
    for one in found:
        table.add_row(one["change"], str(one["studies"]), str(one["called_unlike"]), f"{one['median_distance']:.2f}")
    print_table(table)
