"""Flags that several verbs share, and flags made from a dataclass of settings."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from bleedmap.errors import OutputError

Verb = TypeVar("Verb", bound=Callable[..., Any])


def choice_option(flag: str, choices: Sequence[str], text: str) -> Callable[[Verb], Verb]:
    """The flag of one choice among some, the first of which is the default."""
    return click.option(flag, type=click.Choice(choices), default=choices[0], show_default=True, help=text)


data_option = click.option(
    "--data", type=click.Path(path_type=Path),
    help="Folder of the data set CT-ICH. Not given: the folder that the variable BLEEDMAP_DATA names.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text and tables.")
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace the results of an earlier run in that folder."
)
_PRECISIONS = ("auto", "fp32", "bf16")
device_option = choice_option(
    "--device", ("auto", "cpu", "cuda", "mps"), "Where the network runs; auto takes a GPU if there is one."
)
precision_option = choice_option(
    "--precision", _PRECISIONS, "Number format; auto takes bf16 if the machine computes it natively."
)
weights_option = click.option(
    "--weights",
    help="Installed weights by name (`bleedmap models` lists them), or an .onnx file. Not given: the default.",
)
inference_precision_option = choice_option(
    "--precision", _PRECISIONS,
    "Number format. fp32: the same results on every machine, up to rounding. auto: faster without changing what "
    "is found, with the decoder in bf16 if the processor supports it. bf16: faster still, but lesions' edges differ.",
)  # fmt: skip
threshold_option = click.option(
    "--threshold", type=click.FloatRange(0, 1, min_open=True),
    help="A pixel counts as lesion from this probability on, in slices that the network classifies as bleeding. "
    "Not given: the weights' own threshold.",
)  # fmt: skip
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N",
    help="Number of processor threads for the network. Not given: chosen automatically.",
)  # fmt: skip
accept_option = click.option(
    "--accept", multiple=True, metavar="CHECK",
    help="Go on although this input check refuses; the results say so. Repeat for several checks.",
)  # fmt: skip
window_option = click.option(
    "--window", nargs=2, type=float, metavar="LEVEL WIDTH",
    help="Pictures only: the window in HU in which they were exported. Not given: the brain window, 40 120.",
)  # fmt: skip
mask_name_option = click.option(
    "--mask-name", metavar="TEXT",
    help="With --studies: what the names of the masks begin or end with, or what their folder is called, if the usual "
    "names do not tell, or if several readers drew. Not given: mask, seg, label and the like.",
)  # fmt: skip
mask_label_option = click.option(
    "--mask-label", "mask_labels", metavar="N", type=click.IntRange(min=1), multiple=True,
    help="With --studies: a number in the masks that is hemorrhage, where others are not, as edema. Repeat for several."
    " Not given: all but 0.",
)  # fmt: skip
patients_option = click.option(
    "--patients", type=click.Path(path_type=Path),
    help="With --studies: a CSV with the columns study and patient. Not given: patients.csv in the folder, else the "
    "Patient ID of DICOM files, else each study is a patient.",
)  # fmt: skip
no_dicom_option = click.option("--no-dicom", is_flag=True, help="Write no DICOM results for DICOM studies.")
fractional_option = click.option(
    "--fractional", is_flag=True, help="For DICOM studies, also write the probability as a FRACTIONAL segmentation."
)


def remote_options(verb: Verb) -> Verb:
    """The flags that say how a server is asked."""
    token = click.option(
        "--token-file", type=click.Path(), default="", metavar="FILE", envvar="BLEEDMAP_TOKEN_FILE",
        help="DICOMweb: file of a bearer token, read anew for each question. Not given: the variable "
        "BLEEDMAP_TOKEN_FILE, else name and password of the host in ~/.netrc.",
    )  # fmt: skip
    authority = click.option(
        "--ca-file", type=click.Path(), default="", metavar="FILE",
        help="DICOMweb: PEM file of the authority that signed the server's certificate. Not given: the system's.",
    )  # fmt: skip
    return token(authority(verb))


def out_option(text: str, *, required: bool = True) -> Callable[[Verb], Verb]:
    """The flag of the file or folder that a verb writes."""
    return click.option("-o", "--out", type=click.Path(path_type=Path), required=required, help=text)


def refuse_inside(out: Path, *inputs: Path) -> None:
    """Refuse a folder of results that holds an input.

    Raises:
        OutputError: it does.
    """
    holding = next((path for path in inputs if path.resolve().is_relative_to(out.resolve())), None)
    if holding is not None:
        raise OutputError(
            out, found=f"holds the input {holding}", needed="a folder of its own for the results",
            remedy="give another folder with -o",
        )  # fmt: skip


def path_option(*names: str, text: str) -> Callable[[Verb], Verb]:
    """The flag of a file or folder that may be left out."""
    return click.option(*names, type=click.Path(path_type=Path), help=text)


def settings_options(settings: type) -> Callable[[Verb], Verb]:
    """A flag for each field of a dataclass, without a default of its own: None means not given."""

    def decorate(verb: Verb) -> Verb:
        hints = get_type_hints(settings)
        for setting in reversed(fields(settings)):
            kind = hints[setting.name]
            if types := [one for one in get_args(kind) if isinstance(one, type) and one is not type(None)]:
                kind = types[0]  # float | None
            flag = f"--{setting.name.replace('_', '-')}"
            flag += f"/--no-{flag[2:]}" if kind is bool else ""
            text, value = f"{setting.metadata['help']}.", setting.default
            if value is not None:
                text += f" Preset thesis: {('off', 'on')[value] if isinstance(value, bool) else value}."
            choice = click.Choice(get_args(kind)) if get_origin(kind) is Literal else kind
            verb = click.option(flag, type=choice, default=None, help=text[0].upper() + text[1:])(verb)
        return verb

    return decorate
