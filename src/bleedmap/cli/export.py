"""`bleedmap export`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import data_option, json_option, progress_bar

if TYPE_CHECKING:
    from bleedmap.inference.weights import WeightsFile


@click.command(short_help="Turn a trained run into one ONNX file for `segment`.")
@click.argument("source", metavar="RUN|WEIGHTS", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The .onnx file to write.")
@click.option("--name", help="What the weights call themselves; the file's own name by default. Not with --int8.")
@click.option("--int8", is_flag=True, help="Weights in, the same in int8 out; needs --data and the extra 'int8'.")
@data_option
@json_option
def command(source: Path, out: Path, name: str | None, int8: bool, data: Path | None, as_json: bool) -> None:
    """Turn a trained run into one ONNX file for `segment`; or, with --int8, weights into int8.

    In: a run folder. Out: an .onnx file with the best network (weights in fp16), its preprocessing and how it was
    trained, and a .sha256 beside it. The file needs no torch to run.

    \b
    bleedmap export runs/quick -o quick.onnx
    bleedmap segment slices/ --weights quick.onnx -o result/

    With --int8, in: installed weights by name or an .onnx file, and CT-ICH, some slices of the very patients that the
    weights were trained on: they set the ranges of the network's numbers. Out: an .onnx file a little over half as
    large that runs faster, in OpenVINO only. Its answers differ, at lesions' edges and in faint lesions by much:
    `bleedmap reproduce precisions` says by how much.

    \b
    bleedmap export ct-ich-lite --int8 --data ct-ich -o lite.int8.onnx
    bleedmap segment study/ --weights lite.int8.onnx -o result/
    """
    if out.suffix.lower() != ".onnx":
        raise click.BadParameter(f"'{out}' must end in .onnx", param_hint="--out")
    if int8:
        if name is not None:
            raise click.UsageError("--name is of a run's export: an int8 file is named for the weights it is made from")
        written = _int8(source, out, data, quiet=as_json)
        record: dict[str, Any] = written.record | {"sha256": written.sha256, "bytes": len(written.content)}
        words = f"int8, calibrated on {record['int8']['slices']} slices"
    else:
        from bleedmap.training.run import open_run
        from bleedmap.training.ship import ship

        if data is not None:
            raise click.UsageError("--data is for --int8: a run's export needs no data")
        record = ship(open_run(source), name or out.stem, out)
        words = f"epoch {record['epoch']}"
    if as_json:
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(f"{out}: {record['bytes'] / 1e6:.1f} MB, {words}, SHA-256 {record['sha256']}")


def _int8(source: Path, out: Path, data: Path | None, *, quiet: bool) -> "WeightsFile":
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.folds.int8 import make_int8
    from bleedmap.inference.weights import locate

    weights = locate(str(source))
    if out.exists() and out.samefile(weights.path):
        raise click.BadParameter(f"'{out}' is the file that it is made from", param_hint="--out")
    with progress_bar("Reading training patients", quiet=quiet) as progress:
        return make_int8(weights, open_ct_ich(data_root(data)), out, progress)
