"""The house as a picture and a table: made from the import contract and the packages' own first sentences."""

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE, THESIS = ROOT / "src/bleedmap", ROOT / "thesis/bleedmap_thesis"
_WIDTH, _GAP, _HIGH, _LEFT = 880, 8, 44, 12
_FILL = ("#e8eef7", "#f4ecd8", "#e6f2e6", "#f3e6ee", "#ece9f6")


def read_layers() -> list[list[str]]:
    """The layers that import-linter holds, top first; the packages of one layer do not import each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    return [[name.strip() for name in layer.replace("|", ":").split(":")] for layer in layers]


def first_sentence(name: str) -> str:
    """The first line of a package's or module's docstring."""
    folder = PACKAGE / name
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if name == "bleedmap_thesis":
        path = THESIS / "__init__.py"
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


def make_table() -> str:
    """Packages and modules, top first, with what each is for."""
    rows = ["| layer | what it is for |", "| --- | --- |"]
    for layer in [*_with_thesis(read_layers())]:
        rows += [f"| `{name}` | {first_sentence(name)} |" for name in layer]
    return "\n".join(rows)


def draw() -> str:
    """The layers as SVG: each may import those below it."""
    layers = _with_thesis(read_layers())
    height = _LEFT + len(layers) * (_HIGH + _GAP) + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'role="img" aria-label="The layers of bleedmap, top first">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for row, layer in enumerate(layers):
        wide = (_WIDTH - 2 * _LEFT - _GAP * (len(layer) - 1)) / len(layer)
        for column, name in enumerate(layer):
            x, y = _LEFT + column * (wide + _GAP), _LEFT + row * (_HIGH + _GAP)
            parts.append(
                f'<rect x="{x:.0f}" y="{y}" width="{wide:.0f}" height="{_HIGH}" rx="6" '
                f'fill="{_FILL[row % len(_FILL)]}" stroke="#667"/>'
                f'<text x="{x + wide / 2:.0f}" y="{y + 27}" font-size="16" text-anchor="middle" fill="#112">'
                f"{escape(name)}</text>"
            )
    parts.append(
        f'<text x="{_LEFT}" y="{height - 10}" font-size="13" fill="#445">Each layer imports only those below it; '
        "neighbours do not import each other.</text></svg>\n"
    )
    return "\n".join(parts)


def _with_thesis(layers: list[list[str]]) -> list[list[str]]:
    return [layers[0], ["bleedmap_thesis"], *layers[1:]]
