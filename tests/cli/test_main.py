"""The front door: quick, torch-free where it promises to be, and its words are the verbs' own."""

import hashlib
import subprocess
import sys

import click
import pytest

from bleedmap.cli.main import VERBS, bleedmap
from plain_install import TRAINING_PACKAGES, without_training_packages


def loaded_by(code: str) -> set[str]:
    """Top-level packages in memory after running some code in a fresh interpreter."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_and_help_load_nothing_heavy():
    heavy = {*TRAINING_PACKAGES, "numpy", "scipy", "openvino", "nibabel", "PIL"}
    assert not loaded_by("import bleedmap") & heavy
    assert not loaded_by("from bleedmap.cli.main import bleedmap\nbleedmap(['--help'], standalone_mode=False)") & heavy


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    command = bleedmap.get_command(click.Context(bleedmap), verb)
    assert command is not None
    assert "bleedmap " + verb in (command.help or "")  # an example
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, f"{verb}: {option.name} has no help"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_needs_no_training_package(verb):
    shown = without_training_packages(verb, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Usage: bleedmap")


def test_a_missing_extra_is_named(tmp_path):
    ended = without_training_packages("export", str(tmp_path), "-o", str(tmp_path / "network.onnx"))
    assert ended.returncode == 2
    assert "pip install 'bleedmap[train]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_download_names_its_small_extra_and_verifying_needs_none(tmp_path):
    ended = without_training_packages("data", "download", "-o", str(tmp_path / "ct-ich"))
    assert ended.returncode == 2
    assert "pip install 'bleedmap[data]'" in ended.stderr
    (tmp_path / "SHA256SUMS.txt").write_text(hashlib.sha256(b"a").hexdigest() + "  a\n", "utf-8")
    (tmp_path / "a").write_bytes(b"a")
    ended = without_training_packages("data", "verify", "--data", str(tmp_path))
    assert ended.returncode == 0, ended.stderr


def test_no_source_file_holds_a_pickle_reader():
    from pathlib import Path

    import bleedmap as package

    for path in Path(package.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "pickle" not in text.replace("Nothing pickled", "").replace("no pickle", ""), path
        assert "torch.load(" not in text, path
        assert "allow_pickle=True" not in text, path
