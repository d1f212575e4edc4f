"""The thesis' Figures 1 to 4 and its trial of CLAHE; where data or a run is missing, the words say which."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields

import numpy as np
import torch

from bleedmap.arrays import AnyArray, DoubleArray, FloatArray
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.evaluation.slices import RESAMPLES
from bleedmap.figures.architecture import architecture
from bleedmap.figures.clahe import MOST, Contrast, clahe, contrast, tissues
from bleedmap.figures.curves import MOST as MOST_CURVES
from bleedmap.figures.curves import TrainingCurve, curves
from bleedmap.figures.prediction import PredictedSlice, prediction
from bleedmap.figures.samples import Sample, draw_slices, read_samples, samples
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.models.networks import NETWORKS
from bleedmap.page.section import Estimate, Picture, Section, Table, tabulate
from bleedmap.preprocess import CLIP_LIMIT, TILES, equalise, network_input, resize_back
from bleedmap.training.config import TrainConfig
from bleedmap.training.run import Run
from bleedmap.window import BRAIN
from bleedmap_thesis.plan import Cell, Scale, name_method
from bleedmap_thesis.record import THRESHOLD, CellResult

FIGURE_1_SLICES, DRAW_SEED = 5, 0
FIGURE_4_LABEL = "model-2-b32"  # the thesis' best cell
FIGURE_4_LESIONS, FIGURE_4_FREE = 4, 1  # slices
RunOf = Callable[[Cell], Run | None]
Progress = Callable[[str, int, int], None]  # what is being done, done, of

_NO_DATA = "the data set was not at hand when this report was written (give --data)"


def _list_ids(shown: Iterable[Sample | PredictedSlice]) -> str:
    return ", ".join(one.record.id for one in shown)


def data_and_network(data: CtIch | None) -> Section:
    """Make Figures 1 and 2, which no scale changes."""
    words = f"Figure 1 (slices over their masks) is missing: {_NO_DATA}."
    alt = "The U-Net called Model 2 as boxes and arrows, from slice to probability"
    pictures = [Picture("figure-2-architecture", alt, lambda: architecture("model-2", NETWORKS["model-2"]))]
    if data is not None:
        words = f"Figure 1 shows lesion slices drawn at random, the types in turn (seed {DRAW_SEED})."
        shown = read_samples(data, draw_slices(data.slices, FIGURE_1_SLICES, DRAW_SEED))
        alt = f"Brain slices over the radiologists' masks: {_list_ids(shown)}"
        pictures.insert(0, Picture("figure-1-samples", alt, lambda: samples(shown, data.release)))
    words_2 = (
        "Figure 2 is drawn from the built network, operation by operation, at the thesis' own width of 64 to 512 "
        "filters; Model 1 is the same without dropout."
    )
    return Section(
        "figures-1-2", "Figures 1 and 2: the data and the network", (words, words_2), pictures=tuple(pictures)
    )


def curves_and_prediction(results: Sequence[CellResult], scale: Scale, data: CtIch | None, runs: RunOf) -> Section:
    """Make Figures 3 and 4 at a scale."""
    words, pictures = ["Figure 3 (training curves) is missing: no run of the grid is done at this scale."], []
    shown = _choose_curves(results, scale)
    if shown:
        words = [
            "Figure 3 shows the training of the grid's runs with the lowest seed. By slice, the validation slices are "
            "of patients that were trained on; by patient they are not."
        ]
        alt = f"Loss, mean IoU and Dice over the epochs of {len(shown)} runs"
        pictures.append(Picture("figure-3-curves", alt, lambda: curves(shown)))
    figure_4 = _make_figure_4(results, scale, data, runs)
    if isinstance(figure_4, str):
        words.append(f"Figure 4 (prediction over the slice) is missing: {figure_4}.")
    else:
        words.append(
            "Figure 4 shows slices drawn at random from the test side, the types in turn, not chosen by result "
            f"(seed {DRAW_SEED}; the last is lesion-free). Their patients were trained on."
        )
        pictures.append(figure_4)
    return Section("figures-3-4", "Figures 3 and 4: curves and predictions", tuple(words), pictures=tuple(pictures))


def _choose_curves(results: Sequence[CellResult], scale: Scale) -> list[TrainingCurve]:
    grid = [one for one in results if one.cell.part == "grid" and one.curves and "-alone-" not in one.cell.label]
    first = min((one.cell.seed for one in grid), default=0)
    made = []
    for one in [one for one in grid if one.cell.seed == first][:MOST_CURVES]:
        config = one.cell.config
        assert config is not None
        setting = f"seed {config.seed}, {config.size} × {config.size}, {config.epochs} epochs, {scale.name} scale"
        made.append(TrainingCurve(f"{name_method(one.cell.label)}, by {one.cell.kind}", setting, one.curves))
    return made


def _make_figure_4(results: Sequence[CellResult], scale: Scale, data: CtIch | None, runs: RunOf) -> Picture | str:
    """Predict slices by the lowest seed's run: a choice by test scores would flatter; or say what is missing."""
    wanted = ("grid", FIGURE_4_LABEL, "slice")
    own = [one for one in results if (one.cell.part, one.cell.label, one.cell.kind) == wanted]
    if not own:
        return "Model 2, batch 32, by slice has not been run at this scale"
    if data is None:
        return _NO_DATA
    result = min(own, key=lambda one: one.cell.seed)
    run, epoch = runs(result.cell), result.last.epoch
    if run is None or not run.kept_file(epoch).is_file():
        return "the network of Model 2, batch 32, by slice is no longer in its run folder"
    trained_on = set(run.split().patients("train"))
    shown = predict_slices(run.kept(epoch)[0], run.config(), data, result.last.ids, trained_on)
    name = f"Model 2, batch 32, epoch {epoch}, seed {result.cell.seed}, split by slice, {scale.name} scale"
    alt = f"Slice, reference, prediction and overlay for {_list_ids(shown)}"
    return Picture("figure-4-prediction", alt, lambda: prediction(shown, name, THRESHOLD))


def predict_slices(
    network: torch.nn.Module, config: TrainConfig, data: CtIch, ids: Sequence[str], trained_on: set[str]
) -> list[PredictedSlice]:
    """Draw some slices of `ids` and predict them on their own grid by a network on the CPU that gives logits.

    `trained_on` are the patients whose slices it learned from.
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


_MEASURES = {
    "lesion": "grey of lesion (median, 0 to 1)",
    "tissue": "grey of tissue around it",
    "bone": "grey of bone",
    "lesion_over_tissue": "lesion brighter than tissue (share of pairs)",
    "bone_over_lesion": "bone brighter than lesion (share of pairs)",
}


def clahe_contrast(data: CtIch | None, progress: Progress, *, resamples: int = RESAMPLES) -> Section:
    """Show why the thesis left CLAHE out: grey of lesion, tissue and bone before and after, in every lesion slice."""
    title = "CLAHE: what it does to a slice"
    if data is None:
        words = f"The figure and the contrast of lesion, brain and bone are missing: {_NO_DATA}."
        return Section("clahe", title, (words,))
    lesions = [record for record in data.slices if record.has_lesion]
    patients, found = [], []
    for done, record in enumerate(lesions, start=1):
        pair = _measure_contrast(*read_samples(data, [record]))
        if pair is not None:
            patients.append(record.patient)
            found.append(pair)
        progress("measuring CLAHE", done, len(lesions))
    drawn = read_samples(data, draw_slices(data.slices, MOST, DRAW_SEED))
    alt = "Lesion slices before and after CLAHE, with the greys of lesion, tissue and bone"
    picture = Picture("clahe", alt, lambda: clahe(drawn, data.release))
    tables = (_tabulate_contrast(np.array(found), np.array(patients), resamples),) if found else ()
    words = (
        "The thesis tried CLAHE and left it out, by eye: lesions came to look like bone. It is off here by default. "
        "What it does to a trained network's scores stands in each scale's comparison of methods."
    )
    return Section("clahe", title, (words,), tables, (picture,))


def _measure_contrast(sample: Sample) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Measure the fields of `Contrast` before and after CLAHE; None without lesion, tissue and bone."""
    where = tissues(sample.unit, sample.reference)
    before, after = (contrast(unit, where) for unit in (sample.unit, equalise(sample.unit)))
    if before is None or after is None:
        return None
    return astuple(before), astuple(after)


def _tabulate_contrast(found: DoubleArray, patients: AnyArray, resamples: int) -> Table:
    """Tabulate `found` (slices, 2, 5): before and after, the fields of Contrast."""
    columns = np.stack([found[:, 0], found[:, 1], found[:, 1] - found[:, 0]], axis=2).reshape(len(found), -1)
    ends = patient_bootstrap(patients, lambda rows, _: columns[rows].mean(axis=0).tolist(), resamples=resamples, seed=0)
    estimates = [Estimate(mean, *end) for mean, end in zip(columns.mean(axis=0), ends, strict=True)]
    return tabulate(
        "clahe-contrast", "Lesion, brain and bone in grey",
        f"n: {len(found)} slices with lesion, tissue and bone, of {len(np.unique(patients))} patients, at their own "
        "size; no network and no split takes part. Measured in each slice, then the mean over slices; ties of pairs "
        "count half. Tissue around it: neither lesion, bone, air nor fat, within 20 pixels of a lesion; bone: 99 HU "
        f"and more. CLAHE: clip limit {CLIP_LIMIT:g}, {TILES} × {TILES} tiles. 95 % intervals by a bootstrap over "
        f"patients ({resamples:,} resamples).",
        [
            {"measure": _MEASURES[one.name], "before": estimates[3 * place], "after CLAHE": estimates[3 * place + 1],
             "change": estimates[3 * place + 2]}
            for place, one in enumerate(fields(Contrast))
        ],
    )  # fmt: skip
