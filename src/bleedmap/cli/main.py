"""The command line: one small file a verb, loaded when it is called."""

import atexit
import gc
import importlib
import sys

import click

from bleedmap import __version__
from bleedmap.errors import BleedmapError, MissingExtraError

# verb -> (short help, as `bleedmap --help` shows it without loading the verb)
VERBS = {
    "demo": "Make a phantom head CT with a bleed as DICOM, segment it, show the result.",
    "segment": "Outline hemorrhage on a head CT: DICOM, NIfTI in HU, or slices (JPEG, PNG).",
    "batch": "Segment a folder of many studies, DICOM or NIfTI, into one summary table.",
    "data": "The CT-ICH data set: download, verify, summary, nnU-Net's layout.",
    "split": "Write a split file: train, validation and test, by patient or by slice.",
    "train": "Train a network on CT-ICH.",
    "evaluate": "Measure a network: a split, the protocol, or studies of your own.",
    "export": "Turn a trained run into one ONNX file for `segment`.",
    "models": "List the networks and the weights that are installed.",
    "phantom": "Write a synthetic head CT with known bleeds as NIfTI or DICOM.",
    "bench": "How fast it is here: network, whole study, growing work, training.",
    "reproduce": "The 2021 thesis and our own network: their experiments, run again.",
    "figure": "Draw the thesis' figures: samples, architecture, curves, prediction.",
}

_EXTRAS = {
    "pooch": "data", "requests": "data",
    "torch": "train", "safetensors": "train", "onnx": "train", "onnxscript": "train",
    "tensorboard": "train", "matplotlib": "train", "cv2": "reproduce", "jinja2": "reproduce",
    "pandas": "reproduce", "skfuzzy": "reproduce", "sklearn": "train", "statsmodels": "reproduce",
}  # fmt: skip


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = getattr(importlib.import_module(f"bleedmap.cli.{name}"), "command")  # noqa: B009
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="bleedmap %(version)s")
def bleedmap() -> None:
    """Find and outline intracranial hemorrhage on head CT.

    Research software, not a medical device: no result may be used to diagnose or treat a patient.

    \b
    First steps:
      bleedmap demo                              a synthetic head, segmented
      bleedmap segment study/ -o result/         your own study: DICOM, NIfTI, or slices
      bleedmap data summary --data CT-ICH/       the public data set, counted
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a BleedmapError is printed without a traceback, exit code 2."""
    atexit.register(gc.freeze)  # else Python searches all objects for cycles on its way out: of a study, half a second
    try:
        bleedmap.main(args=arguments, prog_name="bleedmap")
    except BleedmapError as error:
        click.echo(f"error: {error.explain()}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRAS:
            raise
        missing = MissingExtraError("this verb", _EXTRAS[package], package)
        click.echo(f"error: {missing.explain()}", err=True)
        sys.exit(missing.exit_code)


if __name__ == "__main__":
    main()
