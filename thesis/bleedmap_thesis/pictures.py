"""The thesis' Figures 1 to 4 and its trial of CLAHE; where data or a run is missing, the words say which."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields

import numpy as np
import torch

from bleedmap.arrays import AnyArray, DoubleArray, FloatArray
from bleedmap.clahe import CLIP_LIMIT, TILES, equalise
from bleedmap.datasets.ct_ich import CtIch, SliceRecord
from bleedmap.evaluation.slices import RESAMPLES
from bleedmap.figures.architecture import architecture
from bleedmap.figures.clahe import MOST, Contrast, clahe, contrast, tissues
from bleedmap.figures.curves import MOST as MOST_CURVES
from bleedmap.figures.curves import TrainingCurve, curves
from bleedmap.figures.prediction import PredictedSlice, prediction
from bleedmap.figures.samples import Sample, draw_slices, samples
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.models.networks import NETWORKS
from bleedmap.page.section import Picture, Section, Table, Value
from bleedmap.preprocess import network_input, resize_back
from bleedmap.training.config import TrainConfig
from bleedmap.training.run import Run
from bleedmap.window import BRAIN
from bleedmap_thesis.plan import Cell, Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, title

FIGURE_1_SLICES, DRAW_SEED = 5, 0
FIGURE_4_LABEL = "model-2-b32"  # the thesis' best cell
FIGURE_4_LESIONS, FIGURE_4_FREE = 4, 1  # slices
THRESHOLD = 0.5
RunOf = Callable[[Cell], Run | None]
Progress = Callable[[str, int, int], None]  # what is being done, done, of

_NO_DATA = "the data set was not at hand when this report was written (give --data)"
_MEASURES = {
    "lesion": "grey of lesion (median, 0 to 1)",
    "tissue": "grey of tissue around it",
    "bone": "grey of bone",
    "lesion_over_tissue": "lesion brighter than tissue (share of pairs)",
    "bone_over_lesion": "bone brighter than lesion (share of pairs)",
}


def read_sample(data: CtIch, record: SliceRecord) -> Sample:
    """A slice in the brain window and its mask."""
    return Sample(record, BRAIN.to_unit(data.read_hu(record)), data.read_mask(record))


def data_and_network(data: CtIch | None) -> Section:
    """Figures 1 and 2, which no scale changes."""
    words = [
        "Figure 2 is drawn from the built network, operation by operation, at the thesis' own width of 64 to 512 "
        "filters; Model 1 is the same without dropout."
    ]
    alt = "The U-Net called Model 2 as boxes and arrows, from slice to probability"
    network = Picture("figure-2-architecture", alt, lambda: architecture("model-2", NETWORKS["model-2"]))
    pictures = [network]
    if data is None:
        words.insert(0, f"Figure 1 (slices over their masks) is missing: {_NO_DATA}.")
    else:
        shown = [read_sample(data, record) for record in draw_slices(data.slices, FIGURE_1_SLICES, DRAW_SEED)]
        ids = ", ".join(sample.record.id for sample in shown)
        words.insert(0, f"Figure 1 shows lesion slices drawn at random, the types in turn (seed {DRAW_SEED}): {ids}.")
        alt = f"Brain slices over the radiologists' masks: {ids}"
        pictures.insert(0, Picture("figure-1-samples", alt, lambda: samples(shown, data.release)))
    return Section("figures-1-2", "Figures 1 and 2: the data and the network", tuple(words), pictures=tuple(pictures))


def curves_and_prediction(results: Sequence[CellResult], scale: Scale, data: CtIch | None, runs: RunOf) -> Section:
    """Figures 3 and 4 at a scale."""
    words, pictures = [], []
    shown = _curves(results, scale)
    if shown:
        words.append(
            f"Figure 3 shows the training of the grid's runs with the lowest seed. {at_scale(scale)} By slice, the "
            "validation slices are of patients that were trained on; by patient they are not."
        )
        alt = f"Loss, mean IoU and Dice over the epochs of {len(shown)} runs"
        pictures.append(Picture("figure-3-curves", alt, lambda: curves(shown)))
    else:
        words.append("Figure 3 (training curves) is missing: no run of the grid is done at this scale.")
    result = _figure_4_cell(results, scale)
    missing = _figure_4_missing(result, scale, data, runs)
    if missing or result is None or data is None:
        words.append(f"Figure 4 (prediction over the slice) is missing: {missing}.")
    else:
        overlaid, words_4 = _figure_4(result, scale, data, runs)
        words.append(words_4)
        pictures.append(overlaid)
    return Section("figures-3-4", "Figures 3 and 4: curves and predictions", tuple(words), pictures=tuple(pictures))


def _curves(results: Sequence[CellResult], scale: Scale) -> list[TrainingCurve]:
    grid = [one for one in results if one.cell.part == "grid" and one.curves and "-alone-" not in one.cell.label]
    first = min((one.cell.seed for one in grid), default=0)
    own = [one for one in grid if one.cell.seed == first][:MOST_CURVES]
    return [
        TrainingCurve(f"{title(one.cell.label)}, by {one.cell.kind}", _setting(one, scale), one.curves) for one in own
    ]


def _setting(result: CellResult, scale: Scale) -> str:
    config = result.cell.config
    assert config is not None
    return f"seed {config.seed}, {config.size} × {config.size}, {config.epochs} epochs, {scale.name} scale"


def _figure_4_cell(results: Sequence[CellResult], scale: Scale) -> CellResult | None:
    """The lowest seed's run, not the best one on the test side: a choice by test scores would flatter."""
    own = [
        one for one in results if (one.cell.part, one.cell.label, one.cell.kind) == ("grid", FIGURE_4_LABEL, "slice")
    ]
    return min(own, key=lambda one: one.cell.seed, default=None)


def _figure_4_missing(result: CellResult | None, scale: Scale, data: CtIch | None, runs: RunOf) -> str:
    """What is missing; empty where nothing is."""
    if result is None:
        return "Model 2, batch 32, by slice has not been run at this scale"
    if data is None:
        return _NO_DATA
    run = runs(result.cell)
    if run is None or not run.kept_file(result.last.epoch).is_file():
        return "the network of Model 2, batch 32, by slice is no longer in its run folder"
    return ""


def _figure_4(result: CellResult, scale: Scale, data: CtIch, runs: RunOf) -> tuple[Picture, str]:
    run, epoch = runs(result.cell), result.last.epoch
    assert run is not None
    network, _ = run.kept(epoch)
    shown = predicted_slices(network, run.config(), data, result.last.ids, set(run.split().patients("train")))
    ids = ", ".join(one.record.id for one in shown)
    name = f"Model 2, batch 32, epoch {epoch}, seed {result.cell.seed}, split by slice, {scale.name} scale"
    words = (
        f"Figure 4 shows {name}: {scale.text}. The slices are drawn at random from its test side, types in turn, not "
        f"chosen by result (seed {DRAW_SEED}; the last is lesion-free): {ids}. Their patients were trained on."
    )
    alt = f"Slice, reference, prediction and overlay for {ids}"
    return Picture("figure-4-prediction", alt, lambda: prediction(shown, name, THRESHOLD)), words


def predicted_slices(
    network: torch.nn.Module, config: TrainConfig, data: CtIch, ids: Sequence[str], trained_on: set[str]
) -> list[PredictedSlice]:
    """Some slices of `ids` and what a network, ready to predict, makes of them on their own grid.

    Args:
        network: (n, 1, size, size) float32 -> logits of that shape, on the CPU.
        config: what it was trained with.
        data: the data set.
        ids: slices to draw from.
        trained_on: patients whose slices it learned from.
    """
    records = [data.slice(name) for name in ids]
    free = [one for one in records if not one.has_lesion]
    draw = np.random.default_rng(DRAW_SEED).permutation(len(free))[:FIGURE_4_FREE]
    shown = []
    for record in [*draw_slices(records, FIGURE_4_LESIONS, DRAW_SEED), *(free[index] for index in draw)]:
        hu = data.read_hu(record)
        inputs, frames = network_input(hu[None], config.preprocessing())
        with torch.inference_mode():
            small: FloatArray = torch.sigmoid(network(torch.from_numpy(inputs)[:, None]))[0, 0].float().numpy()
        probability = np.clip(resize_back(small, frames[0], (hu.shape[0], hu.shape[1])), 0, 1)
        known = f"{record.patient:03d}" in trained_on
        standing = "test side, patient trained on" if known else "test side"
        shown.append(PredictedSlice(record, BRAIN.to_unit(hu), data.read_mask(record), probability, standing, known))
    return shown


def clahe_contrast(data: CtIch | None, progress: Progress, *, resamples: int = RESAMPLES) -> Section:
    """Why the thesis left CLAHE out: grey of lesion, tissue and bone before and after, in every lesion slice."""
    title = "CLAHE: what it does to a slice"
    if data is None:
        return Section(
            "clahe", title, (f"The figure and the contrast of lesion, brain and bone are missing: {_NO_DATA}.",)
        )
    lesions = [record for record in data.slices if record.has_lesion]
    patients, found = [], []
    for done, record in enumerate(lesions, start=1):
        pair = _both(read_sample(data, record))
        if pair is not None:
            patients.append(record.patient)
            found.append(pair)
        progress("measuring CLAHE", done, len(lesions))
    drawn = [read_sample(data, record) for record in draw_slices(data.slices, MOST, DRAW_SEED)]
    picture = Picture("clahe", "Lesion slices before and after CLAHE, with the greys of lesion, tissue and bone",
                      lambda: clahe(drawn, data.release))  # fmt: skip
    if not found:
        return Section("clahe", title, ("No slice shows lesion, brain and bone together.",), pictures=(picture,))
    table = _contrast_table(np.array(found), np.array(patients), resamples)
    before, after = ({row[0]: row[1 + 3 * index] for row in table.rows} for index in (0, 1))
    step = [float(one[_MEASURES["bone"]]) - float(one[_MEASURES["lesion"]]) for one in (before, after)]  # type: ignore[arg-type]
    over, under = (_MEASURES[name] for name in ("bone_over_lesion", "lesion_over_tissue"))
    words = (
        f"In {len(found)} lesion slices the step in grey from lesion to bone goes from {step[0]:.3f} to {step[1]:.3f} "
        f"of the window, and bone is brighter than lesion in {before[over]:.3f} of pixel pairs before and "
        f"{after[over]:.3f} after. Lesion is brighter than the tissue around it in {before[under]:.3f} before and "
        f"{after[under]:.3f} after.",
        "The thesis tried CLAHE and left it out, by eye: lesions came to look like bone. It is off here by default. "
        "What it does to a trained network's scores stands in each scale's comparison of methods.",
    )
    return Section("clahe", title, words, (table,), (picture,))


def _both(sample: Sample) -> tuple[list[float], list[float]] | None:
    where = tissues(sample.unit, sample.reference)
    pair = [contrast(shown, where) for shown in (sample.unit, equalise(sample.unit))]
    if pair[0] is None or pair[1] is None:
        return None
    return list(asdict(pair[0]).values()), list(asdict(pair[1]).values())


def _contrast_table(found: DoubleArray, patients: AnyArray, resamples: int) -> Table:
    """`found` (slices, 2, 5): before and after, the fields of Contrast."""
    columns = np.concatenate([found[:, 0], found[:, 1], found[:, 1] - found[:, 0]], axis=1)
    ends = patient_bootstrap(patients, lambda rows, _: columns[rows].mean(axis=0).tolist(), resamples=resamples, seed=0)
    means = columns.mean(axis=0)
    names = [field.name for field in fields(Contrast)]
    rows: list[tuple[Value, ...]] = []
    for index, name in enumerate(names):
        parts = [
            (float(means[at]), float(ends[at, 0]), float(ends[at, 1])) for at in range(index, len(means), len(names))
        ]
        rows.append((_MEASURES[name], *(value for part in parts for value in part)))
    heads = [end for name in ("before", "after CLAHE", "change") for end in (name, f"{name} low", f"{name} high")]
    note = (
        f"n: {len(found)} slices with lesion, tissue and bone, of {len(np.unique(patients))} patients. Split and "
        "scale: none, for no network takes part; slices at their own size. Convention: measured in each slice, then "
        "the mean over slices; ties of pairs count half. Tissue around it: neither lesion, bone, air nor fat, within "
        f"20 pixels of a lesion; bone: 99 HU and more. CLAHE: clip limit {CLIP_LIMIT:g}, {TILES} × {TILES} tiles. 95 % "
        f"intervals by a bootstrap over patients ({resamples:,} resamples)."
    )
    return Table("clahe-contrast", "Lesion, brain and bone in grey", note, ("measure", *heads), tuple(rows))
