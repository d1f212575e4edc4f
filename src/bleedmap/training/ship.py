"""A run's best network -> one ONNX file with all that `segment` and a reader need to know of it."""

from pathlib import Path
from typing import Any

from bleedmap.io.files import written_whole
from bleedmap.models.export import export_onnx
from bleedmap.postprocess import THRESHOLD
from bleedmap.training.run import Run

DATA = {  # by release, with its licence
    "1.0.0 JPEG": "CT-ICH 1.0.0 (Hssayeni et al., doi 10.13026/w8q8-ky94, CC BY 4.0)",
    "1.3.1 NIfTI": "CT-ICH 1.3.1 (Hssayeni et al., PhysioNet, restricted licence)",
}


def ship(run: Run, name: str, path: Path) -> dict[str, Any]:
    """Export `run`'s best network to `path`, its SHA-256 to `path`.sha256.

    Returns:
        The record in the file, with its own 'sha256' and 'bytes' added.
    """
    network, checkpoint = run.best()
    config, split = run.config(), run.split()
    settings = config.preprocessing()
    patients = split.patients("train")
    trained_on = (
        f"{DATA[split.release]}: {len(split.train):,} slices of {len(patients)} patients, split by {split.kind}"
    )
    if config.phantoms:
        trained_on += f"; and {config.phantoms} phantoms (synthetic heads)"
    record = {
        "name": name,
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
        "split": {
            "kind": split.kind, "seed": split.seed, "fold": split.fold, "folds": split.folds,
            "balanced": split.balanced, "data_sha256": split.data_sha256,
        },
        "epoch": checkpoint.record["epoch"],
        "purpose": "research software, not a medical device",
    }  # fmt: skip
    sha256 = export_onnx(network, settings.size, record, path)
    with written_whole(path.with_name(f"{path.name}.sha256")) as beside:
        beside.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    return record | {"sha256": sha256, "bytes": path.stat().st_size}
