"""Flags that several verbs share, and flags made from a dataclass of settings."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

Verb = TypeVar("Verb", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="CT-ICH's folder; the variable BLEEDMAP_DATA serves too.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="Where the network runs.",
)  # fmt: skip
precision_option = click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
    help="Number format; auto takes bf16 where the machine computes it natively.",
)  # fmt: skip
weights_option = click.option(
    "--weights", help="Installed weights by name, or an .onnx file; default: the installed ones."
)
inference_precision_option = click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
    help="fp32: the same on every machine, up to rounding. auto: what is faster and keeps the answer, the decoder in "
    "bf16 where the processor has it. bf16: all of it, faster still, other at lesions' edges.",
)  # fmt: skip
threshold_option = click.option(
    "--threshold", type=click.FloatRange(0, 1, min_open=True),
    help="Lesion from this probability on, in slices that the network takes to bleed; default: the weights' own.",
)  # fmt: skip
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N",
    help="Of the processor's threads, how many the network uses; default: the backend's own choice.",
)  # fmt: skip
no_dicom_option = click.option("--no-dicom", is_flag=True, help="DICOM: leave the DICOM results out.")
fractional_option = click.option(
    "--fractional", is_flag=True, help="DICOM: write the probability as a FRACTIONAL segmentation too."
)


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
            text = f"{setting.metadata['help']}. Preset thesis: {setting.default}."
            choice = click.Choice(get_args(kind)) if get_origin(kind) is Literal else kind
            verb = click.option(flag, type=choice, default=None, help=text[0].upper() + text[1:])(verb)
        return verb

    return decorate
