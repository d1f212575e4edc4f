"""A run's best network as one ONNX file, with all that `segment` and a reader need to know of it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bleedmap.datasets.splits import Split
from bleedmap.io.files import written_whole
from bleedmap.models.checkpoint import Checkpoint
from bleedmap.models.export import export_onnx
from bleedmap.models.lite_unet import LiteUNet
from bleedmap.models.unet import UNet
from bleedmap.postprocess import THRESHOLD
from bleedmap.training.config import LiteConfig, Recipe, TrainConfig
from bleedmap.training.run import Run, code_version
from bleedmap.training.studies import CT_ICH, Studies

TRAINED = ("trained_patients", "trained_studies")  # who a network has seen: of CT-ICH, and of one's own by hashes
PURPOSE = "research software, not a medical device"


def export_run(run: Run, name: str, path: Path) -> dict[str, Any]:
    """Export `run`'s best network to `path`, its SHA-256 to `path`.sha256.

    Returns:
        The record in the file, with its own 'sha256' and 'bytes' added.
    """
    network, checkpoint = run.best()
    config = run.settings()
    if isinstance(config, LiteConfig):
        record, size = _describe_lite_run(run, checkpoint), config.recipe.size
    else:
        record, size = _describe_passes(run, config, network, checkpoint), config.size
    record = {"name": name, **record}
    sha256 = export_onnx(network, size, record, path)
    with written_whole(path.with_name(f"{path.name}.sha256")) as temporary:
        temporary.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    return record | {"sha256": sha256, "bytes": path.stat().st_size}


def describe_lite(
    recipe: Recipe, phantoms: int, studies: Studies, numbers: tuple[int, ...], training: dict[str, Any],
    data_sha256: str, start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the file of a network says of itself that was trained by recipes on some studies, `recipe` the last and
    `training` all of them; name, threshold and certainty are left.

    Args:
        start: record of the network that it began with; what that was trained on, it was trained on too.
    """
    about, each = studies.describe(numbers), recipe.paintings
    first = "ImageNet" if start is None else f"{start['name']} ({start['trained_on']})"
    seen = {key: sorted({*about.get(key, ()), *start.get(key, ())}) for key in TRAINED} if start is not None else {}
    painted = f", {each} synthetic bleeds painted into each patient without one" if each else ""
    return {
        "network": recipe.network().to_dict(),
        "preprocessing": asdict(recipe.preprocessing()),
        **about,
        **seen,
        "trained_on": f"{about['trained_on']}{painted}; before and among them {phantoms} phantoms (synthetic heads); "
        f"first of all {first}",
        "code": code_version(),
        "training": training,
        "data_sha256": data_sha256,
        "purpose": PURPOSE,
    }


def _describe_lite_run(run: Run, checkpoint: Checkpoint) -> dict[str, Any]:
    record = {**checkpoint.record["export"], "step": checkpoint.record["step"]}
    if run.is_own:
        own = run.own_split()
        chosen, about = [one.images for one in own.side("validation")], {"kind": "patient", "seed": own.seed}
        return record | {"chosen_on_studies": chosen, "split": about | {"data_sha256": own.data_sha256}}
    split = run.split()
    return record | {"chosen_on_patients": list(split.patients("validation")), "split": _describe_split(split)}


def _describe_split(split: Split) -> dict[str, Any]:
    return {
        "kind": split.kind, "seed": split.seed, "fold": split.fold, "folds": split.folds, "balanced": split.balanced,
        "data_sha256": split.data_sha256,
    }  # fmt: skip


def _describe_passes(
    run: Run, config: TrainConfig, network: UNet | LiteUNet, checkpoint: Checkpoint
) -> dict[str, Any]:  # fmt: skip
    split, settings = run.split(), config.preprocessing()
    patients = split.patients("train")
    trained_on = (
        f"{CT_ICH[split.release]}: {len(split.train):,} slices of {len(patients)} patients, split by {split.kind}"
    )
    if config.phantoms:
        trained_on += f"; and {config.phantoms} phantoms (synthetic heads)"
    return {
        "network": network.settings.to_dict(),
        "preprocessing": {
            "size": settings.size,
            "frame": settings.frame,
            "clahe": settings.clahe,
            "window": {"level_hu": settings.window.level_hu, "width_hu": settings.window.width_hu},
        },
        "threshold": THRESHOLD,
        "trained_on": trained_on,
        "trained_patients": list(patients),
        "chosen_on_patients": list(split.patients("validation")),
        "code": run.record()["code"],
        "training": config.to_dict(),
        "split": _describe_split(split),
        "epoch": checkpoint.record["epoch"],
        "purpose": PURPOSE,
    }
