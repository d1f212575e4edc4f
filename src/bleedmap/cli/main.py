"""The command line: one small file a verb, loaded when it is called."""

import atexit
import gc
import importlib
import sys

import click

from bleedmap import __version__
from bleedmap.cli.edge import check_resources, exit_code_of, print_error, process_edge
from bleedmap.errors import BleedmapError, MissingExtraError, find_shortage

# verb -> (short help, as `bleedmap --help` shows it without loading the verb)
VERBS = {
    "demo": "Make a phantom head CT with a bleed as DICOM, segment it, show the result.",
    "segment": "Outline hemorrhage on a head CT: DICOM, NIfTI in HU, or slices (JPEG, PNG).",
    "batch": "Segment many studies of a folder, server or bucket into one summary table.",
    "compare": "Compare two studies of one patient: growth in mL and %, lesion by lesion.",
    "serve": "In the hospital: receive studies, segment them, send results, show a worklist.",
    "server": "Look after a server: status, users, backup.",
    "data": "The CT-ICH data set: download, verify, summary, nnU-Net's layout.",
    "split": "Write a split file: train, validation and test, by patient or by slice.",
    "train": "Train a network on CT-ICH, or on your own studies with masks.",
    "evaluate": "Measure a network: a split, the protocol, or studies of your own.",
    "export": "Turn a trained run into one ONNX file for `segment`.",
    "models": "List the networks and the weights that are installed.",
    "phantom": "Write a synthetic head CT with known bleeds as NIfTI or DICOM.",
    "bench": "Measure the speed on this machine: network, study, growing work, training.",
    "reproduce": "The 2021 thesis and our own network: their experiments, run again.",
    "figure": "Draw figures to print: of your own study, and those of the thesis.",
}

_EXTRAS = {
    "pooch": "data", "requests": "data",
    "sqlalchemy": "server", "pynetdicom": "server", "fastapi": "server", "uvicorn": "server", "argon2": "server",
    "limits": "server", "prometheus_client": "server", "python_multipart": "dicomweb",
    "fsspec": "s3", "s3fs": "s3", "authlib": "oidc", "httpx": "oidc", "ray": "ray",
    "torch": "train", "safetensors": "train", "onnx": "train", "onnxscript": "train",
    "tensorboard": "train", "matplotlib": "train", "cv2": "reproduce", "jinja2": "reproduce",
    "pandas": "reproduce", "skfuzzy": "reproduce", "sklearn": "train", "statsmodels": "reproduce",
}  # fmt: skip

_WITH_TORCH = ("train", "reproduce")
_FOLDERS = {"serve": "hospital.", "server": "hospital."}


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        check_resources(torch=name in _WITH_TORCH)
        command: click.Command = importlib.import_module(f"bleedmap.cli.{_FOLDERS.get(name, '')}{name}").command
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

    Exit codes: 0, done; 2, an error that you can mend, and the remedy is printed; 1, a fault of the program, or a
    batch in which a study failed; 130, stopped by Ctrl-C (143 by SIGTERM, 129 by SIGHUP), and how to resume is printed;
    141, the program that read the output has ended.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that a user can mend are printed without a traceback, exit code 2."""
    atexit.register(gc.freeze)  # else Python searches all objects for cycles on its way out: of a study, half a second
    with process_edge():
        sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    """Run, and return the exit code."""
    try:
        return int(bleedmap.main(args=arguments, prog_name="bleedmap", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        if isinstance(error.__cause__, EOFError):  # for click the end of a dialog, which we never have
            raise error.__cause__ from None
        print_error("stopped; give the same command again")
        return exit_code_of(error.__cause__)
    except Exception as error:
        known = _explain(error)
        if known is None:
            raise
        print_error(f"error: {known.explain()}")
        return known.exit_code


def _explain(error: Exception) -> BleedmapError | None:
    """Say what the user can mend; None where it is a fault of the program."""
    shortage = find_shortage(error)
    if shortage is not None:
        return shortage
    if isinstance(error, BleedmapError):
        return error
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        return MissingExtraError("this verb", _EXTRAS[package], package) if package in _EXTRAS else None
    if isinstance(error, OSError) and error.errno is not None:
        from bleedmap.io.files import explain_os_error

        return explain_os_error(error)
    return None


if __name__ == "__main__":
    main()
