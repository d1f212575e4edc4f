"""What `bleedmap segment` writes for pictures: masks, probabilities, overlays and their summary."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap import RESEARCH_ONLY
from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.inference.outline import outline_slices
from bleedmap.io import images
from bleedmap.results.overlay import SliceView, draw_sheet
from bleedmap.study.findings import summarise_pictures, to_json
from bleedmap.study.inputs import Ignored, Picture
from bleedmap.study.segment import Segmenter
from bleedmap.window import Window

PROBABILITY_STEPS = 65535  # the 16-bit PNG's value of probability 1


@dataclass(frozen=True, eq=False)
class _Job:
    segmenter: Segmenter
    window: Window
    folder: Path
    advance: Callable[[int], None]


def segment_pictures(
    segmenter: Segmenter, pictures: tuple[Picture, ...], window: Window, ignored: tuple[Ignored, ...],
    folder: Path, advance: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """Segment and write one picture at a time; returns the summary."""
    findings = summarise_pictures(_each_picture(_Job(segmenter, window, folder, advance), pictures))
    summary = to_json(findings, segmenter.weights, segmenter.backend.record, segmenter.threshold, [])
    for row, picture in zip(summary["slices"], pictures, strict=True):
        endings = {"mask": "mask", "probability": "prob", "overlay": "overlay"}
        row |= {"name": picture.name, "source": str(picture.path)}
        row["files"] = {key: f"{picture.name}_{ending}.png" for key, ending in endings.items()}
    return summary | {"ignored": [{"file": str(one.path), "reason": one.reason} for one in ignored]}


def _each_picture(job: _Job, pictures: tuple[Picture, ...]) -> Iterator[tuple[FloatArray, BoolArray]]:
    segmenter, threshold = job.segmenter, job.segmenter.threshold
    for picture in pictures:
        grey = images.read_grey(picture.path)
        hu = job.window.to_hu(grey)[None]
        outline = outline_slices(hu, segmenter.weights, segmenter.backend, threshold=threshold, advance=job.advance)
        probability, mask = outline.probability[0], outline.mask[0]
        images.write_png(job.folder / f"{picture.name}_mask.png", mask)
        stored = np.rint(probability * PROBABILITY_STEPS).astype(np.uint16)
        images.write_png(job.folder / f"{picture.name}_prob.png", stored)
        sheet = _sheet(picture.name, grey, probability, mask, threshold)
        images.write_png(job.folder / f"{picture.name}_overlay.png", sheet)
        yield probability, mask


def _sheet(name: str, grey: ByteArray, probability: FloatArray, mask: BoolArray, threshold: float) -> ByteArray:
    pixels = int(mask.sum())
    verdict = f"{pixels:,} pixels marked" if pixels else "nothing marked"
    view = SliceView(grey, probability, f"highest probability {probability.max():.2f}")
    return draw_sheet([view], title=f"{name}: {verdict}", footer=RESEARCH_ONLY, threshold=threshold)
