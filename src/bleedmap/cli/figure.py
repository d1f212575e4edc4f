"""`bleedmap figure`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bleedmap.cli import options
from bleedmap.models.networks import NETWORKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bleedmap.figures.samples import Sample

picture_option = options.out_option("The picture to write. Its ending is the format: .png (300 dpi), .pdf or .svg.")


def _slices_options(most: int, default: int) -> "Callable[[options.Verb], options.Verb]":
    """The flags that choose slices."""
    slices = click.option(
        "--slices", metavar="IDS",
        help="The slices to show, as patient/slice, with commas: 049/14,051/20. Not given: drawn at random.",
    )  # fmt: skip
    count = click.option(
        "--count", type=click.IntRange(1, most), default=default, show_default=True,
        help="How many slices to draw at random, where --slices is not given.",
    )  # fmt: skip
    seed = click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True,
        help="Seed of the random choice: the same seed gives the same slices.",
    )  # fmt: skip
    return lambda verb: options.data_option(slices(count(seed(verb))))


@click.group()
def command() -> None:
    """Draw figures 180 mm wide, ready to print: of your own study, and those of the thesis.

    \b
    bleedmap figure study head.nii.gz --slices 8,12-14 --window 40 80 -o study.pdf
    bleedmap figure samples --data ct-ich -o samples.png
    bleedmap figure architecture --network model-2 -o architecture.pdf
    bleedmap figure curves runs/slice runs/patient -o curves.svg
    bleedmap figure prediction --data ct-ich -o prediction.png
    bleedmap figure clahe --data ct-ich -o clahe.png
    """


@command.command()
@click.argument("source", metavar="STUDY", type=click.Path(path_type=Path))
@click.option(
    "--slices", metavar="NUMBERS", help="The slices to show, from the feet, as 8,12-14. Not given: up to four."
)
@click.option(
    "--window", nargs=2, type=float, metavar="LEVEL WIDTH", default=(40.0, 80.0), show_default=True,
    help="Window in HU in which the slices are shown.",
)  # fmt: skip
@options.weights_option
@options.threshold_option
@options.accept_option
@picture_option
def study(
    source: Path, slices: str | None, window: tuple[float, float], weights: str | None, threshold: float | None,
    accept: tuple[str, ...], out: Path,
) -> None:  # fmt: skip
    """Show slices of your own study, plain and with what is outlined.

    In: a study, as `bleedmap segment` takes it, or the folder of its results: then the same study is segmented again
    with the same weights and threshold. Out: one picture: each slice plain, and below it with outline, millilitres and
    probability, the patient's sides and a bar of 5 cm.

    \b
    bleedmap figure study head.nii.gz -o study.png
    bleedmap figure study result/ --slices 8,12-14 --window 80 200 -o study.pdf
    """
    from bleedmap.figures import study as drawing
    from bleedmap.figures import style
    from bleedmap.results.save import read_again
    from bleedmap.study.segment import Segmenter
    from bleedmap.window import Window

    style.check_suffix(out)
    again, known = read_again(source)
    threshold = known.get("threshold") if threshold is None else threshold
    segmenter = Segmenter.load(weights or known.get("weights"), threshold=threshold)
    result = segmenter.segment(again, accept=accept or known.get("accept", ()))
    chosen = drawing.read_slices(slices, result)
    _save(drawing.draw_study(result, chosen, Window(*window)), out, (f"slice {index + 1}" for index in chosen))


@command.command()
@_slices_options(18, 5)
@picture_option
def samples(data: Path | None, slices: str | None, count: int, seed: int, out: Path) -> None:
    """Show brain slices above their reference masks.

    In: the data set CT-ICH. Out: one picture of pairs, the slice above its mask, each with type, patient and slice
    number. Without --slices, slices with a lesion are drawn at random, one type after the other: EDH, IPH, SDH, IVH,
    SAH.

    \b
    bleedmap figure samples --data ct-ich -o samples.png
    bleedmap figure samples --data ct-ich --slices 049/14,051/20 -o two.pdf
    """
    from bleedmap.figures import samples as drawing

    _draw_samples(drawing.samples, drawing.MOST, data, slices, count, seed, out)


@command.command()
@_slices_options(5, 5)
@picture_option
def clahe(data: Path | None, slices: str | None, count: int, seed: int, out: Path) -> None:
    """Show slices before and after CLAHE (contrast-limited adaptive histogram equalisation).

    In: the data set CT-ICH. Out: one picture with a row for each slice: as the network sees it, after CLAHE, and how
    the greys of lesion, surrounding tissue and bone are distributed before and after. It shows why the thesis left
    CLAHE out: lesions come to look like bone.

    \b
    bleedmap figure clahe --data ct-ich -o clahe.png
    bleedmap figure clahe --data ct-ich --slices 049/14,051/20 -o two.pdf
    """
    from bleedmap.figures import clahe as drawing

    _draw_samples(drawing.clahe, drawing.MOST, data, slices, count, seed, out)


def _draw_samples(
    draw: "Callable[[list[Sample], str], Figure]", most: int, data: Path | None, slices: str | None, count: int,
    seed: int, out: Path,
) -> None:  # fmt: skip
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.figures import style
    from bleedmap.figures.samples import choose_slices, read_samples

    style.check_suffix(out)
    dataset = open_ct_ich(data_root(data))
    chosen = choose_slices(dataset, slices, most, count, seed)
    _save(draw(read_samples(dataset, chosen), dataset.release), out, (one.id for one in chosen))


@command.command()
@_slices_options(6, 4)
@click.option(
    "--weights", "weights_name", metavar="NAME|FILE",
    help="Installed weights by name, or an .onnx file. Not given: the default weights.",
)  # fmt: skip
@options.path_option(
    "--split",
    "split_file",
    text="Split file, to say which side each slice is on. Not given: the one that comes with the weights, if any.",
)
@picture_option
def prediction(
    data: Path | None, slices: str | None, count: int, seed: int, weights_name: str | None, split_file: Path | None,
    out: Path,
) -> None:  # fmt: skip
    """Show slices, their reference masks and what the network predicts.

    In: the data set CT-ICH and weights. Out: one picture with a row for each slice: the slice, its reference mask, the
    prediction with its Dice, and the probability over the slice, white at 0.5 and redder up to 1; nothing is shown
    below 0.5. Without --slices, slices are drawn from the test side where the split is known, else from patients that
    the network was not trained on. Patients that it was trained on are marked.

    \b
    bleedmap figure prediction --data ct-ich -o prediction.png
    bleedmap figure prediction --data ct-ich --weights quick.onnx --slices 049/14,051/20 -o two.pdf
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.figures import prediction as drawing
    from bleedmap.figures import style
    from bleedmap.figures.prediction import find_split, find_unseen, predict_slices
    from bleedmap.figures.samples import choose_slices
    from bleedmap.inference.weights import locate

    style.check_suffix(out)
    weights = locate(weights_name)
    dataset = open_ct_ich(data_root(data))
    split = find_split(dataset, weights, split_file)
    chosen = choose_slices(dataset, slices, drawing.MOST, count, seed, among=find_unseen(dataset, weights, split))
    shown = predict_slices(dataset, chosen, weights, split)
    network = f"{weights.name} (SHA-256 {weights.sha256[:12]}…), trained on {weights.trained_on}"
    figure = drawing.prediction(shown, network, weights.threshold)
    _save(figure, out, (f"{one.record.id} ({one.standing})" for one in shown))


@command.command()
@click.option(
    "--network", type=click.Choice(list(NETWORKS)), default="model-2", show_default=True, help="The network to draw."
)
@picture_option
def architecture(network: str, out: Path) -> None:
    """Draw a network's architecture from the network itself.

    In: a network's name. Out: its U shape: boxes of filters × rows × columns, arrows for the operations, and the number
    of parameters. The network is built and one slice of 256 × 256 pixels is passed through it; the figure shows what it
    did.

    \b
    bleedmap figure architecture --network original -o u-net.pdf
    """
    from bleedmap.figures import architecture as drawing
    from bleedmap.figures import style

    style.check_suffix(out)
    _save(drawing.architecture(network, NETWORKS[network]), out, [network])


@command.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@picture_option
def curves(runs: tuple[Path, ...], out: Path) -> None:
    """Draw training and validation curves of one or more runs.

    In: folders that `bleedmap train` writes, finished or not. Out: one picture of loss, mean IoU and Dice over the
    epochs, with one colour for each run.

    \b
    bleedmap figure curves runs/quick -o curves.png
    bleedmap figure curves runs/slice runs/patient -o both.pdf
    """
    from bleedmap.errors import SettingsError
    from bleedmap.figures import curves as drawing
    from bleedmap.figures import style

    style.check_suffix(out)
    if len(runs) > drawing.MOST:
        needed = f"at most {drawing.MOST}, for colours to tell them apart"
        raise SettingsError("figure curves", found=f"{len(runs)} runs", needed=needed, remedy="draw several figures")
    _save(drawing.curves([drawing.read_curve(folder) for folder in runs]), out, map(str, runs))


def _save(figure: "Figure", out: Path, shown: Iterable[str]) -> None:
    from bleedmap.figures import style

    style.save(figure, out)
    click.echo(f"{out}: {', '.join(shown)}")
