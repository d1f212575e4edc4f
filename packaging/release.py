"""Make what a release consists of, in dist/: `make release`.

The wheel and the source archive are built twice, from two copies of the commit in folders of other names, and must be
equal, byte for byte. The wheel is installed in an empty environment of each Python that is asked for, where it segments
the demo. What the base and the server install is listed as a bill of materials (CycloneDX) with every licence.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import build
import rattler_build

import bleedmap

ROOT = Path(__file__).parents[1]
EXTRAS = {"base": "", "server": "[server,postgres,oidc]"}


def main() -> int:
    """Check, build twice, compare, install, list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="*", default=[sys.executable], help="interpreters to install the wheel in")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    asked = parser.parse_args()
    check_versions()
    check_conda_recipe()
    subprocess.run(["hadolint", ROOT / "packaging/Containerfile"], check=True)
    shutil.rmtree(asked.out, ignore_errors=True)
    files = build_twice(asked.out)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    wheel = next(one for one in files if one.suffix == ".whl")
    for python in asked.python:
        try_wheel(python, wheel)
    for name, extras in EXTRAS.items():
        list_parts(name, f"{wheel}{extras}", asked.out)
    sums = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in sorted(asked.out.iterdir())]
    (asked.out / "SHA256SUMS").write_text("".join(sums), "utf-8")
    print("".join(sums), end="")
    return 0


def check_versions() -> None:
    """The version stands in `bleedmap.__version__`; changelog, citation and recipe must name it."""
    places = {
        "CHANGELOG.md": rf"^## \[{re.escape(bleedmap.__version__)}\]",
        "CITATION.cff": rf"^version: {re.escape(bleedmap.__version__)}$",
        "packaging/conda/recipe.yaml": rf'^  version: "{re.escape(bleedmap.__version__)}"$',
    }
    for name, pattern in places.items():
        if not re.search(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE):
            sys.exit(f"{name} does not name version {bleedmap.__version__}")


def check_conda_recipe() -> None:
    """The recipe parses, and asks for the versions that pyproject.toml asks for."""
    recipe = rattler_build.Stage0Recipe.from_file(ROOT / "packaging/conda/recipe.yaml")
    asked = {str(one) for one in recipe.to_dict()["requirements"]["run"]}
    wanted = re.findall(
        r'^    "([A-Za-z0-9-]+)(>=[0-9.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    base = wanted[: next(row for row, (name, _) in enumerate(wanted) if name == "scipy") + 1]
    for name, version in base:
        if f"{name.removeprefix('python-')} {version}" not in asked:
            sys.exit(f"packaging/conda/recipe.yaml lacks {name} {version}")


def build_twice(out: Path) -> list[Path]:
    """Build from two copies of the commit; they must be equal."""
    commit = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], check=True, capture_output=True).stdout
    when = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], check=True, capture_output=True, text=True)
    os.environ["SOURCE_DATE_EPOCH"] = when.stdout.strip()
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for name, mask in (("one", 0o022), ("another-place", 0o077)):
            source, before = Path(folder) / name, os.umask(mask)
            source.mkdir()
            subprocess.run(["tar", "-x", "-C", source], input=commit, check=True)
            builder = build.ProjectBuilder(source)
            made.append([Path(builder.build(kind, source / "built")) for kind in ("sdist", "wheel")])
            os.umask(before)
        for first, second in zip(*made, strict=True):
            if first.read_bytes() != second.read_bytes():
                sys.exit(f"{first.name}: two builds differ")
        out.mkdir(parents=True)
        return [Path(shutil.copy(one, out)) for one in made[0]]


def try_wheel(python: str, wheel: Path) -> None:
    """Install the wheel alone, from another folder than the sources', and segment the demo."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", f"{folder}/empty"], check=True)
        pip, program = f"{folder}/empty/bin/pip", f"{folder}/empty/bin/bleedmap"
        subprocess.run([pip, "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel], check=True)
        said = subprocess.run(
            [program, "demo", "-o", "demo", "--json"], cwd=folder, check=True, capture_output=True, text=True
        )
        found = json.loads(said.stdout)
        print(f"{python}: the demo's {sum(one['true_volume_ml'] for one in found['bleeds']):.1f} mL, found and written")


def list_parts(name: str, wheel: str, out: Path) -> None:
    """Write `bleedmap-NAME.cdx.json` and `bleedmap-NAME-licences.csv` of what an install holds."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = f"{folder}/bin/pip"
        subprocess.run([pip, "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel], check=True)
        subprocess.run([pip, "uninstall", "--quiet", "--yes", "pip", "setuptools"], check=True)
        target = out / f"bleedmap-{name}.cdx.json"
        subprocess.run(
            ["cyclonedx-py", "environment", folder, "--output-reproducible", "--output-file", target], check=True
        )
    parts = sorted(json.loads(target.read_text("utf-8"))["components"], key=lambda part: part["name"].lower())
    with (out / f"bleedmap-{name}-licences.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("package", "version", "licence"))
        for part in parts:
            rows.writerow((part["name"], part["version"], name_licence(part)))


def name_licence(part: dict[str, Any]) -> str:
    """The licence by SPDX where the package says so, else by its own words; a package without one stops the release."""
    found = [
        one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in part.get("licenses", [])
    ]
    if not found:
        sys.exit(f"{part['name']} {part['version']} names no licence")
    return " / ".join(sorted(set(found)))


if __name__ == "__main__":
    sys.exit(main())
