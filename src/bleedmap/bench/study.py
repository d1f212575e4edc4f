"""Whole studies: a phantom's DICOM series read, segmented and saved, in a fresh process and in a warm one."""

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bleedmap.archive.workers import count_processes
from bleedmap.arrays import FloatArray, Progress, ignore
from bleedmap.bench.machine import in_fresh_process, peak_mib
from bleedmap.inference.backends import Backend, BackendRecord, Prediction
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.results.save import save
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume

GROWTH_SLICES, GROWTH_PIXELS, GROWTH_STUDIES = (10, 30, 100, 400), (128, 256, 512, 650), (1, 10, 100)
_VIEW_MM, _HEAD_MM, _SLICE_MM = 230.0, 150.0, (0.2, 10.0)
# What `bleedmap` itself does, then the most memory that it held.
_COMMAND = """import sys
from bleedmap.cli.main import main
try:
    main(sys.argv[1:])
finally:
    from bleedmap.bench.machine import peak_mib
    print(peak_mib(), file=sys.stderr)"""


@dataclass(frozen=True)
class Load:
    """What computes: weights by name or file, and the threads of the network."""

    weights: str | None
    threads: int | None

    def flags(self) -> list[str]:
        """As `bleedmap segment` and `bleedmap batch` take them."""
        named = ["--weights", self.weights] if self.weights else []
        return [*named, "--threads", str(self.threads)] if self.threads else named


class _Timed:
    """A backend that adds up what it takes."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.seconds = backend, 0.0

    @property
    def record(self) -> BackendRecord:
        return self._backend.record

    def predict(self, slices: FloatArray) -> Prediction:
        begun = time.perf_counter()
        prediction = self._backend.predict(slices)
        self.seconds += time.perf_counter() - begun
        return prediction


def measure_study(load: Load, repeats: int, shape: tuple[int, int, int], progress: Progress = ignore) -> dict[str, Any]:
    """`bleedmap segment` in fresh processes, then the same steps in one.

    Args:
        repeats: fresh processes, and turns in the warm one after its first.
        shape: (slices, rows, columns) of the phantom.
    """
    with TemporaryDirectory(prefix="bleedmap-bench-") as place:
        series, cold = write_phantom(Path(place) / "series", shape), []
        for turn in range(repeats):
            cold.append(run_cold(["segment", str(series), "-o", f"{place}/cold-{turn}", *load.flags()]))
            progress(turn + 1, repeats + 1)
        warm = in_fresh_process(run_warm, series, load, repeats)
        progress(repeats + 1, repeats + 1)
    return {
        "shape": list(shape),
        "cold": {
            "seconds": round(median(one for one, _ in cold), 3), "peak_mib": _highest(cold),
            "times": [round(one, 3) for one, _ in cold],
        },
        "warm": warm,
    }  # fmt: skip


def measure_growth(
    load: Load, repeats: int, studies: int, shape: tuple[int, int, int], progress: Progress = ignore
) -> dict[str, Any]:
    """Warm seconds and memory by slices, by pixels, and `bleedmap batch` by studies: memory of its first process.

    Args:
        repeats: turns of each size; of a batch, at most so many studies in all, and one turn at least.
        studies: the most of a batch.
        shape: where one of the three grows, the others stay at this.
    """
    by_slices = [(count, *shape[1:]) for count in GROWTH_SLICES]
    by_pixels = [(shape[0], side, side) for side in GROWTH_PIXELS]
    batches = [count for count in GROWTH_STUDIES if count <= studies]
    of, found = len(by_slices) + len(by_pixels) + len(batches), []
    for number, size in enumerate([*by_slices, *by_pixels], start=1):
        with TemporaryDirectory(prefix="bleedmap-bench-") as place:
            warm = in_fresh_process(run_warm, write_phantom(Path(place) / "series", size), load, repeats)
        found.append({"shape": list(size)} | {key: warm[key] for key in ("seconds", "parts_s", "peak_mib", "times")})
        progress(number, of)
    done = []
    for number, count in enumerate(batches, start=len(found) + 1):
        done.append(_batch(load, max(1, repeats // count), count, shape))
        progress(number, of)
    return {"slices": found[: len(by_slices)], "pixels": found[len(by_slices) :], "studies": done}


def _batch(load: Load, turns: int, count: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    with TemporaryDirectory(prefix="bleedmap-bench-") as place:
        volume = _phantom(shape)
        for number in range(count):
            _write(Path(place) / "studies" / f"{number:03d}", volume, seed=number)
        runs = [
            run_cold(["batch", f"{place}/studies", "-o", f"{place}/out-{turn}", *load.flags()]) for turn in range(turns)
        ]
    seconds = median(one for one, _ in runs)
    return {
        "studies": count, "processes": count_processes(count), "shape": list(shape), "seconds": round(seconds, 3),
        "seconds_per_study": round(seconds / count, 3), "peak_mib": _highest(runs),
        "times": [round(one, 3) for one, _ in runs],
    }  # fmt: skip


def write_phantom(folder: Path, shape: tuple[int, int, int]) -> Path:
    """A phantom head with a bleed as a DICOM series of (slices, rows, columns); returns `folder`."""
    return _write(folder, _phantom(shape), seed=0)


def _phantom(shape: tuple[int, int, int]) -> Volume:
    slice_mm = min(max(_HEAD_MM / shape[0], _SLICE_MM[0]), _SLICE_MM[1])
    pixel_mm = _VIEW_MM / min(shape[1:])
    settings = PhantomSettings(
        seed=13, shape=shape, spacing_mm=(slice_mm, pixel_mm, pixel_mm), bleeds=(Bleed("IPH", 20.0, "left"),)
    )
    return make_phantom(settings).volume


def _write(folder: Path, volume: Volume, seed: int) -> Path:
    write_series(folder, ct_instances(volume, options=CtOptions(seed=seed)))
    return folder


def run_cold(words: list[str]) -> tuple[float, float | None]:
    """`bleedmap WORDS` in a fresh process: seconds, and MiB at its peak.

    Raises:
        RuntimeError: it did not end well.
    """
    begun = time.perf_counter()
    ended = subprocess.run([sys.executable, "-P", "-c", _COMMAND, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if ended.returncode:
        raise RuntimeError(f"bleedmap {' '.join(words)} ended with {ended.returncode}: {ended.stderr.strip()}")
    peak = ended.stderr.split()[-1]
    return seconds, None if peak == "None" else float(peak)


def run_warm(series: Path, load: Load, repeats: int) -> dict[str, Any]:
    """The steps of `bleedmap segment` in this process with one loaded network: medians of `repeats` times after a first
    one, which also fetches code and files from the disk, and each stage's share of their sum.
    """
    begun = time.perf_counter()
    segmenter = Segmenter.load(load.weights, threads=load.threads)
    load_s = time.perf_counter() - begun
    first, *others = (_time_stages(series, segmenter) for _ in range(repeats + 1))
    parts = {name: median(one[name] for one in others) for name in first}
    whole, totals = sum(parts.values()), [sum(one.values()) for one in others]
    return {
        "load_s": round(load_s, 3), "first_s": round(sum(first.values()), 3), "seconds": round(median(totals), 3),
        "parts_s": {name: round(value, 4) for name, value in parts.items()},
        "shares": {name: round(value / whole, 3) for name, value in parts.items()},
        "peak_mib": _rounded(peak_mib()), "times": [round(one, 3) for one in totals],
    }  # fmt: skip


def _time_stages(series: Path, segmenter: Segmenter) -> dict[str, float]:
    """Seconds of one study: reading, the network alone, the rest of segmenting, saving."""
    timed = _Timed(segmenter.backend)
    times = [time.perf_counter()]
    study = read_study(series)
    times.append(time.perf_counter())
    result = replace(segmenter, backend=timed).segment(study)
    times.append(time.perf_counter())
    with TemporaryDirectory(prefix="bleedmap-bench-") as place:
        save(result, Path(place) / "result")
        times.append(time.perf_counter())
    read, segmented, saved = (end - begin for begin, end in pairwise(times))
    return {
        "read": read, "network": timed.seconds, "rest_of_segmenting": segmented - timed.seconds, "save": saved,
    }  # fmt: skip


def _highest(runs: list[tuple[float, float | None]]) -> float | None:
    known = [peak for _, peak in runs if peak is not None]
    return _rounded(max(known)) if known else None


def _rounded(peak: float | None) -> float | None:
    return None if peak is None else round(peak, 1)
