"""`bleedmap export`."""

from pathlib import Path

import click

from bleedmap.cli import options
from bleedmap.cli.console import print_json


@click.command()
@click.argument("source", metavar="RUN", type=click.Path(path_type=Path))
@options.out_option("The .onnx file to write.")
@click.option("--name", help="What the weights call themselves; the file's own name by default.")
@options.json_option
def command(source: Path, out: Path, name: str | None, as_json: bool) -> None:
    """Turn a trained run into one ONNX file for `segment`.

    In: a run folder. Out: an .onnx file with the best network (weights in fp16), its preprocessing and how it was
    trained, and a .sha256 beside it. The file needs no torch to run.

    \b
    bleedmap export runs/quick -o quick.onnx
    bleedmap segment slices/ --weights quick.onnx -o result/
    """
    from bleedmap.training.export import export_run
    from bleedmap.training.run import open_run

    if out.suffix.lower() != ".onnx":
        raise click.BadParameter(f"'{out}' must end in .onnx", param_hint="--out")
    record = export_run(open_run(source), name or out.stem, out)
    if as_json:
        print_json(record)
    else:
        moment = f"epoch {record['epoch']}" if "epoch" in record else f"step {record['step']:,}"
        click.echo(f"{out}: {record['bytes'] / 1e6:.1f} MB, {moment}, SHA-256 {record['sha256']}")
