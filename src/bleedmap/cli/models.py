"""`bleedmap models`."""

from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from bleedmap.cli import options
from bleedmap.cli.console import print_json, print_line, print_rows

if TYPE_CHECKING:
    from bleedmap.models.networks import UNetSettings

_SOURCES = {
    "model-1": "the thesis' Model 1",
    "model-2": "the thesis' Model 2: Model 1 with dropout",
    "original": "Ronneberger et al. 2015, with padded convolutions",
}


@click.command()
@options.json_option
def command(as_json: bool) -> None:
    """List the networks that `bleedmap train` can train, and the trained weights that `bleedmap segment` can use.

    In: nothing. Out: for each network its layers and number of parameters; for each weights file its size, its licence,
    and whether its SHA-256 is still that of the release: ok, damaged or missing.

    \b
    bleedmap models
    bleedmap models --json
    """
    from bleedmap.inference.weights import installed
    from bleedmap.models.networks import NETWORKS

    networks = [
        {
            "name": name, "source": _SOURCES.get(name, ""), "layers": _layers(settings),
            "parameters": settings.parameter_count(), "settings": settings.to_dict(),
        }
        for name, settings in NETWORKS.items()
    ]  # fmt: skip
    weights = [
        {
            "name": one.name, "default": one.is_default, "state": one.state, "bytes": one.bytes, "sha256": one.sha256,
            "file": str(one.path), "description": one.description, "licence": one.licence,
            "attribution": one.attribution,
        }
        for one in installed()
    ]  # fmt: skip
    if as_json:
        print_json({"networks": networks, "weights": weights})
    else:
        _print(networks, weights)


def _layers(settings: "UNetSettings") -> str:
    parts = ["filters " + "–".join(map(str, settings.filters))]
    parts.append("batch normalisation" if settings.batch_norm else "no batch normalisation")
    if settings.dropout:
        parts.append(f"dropout {settings.dropout:g} in every block")
    if settings.bottom_dropout:
        parts.append(f"dropout {settings.bottom_dropout:g} on the two lowest levels")
    return ", ".join(parts)


def _print(networks: list[dict[str, Any]], weights: list[dict[str, Any]]) -> None:
    rows = ((one["name"], f"{one['parameters']:,}", one["layers"], one["source"]) for one in networks)
    print_rows("Name", ">Parameters", "Layers", "Source", rows=rows, title="Networks")
    print_line("\n[bold]Installed weights[/]")
    if not weights:
        print_line("none; give an .onnx file that `bleedmap export` wrote with --weights")
    for one in weights:
        colour = "green" if one["state"] == "ok" else "bold red"
        default = ", the default" if one["default"] else ""
        print_line(
            f"{escape(one['name'])}{default}: [{colour}]{one['state']}[/], {one['bytes'] / 1e6:.1f} MB, "
            f"SHA-256 {one['sha256'][:16]}…"
        )
        for words in (one["description"], one["licence"], one["attribution"]):
            if words:
                print_line(f"  {escape(words)}")
