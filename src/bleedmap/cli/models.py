"""`bleedmap models`."""

import json
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import json_option

if TYPE_CHECKING:
    from bleedmap.inference.weights import InstalledWeights
    from bleedmap.models.networks import UNetSettings

_SOURCES = {
    "model-1": "the thesis' Model 1",
    "model-2": "the thesis' Model 2: Model 1 with dropout",
    "original": "Ronneberger et al. 2015, with padded convolutions",
}


@click.command(short_help="List the networks and the weights that are installed.")
@json_option
def command(as_json: bool) -> None:
    """List the networks that `bleedmap train` knows, and the trained weights that `bleedmap segment` finds.

    In: nothing. Out: each network's layers and number of parameters; each weights file's size, licence, and
    whether its SHA-256 is still the one it was released with (ok, damaged or missing).

    \b
    bleedmap models
    bleedmap models --json
    """
    from bleedmap.inference.weights import installed
    from bleedmap.models.networks import NETWORKS

    networks = [_network(name, settings) for name, settings in NETWORKS.items()]
    weights = [_weights(one) for one in installed()]
    if as_json:
        click.echo(json.dumps({"networks": networks, "weights": weights}, indent=2, ensure_ascii=False))
    else:
        _print(networks, weights)


def _network(name: str, settings: "UNetSettings") -> dict[str, Any]:
    return {
        "name": name,
        "source": _SOURCES.get(name, ""),
        "layers": _layers(settings),
        "parameters": settings.parameter_count(),
        "settings": settings.to_dict(),
    }


def _layers(settings: "UNetSettings") -> str:
    parts = ["filters " + "–".join(map(str, settings.filters))]
    parts.append("batch normalisation" if settings.batch_norm else "no batch normalisation")
    if settings.dropout:
        parts.append(f"dropout {settings.dropout:g} in every block")
    if settings.bottom_dropout:
        parts.append(f"dropout {settings.bottom_dropout:g} on the two lowest levels")
    return ", ".join(parts)


def _weights(one: "InstalledWeights") -> dict[str, Any]:
    return {
        "name": one.name,
        "default": one.is_default,
        "state": one.state,
        "bytes": one.bytes,
        "sha256": one.sha256,
        "file": str(one.path),
        "description": one.description,
        "licence": one.licence,
        "attribution": one.attribution,
    }


def _print(networks: list[dict[str, Any]], weights: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title="Networks", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in ("Name", "Parameters", "Layers", "Source"):
        table.add_column(column, justify="right" if column == "Parameters" else "left")
    for one in networks:
        table.add_row(one["name"], f"{one['parameters']:,}", one["layers"], one["source"])
    console.print(table)
    console.print("\n[bold]Installed weights[/]")
    if not weights:
        console.print("none; give an .onnx file that `bleedmap export` wrote with --weights")
    for one in weights:
        colour = "green" if one["state"] == "ok" else "bold red"
        default = ", the default" if one["default"] else ""
        console.print(
            f"{escape(one['name'])}{default}: [{colour}]{one['state']}[/], {one['bytes'] / 1e6:.1f} MB, "
            f"SHA-256 {one['sha256'][:16]}…",
            soft_wrap=True,
        )
        for words in (one["description"], one["licence"], one["attribution"]):
            if words:
                console.print(f"  {escape(words)}", soft_wrap=True)
