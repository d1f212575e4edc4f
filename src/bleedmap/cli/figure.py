"""`bleedmap figure`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import data_option
from bleedmap.models.networks import NETWORKS

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich import CtIch, SliceRecord
    from bleedmap.datasets.splits import Split
    from bleedmap.figures.curves import TrainingCurve
    from bleedmap.figures.prediction import PredictedSlice
    from bleedmap.inference.weights import WeightsFile

out_option = click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True,
    help="The picture; its suffix is the format: .png (300 dpi), .pdf or .svg.",
)  # fmt: skip
slices_option = click.option(
    "--slices", metavar="IDS", help="Which slices, as patient/slice with commas: 049/14,051/20. Drawn where left out."
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw: same seed, same slices."
)


@click.group(short_help="Draw the thesis' figures: samples, architecture, curves, prediction.")
def command() -> None:
    """Draw the thesis' figures, 180 mm wide, ready to print.

    \b
    bleedmap figure samples --data ct-ich -o samples.png
    bleedmap figure architecture --network model-2 -o architecture.pdf
    bleedmap figure curves runs/slice runs/patient -o curves.svg
    bleedmap figure prediction --data ct-ich -o prediction.png
    bleedmap figure clahe --data ct-ich -o clahe.png
    """


@command.command()
@data_option
@slices_option
@click.option(
    "--count", type=click.IntRange(1, 18), default=5, show_default=True, help="Slices to draw, without --slices."
)
@seed_option
@out_option
def samples(data: Path | None, slices: str | None, count: int, seed: int, out: Path) -> None:
    """Brain slices over their reference masks.

    In: the data set. Out: a picture of pairs, slice above mask, with type, patient and slice number. Slices are
    drawn at random from those with a lesion, the types in turn: EDH, IPH, SDH, IVH, SAH.

    \b
    bleedmap figure samples --data ct-ich -o samples.png
    bleedmap figure samples --data ct-ich --slices 049/14,051/20 -o two.pdf
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.figures import samples as drawing
    from bleedmap.figures import style
    from bleedmap.window import BRAIN

    style.check_suffix(out)
    dataset = open_ct_ich(data_root(data))
    chosen = _named(dataset, slices, drawing.MOST) if slices else _drawn(dataset, dataset.slices, count, seed)
    shown = [drawing.Sample(one, BRAIN.to_unit(dataset.read_hu(one)), dataset.read_mask(one)) for one in chosen]
    style.save(drawing.samples(shown, dataset.release), out)
    _tell(out, ", ".join(one.id for one in chosen))


@command.command()
@click.option(
    "--network", type=click.Choice(list(NETWORKS)), default="model-2", show_default=True, help="Which network."
)
@out_option
def architecture(network: str, out: Path) -> None:
    """A network's architecture, drawn from the network itself.

    In: a network's name. Out: its U: boxes of filters × rows × columns, arrows of operations, parameters counted.
    The network is built and one slice of 256 × 256 passed through it; what is drawn is what it did.

    \b
    bleedmap figure architecture --network original -o u-net.pdf
    """
    from bleedmap.figures import architecture as drawing
    from bleedmap.figures import style

    style.check_suffix(out)
    style.save(drawing.architecture(network, NETWORKS[network]), out)
    _tell(out, network)


@command.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option
def curves(runs: tuple[Path, ...], out: Path) -> None:
    """Training and validation curves of one or more runs.

    In: run folders, finished or not. Out: loss, mean IoU and Dice over the epochs, a colour a run.

    \b
    bleedmap figure curves runs/quick -o curves.png
    bleedmap figure curves runs/slice runs/patient -o both.pdf
    """
    from bleedmap.errors import SettingsError
    from bleedmap.figures import curves as drawing
    from bleedmap.figures import style

    style.check_suffix(out)
    if len(runs) > drawing.MOST:
        raise SettingsError(
            "figure curves",
            found=f"{len(runs)} runs",
            needed=f"at most {drawing.MOST}, for colours to tell them apart",
            remedy="draw several figures",
        )
    style.save(drawing.curves([_curve(folder) for folder in runs]), out)
    _tell(out, ", ".join(map(str, runs)))


@command.command()
@data_option
@slices_option
@click.option(
    "--count", type=click.IntRange(1, 6), default=4, show_default=True, help="Slices to draw, without --slices."
)
@seed_option
@click.option(
    "--weights", "weights_name", metavar="NAME|FILE", help="Installed weights or an .onnx file; the default's."
)
@click.option(
    "--split", "split_file", type=click.Path(path_type=Path),
    help="Split file, to name each slice's side; by default the one beside the weights.",
)  # fmt: skip
@out_option
def prediction(
    data: Path | None, slices: str | None, count: int, seed: int, weights_name: str | None, split_file: Path | None,
    out: Path,
) -> None:  # fmt: skip
    """Slice, reference, prediction, and the prediction laid over the slice.

    In: the data set and weights. Out: a row a slice with its Dice. Over the slice, probability 0.5 is white, and
    redder up to 1; nothing below 0.5. Slices are drawn from the test side where the split is known, else from
    patients that the network was not trained on; a shown patient that it was trained on is marked.

    \b
    bleedmap figure prediction --data ct-ich -o prediction.png
    bleedmap figure prediction --data ct-ich --weights quick.onnx --slices 049/14,051/20 -o two.pdf
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.figures import prediction as drawing
    from bleedmap.figures import style
    from bleedmap.inference.weights import locate

    style.check_suffix(out)
    weights = locate(weights_name)
    dataset = open_ct_ich(data_root(data))
    split = _split(dataset, weights, split_file)
    if slices:
        chosen = _named(dataset, slices, drawing.MOST)
    else:
        chosen = _drawn(dataset, _unseen(dataset, weights, split), count, seed)
    shown = _predict(dataset, chosen, weights, split)
    network = f"{weights.name} (SHA-256 {weights.sha256[:12]}…), trained on {weights.trained_on}"
    style.save(drawing.prediction(shown, network, weights.threshold), out)
    _tell(out, ", ".join(f"{one.record.id} ({one.standing})" for one in shown))


@command.command()
@data_option
@slices_option
@click.option(
    "--count", type=click.IntRange(1, 5), default=5, show_default=True, help="Slices to draw, without --slices."
)
@seed_option
@out_option
def clahe(data: Path | None, slices: str | None, count: int, seed: int, out: Path) -> None:
    """Slices before and after CLAHE, and why the thesis left it out: lesions come to look like bone.

    In: the data set. Out: a row a slice: as the network sees it, the same after contrast-limited adaptive histogram
    equalisation, and how the greys of lesion, tissue around it and bone are spread before and after.

    \b
    bleedmap figure clahe --data ct-ich -o clahe.png
    bleedmap figure clahe --data ct-ich --slices 049/14,051/20 -o two.pdf
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.figures import clahe as drawing
    from bleedmap.figures import style
    from bleedmap.figures.samples import Sample
    from bleedmap.window import BRAIN

    style.check_suffix(out)
    dataset = open_ct_ich(data_root(data))
    chosen = _named(dataset, slices, drawing.MOST) if slices else _drawn(dataset, dataset.slices, count, seed)
    shown = [Sample(one, BRAIN.to_unit(dataset.read_hu(one)), dataset.read_mask(one)) for one in chosen]
    style.save(drawing.clahe(shown, dataset.release), out)
    _tell(out, ", ".join(one.id for one in chosen))


def _named(dataset: "CtIch", ids: str, most: int) -> list["SliceRecord"]:
    from bleedmap.errors import SettingsError

    chosen = [dataset.slice(name.strip()) for name in ids.split(",") if name.strip()]
    if not 1 <= len(chosen) <= most:
        raise SettingsError(
            "--slices",
            found=f"{len(chosen)} slices",
            needed=f"1 to {most}, which one page holds",
            remedy="name fewer, such as 049/14,051/20" if chosen else "name some, such as 049/14,051/20",
        )
    return chosen


def _drawn(dataset: "CtIch", records: "Sequence[SliceRecord]", count: int, seed: int) -> list["SliceRecord"]:
    from bleedmap.errors import DataError
    from bleedmap.figures.samples import draw_slices

    if chosen := draw_slices(records, count, seed):
        return chosen
    raise DataError(
        dataset.root,
        found="no slice has a lesion's mask",
        needed="a lesion to draw",
        remedy="name the slices with --slices, or fetch the masks with `bleedmap data download`",
    )


def _curve(folder: Path) -> "TrainingCurve":
    from bleedmap.errors import InputError
    from bleedmap.figures.curves import TrainingCurve
    from bleedmap.training.run import open_run

    run = open_run(folder)
    entries = run.metrics()
    if not entries:
        raise InputError(
            run.metrics_file,
            found="no epoch has finished yet",
            needed="a line of JSON an epoch, as `bleedmap train` writes them",
            remedy="wait for the first epoch, or give another run",
        )
    config, split = run.config(), run.split()
    width = f" × {config.width:g} filters" if config.width != 1 else ""
    setting = (
        f"{config.network}{width}, {config.size} × {config.size}, loss {config.loss}, batch {config.batch_size}, "
        f"split by {split.kind}, epoch {entries[-1]['epoch']} of {config.epochs}"
    )
    return TrainingCurve(folder.resolve().name, setting, entries)


def _split(dataset: "CtIch", weights: "WeightsFile", given: Path | None) -> "Split | None":
    """The split that was given, held to the data; else the weights' own, where the data are of its release."""
    from bleedmap.datasets.splits import read_split

    if given is not None:
        split = read_split(given)
        split.check_against(dataset)
        return split
    beside = weights.path.with_suffix(".split.json")
    own = read_split(beside) if beside.is_file() else None
    return own if own is not None and own.release == dataset.release else None


def _unseen(dataset: "CtIch", weights: "WeightsFile", split: "Split | None") -> list["SliceRecord"]:
    """The slices to draw from: the test side; without a split, patients not trained on; all where none is left."""
    trained = set(weights.record.get("trained_patients", ()))
    if split is not None:
        fits: Callable[[SliceRecord], bool] = lambda one: _side(one, split) == "test"  # noqa: E731
    else:
        fits = lambda one: _patient(one) not in trained  # noqa: E731
    found = [one for one in dataset.slices if one.has_lesion and fits(one)]
    return found or list(dataset.slices)


def _side(record: "SliceRecord", split: "Split") -> str | None:
    """The side that a slice stands on; in a split by patient, with all slices of its patient."""
    from bleedmap.datasets.splits import SIDES

    if split.kind == "patient":
        return next((side for side in SIDES if _patient(record) in split.patients(side)), None)
    return next((side for side in SIDES if record.id in split.side(side)), None)


def _patient(record: "SliceRecord") -> str:
    return record.id.split("/")[0]


def _standing(record: "SliceRecord", weights: "WeightsFile", split: "Split | None") -> tuple[str, bool]:
    """What a slice was to the network, in words, and whether its patient was trained on."""
    trained = weights.record.get("trained_patients")
    side = _side(record, split) if split else None
    words = [f"{side} side" if side else "in no side"] if split else []
    if trained is None:
        return ", ".join([*words, "training patients unknown"]), False
    if _patient(record) in trained:
        return ", ".join([*words, "patient trained on"]), True
    return ", ".join(words or ["unseen patient"]), False


def _predict(
    dataset: "CtIch", chosen: "list[SliceRecord]", weights: "WeightsFile", split: "Split | None"
) -> list["PredictedSlice"]:
    import numpy as np

    from bleedmap.figures.prediction import PredictedSlice
    from bleedmap.inference.openvino_backend import OpenVinoBackend
    from bleedmap.inference.outline import outline_slices
    from bleedmap.window import BRAIN

    backend = OpenVinoBackend(weights)
    shown = []
    for record in chosen:
        hu, reference = dataset.read_hu(record), dataset.read_mask(record)
        around = _study_of(dataset, record) if weights.preprocessing.frame == "study" else [record]
        together = np.stack([dataset.read_hu(one) for one in around])
        probability = outline_slices(together, weights, backend).probability
        standing, trained_on = _standing(record, weights, split)
        shown.append(
            PredictedSlice(
                record, BRAIN.to_unit(hu), reference, probability[around.index(record)], standing, trained_on
            )
        )
    return shown


def _study_of(dataset: "CtIch", record: "SliceRecord") -> "list[SliceRecord]":
    return [one for one in dataset.slices if one.patient == record.patient]


def _tell(out: Path, what: Any) -> None:
    click.echo(f"{out}: {what}")
