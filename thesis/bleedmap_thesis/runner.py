"""Runs the cells of the thesis' experiment one after another; one that was killed is resumed where it stood."""

import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bleedmap.archive.ledger import Job, Ledger
from bleedmap.archive.workers import try_cell
from bleedmap.arrays import AnyArray, ignore
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.splits import Split
from bleedmap.errors import SettingsError
from bleedmap.metrics import overlap
from bleedmap.models.unet import UNet
from bleedmap.preprocess import Preprocessing
from bleedmap.training.config import TrainConfig
from bleedmap.training.device import Machine
from bleedmap.training.passes import predict, train_passes
from bleedmap.training.run import Run, code_version
from bleedmap.training.samples import Side, load_side
from bleedmap_thesis.plan import FOLDS, PARTS, SCALES, UNET, Cell, SplitPair, cells, split_pair, split_pairs
from bleedmap_thesis.record import THRESHOLD, CellResult, Evaluation, count_sides, read_result

Report = Callable[[str, int, int], None]  # what is being done, done, of


class CellRunner:
    """A folder of results (`results/`, small, to keep) and of runs (`runs/`, large, may be deleted when done)."""

    def __init__(self, folder: Path, data: CtIch, machine: Machine) -> None:
        self.folder, self.data, self.machine = folder, data, machine
        self.lesions = {record.id for record in data.slices if record.has_lesion}
        self._pair = cache(self._make_pair)
        self._loaded: tuple[Preprocessing, Side] | None = None

    def run(self, cell: Cell, report: Report = ignore) -> CellResult:
        """Return the cell's result, from its file where it is done.

        Raises:
            SettingsError: its result or its unfinished run has other settings than the cell.
        """
        path, threads = result_file(self.folder, cell), torch.get_num_threads()
        if path.exists():
            result = read_result(path)
            refuse_other(path, result, cell)
        else:
            result = self._train(cell, report) if cell.method == UNET else self._run_baseline(cell, report)
            result.write(path)
            torch.set_num_threads(threads)  # a resumed run may have had another number
        _tidy(open_run(self.folder, cell))
        return result

    def run_beside_others(self, run: str, cell: Cell) -> str:
        """Run a cell in one process of several, also of other commands; return its key; see `try_cell`."""

        def do() -> None:
            with cell_ledger(self.folder).claim(make_job(cell), wait=True):
                self.run(cell)

        return try_cell(self.folder, cell.key, run, do)

    def _make_pair(self, seed: int, fold: int | None) -> SplitPair:
        return split_pair(self.data, seed) if fold is None else split_pairs(self.data, seed, FOLDS)[fold - 1]

    def _load_slices(self, settings: Preprocessing, report: Report) -> Side:
        """Load the whole data set, prepared; memory holds one preparation at a time."""
        if self._loaded is None or self._loaded[0] != settings:
            self._loaded = None
            ids = [record.id for record in self.data.slices]
            side = load_side(self.data, ids, settings, lambda done, of: report("reading slices", done, of))
            self._loaded = settings, side.to(self.machine.device)
        return self._loaded[1]

    def _train(self, cell: Cell, report: Report) -> CellResult:
        config, pair = cell.config, self._pair(cell.seed, cell.fold)
        assert config is not None
        slices, split = self._load_slices(config.preprocessing(), report), pair.of(cell.kind)
        run, machine = self._open_run(cell, config, split)
        network = train_passes(
            run, config, slices.select(split.train), slices.select(split.validation), machine,
            lambda done, entry: report("training", int(done), config.epochs) if entry else None,
        )  # fmt: skip
        trained, test, rest = time.monotonic(), slices.select(split.test), slices.select(pair.rest)
        evaluations = []
        for epoch in range(config.keep_every, config.epochs + 1, config.keep_every):
            kept = run.kept(epoch)[0].to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            evaluations.append(_evaluate(kept, epoch, test, machine))
        curves = [{name: value for name, value in entry.items() if name != "seconds"} for entry in run.metrics()]
        last = _evaluate(network, config.epochs, rest, machine)
        seconds = sum(entry["seconds"] for entry in run.metrics())  # of all processes that were at it
        return CellResult(
            cell, count_sides(split, self.lesions), network.settings.parameter_count(), curves, tuple(evaluations),
            last, _describe_making(run.record()["code"], machine, seconds, seconds + time.monotonic() - trained),
        )  # fmt: skip

    def _open_run(self, cell: Cell, config: TrainConfig, split: Split) -> tuple[Run, Machine]:
        """Open the cell's run; begin it where it is not, and anew where it was killed while it began."""
        run = open_run(self.folder, cell)
        if not run.record_file.exists():
            shutil.rmtree(run.folder, ignore_errors=True)
            run.begin(config, split, self.machine)
        if run.config() != config or run.split() != split:
            raise SettingsError(
                run.folder,
                found="an unfinished run of other settings, or on another split",
                needed=f"a run of the cell {cell.key}",
                remedy="finish it with the version that began it, or delete that folder",
            )
        return run, run.machine()

    def _run_baseline(self, cell: Cell, report: Report) -> CellResult:
        from bleedmap_thesis.baselines import BASELINES  # noqa: PLC0415 - scikit-learn takes a second to load

        pair, begun = self._pair(cell.seed, cell.fold), time.monotonic()
        slices, split = self._load_slices(Preprocessing(size=SCALES[cell.scale].size), report), pair.of(cell.kind)
        test = slices.select(split.test)
        found = BASELINES[cell.method](
            slices.select(split.train), test, self.machine, cell.seed, lambda done, of: report(cell.method, done, of)
        )
        seconds = time.monotonic() - begun
        counts = None if found.mask is None else overlap.count(_masks(test), found.mask)
        return CellResult(
            cell, count_sides(split, self.lesions), found.parameters, [],
            (Evaluation(0, test.ids, found.score, counts, extra=found.extra),), None,
            _describe_making(code_version(), self.machine, seconds, seconds),
        )  # fmt: skip


def cell_ledger(folder: Path) -> Ledger:
    """Return the ledger of cells; its records are the cells' results, its locks lie among their runs."""
    return Ledger(folder, "", records="results", locks="runs", name=str)


def make_job(cell: Cell) -> Job:
    """Return a cell as a job; what it was run with stands in its result."""
    return Job(cell.key, "", {})


def result_file(folder: Path, cell: Cell) -> Path:
    """Return where a cell's result is, or will be."""
    return cell_ledger(folder).record_file(cell.key)


def open_run(folder: Path, cell: Cell) -> Run:
    """Open a cell's training run."""
    return Run(folder / "runs" / cell.key)


def find_state(folder: Path, cell: Cell) -> str:
    """Find whether a cell is done, running (in a process), begun (by one that is gone) or open."""
    if result_file(folder, cell).exists():
        return "done"
    if (folder / "runs" / f"{cell.key}.lock").exists():
        with cell_ledger(folder).claim(make_job(cell), wait=False) as ours:
            if not ours:
                return "running"
    return "begun" if open_run(folder, cell).folder.exists() else "open"


def read_results(folder: Path) -> list[CellResult]:
    """Read all finished cells, of every scale.

    Raises:
        SettingsError: one is not of a cell as it is planned now.
        InputError: one cannot be read.
    """
    paths = sorted((folder / "results").rglob("*.json"))
    results = [read_result(path) for path in paths]
    seeds = 1 + max((result.cell.seed for result in results), default=0)
    every = [
        one for scale in SCALES.values() for alone in (False, True) for one in cells(scale, PARTS, seeds, alone=alone)
    ]
    planned = {cell.key: cell for cell in every}
    for path, result in zip(paths, results, strict=True):
        refuse_other(path, result, planned.get(result.cell.key))
    return results


def refuse_other(path: Path, result: CellResult, cell: Cell | None) -> None:
    """Refuse a result that is not of the cell: it was made by other settings.

    Raises:
        SettingsError: so it is.
    """
    if result.cell != cell:
        raise SettingsError(
            path,
            found="a result of other settings than this version's" if cell else "a result of no cell of this version",
            needed="results of the cells as they are planned",
            remedy="move the file away: its cell is run again",
        )


def _describe_making(begun_by: str, machine: Machine, training_s: float, all_s: float) -> dict[str, Any]:
    device = torch.cuda.get_device_name(machine.device) if machine.device.type == "cuda" else machine.device.type
    now = code_version()
    return {
        "code": begun_by if begun_by == now else f"{begun_by}, finished by {now}", "device": device,
        "bf16": machine.bf16, "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        "training_s": round(training_s, 1), "seconds": round(all_s, 1),
    }  # fmt: skip


def _evaluate(network: UNet, epoch: int, side: Side, machine: Machine) -> Evaluation:
    inputs = side.inputs.to(machine.device)  # a run that began on another device stays there
    probability, reference = torch.sigmoid(predict(network, inputs, machine))[:, 0].cpu().numpy(), _masks(side)
    soft_hit, soft_sum = (one.sum(axis=(1, 2), dtype=np.float64) for one in (probability * reference, probability))
    counts = overlap.count(reference, probability >= THRESHOLD)
    return Evaluation(epoch, side.ids, probability.max(axis=(1, 2)), counts, soft_hit, soft_sum)


def _masks(side: Side) -> AnyArray:
    """(n, size, size) bool."""
    return np.asarray(side.masks[:, 0].cpu().numpy() > 0)


def _tidy(run: Run) -> None:
    """Keep the best and the last network of a finished run, if there is one; the rest is large and has served."""
    run.checkpoint_file.unlink(missing_ok=True)
    for path in sorted(run.kept_file(0).parent.glob("*.safetensors"))[:-1]:
        path.unlink()
