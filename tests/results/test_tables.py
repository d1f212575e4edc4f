"""summary.json of a study: every key that is written is described, and everything described holds."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.weights import locate
from bleedmap.io import nifti
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.head import Phantom, PhantomSettings, make_phantom
from bleedmap.results.save import save
from bleedmap.results.tables import FORMAT
from bleedmap.study.read import Study, read_study
from bleedmap.study.segment import check_study, conclude

SURE = Certainty(
    (0.5,) * 14, 0.9, tuple((name, 0.2) for name in ("EDH", "IPH", "SDH", "IVH", "SAH")), (1.0, 40.0), 0.8
)  # fmt: skip


def closed(schema: Any) -> Any:
    """The same schema, but with no key beyond those that it describes."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    within = {key: closed(one) for key, one in schema.items()}
    return {"additionalProperties": False} | within if isinstance(schema.get("properties"), Mapping) else within


def validate(summary: dict[str, Any]) -> None:
    """Hold a summary, as JSON has it, against the schema that comes with the package."""
    schema = json.loads((files("bleedmap.results") / "study.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(summary)), closed(schema))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    bleeds = (Bleed("IPH", 20.0, "left"),)
    return make_phantom(PhantomSettings(seed=3, spacing_mm=(10.0, 1.8, 1.8), shape=(14, 128, 128), bleeds=bleeds))


@pytest.fixture(scope="module")
def studies(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    folder = tmp_path_factory.mktemp("studies")
    write_series(folder / "ct", ct_instances(phantom.volume))
    nifti.write(folder / "head.nii.gz", phantom.volume)
    return {"DICOM": read_study(folder / "ct"), "NIfTI": read_study(folder / "head.nii.gz"),
            "memory": read_study(phantom.volume)}  # fmt: skip


@pytest.mark.parametrize("kind", ["DICOM", "NIfTI", "memory"])
@pytest.mark.parametrize("certainty", [None, SURE, replace(SURE, volume_ml=None, abstained=("The images are odd.",))])
@pytest.mark.parametrize("bleeding", [True, False])
def test_a_summary_is_what_its_schema_says(
    kind: str, certainty: Certainty | None, bleeding: bool, phantom: Phantom, studies: dict[str, Study], tmp_path: Path
) -> None:
    study, probability = studies[kind], phantom.mask.array * np.float32(0.9 * bleeding)
    result = conclude(
        study, check_study(study), probability, locate(), BackendRecord("none", "cpu", "fp32"), 0.5, certainty
    )  # fmt: skip
    save(result, tmp_path / "out", fractional=True)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert next(iter(summary.items())) == ("format", FORMAT)
    validate(summary)
    assert all((tmp_path / "out" / name).exists() for name in summary["files"].values())


def test_another_key_and_another_kind_are_noticed(studies: dict[str, Study], phantom: Phantom, tmp_path: Path) -> None:
    ran = BackendRecord("none", "cpu", "fp32")
    summary = save(conclude(studies["memory"], (), phantom.mask.array * np.float32(1), locate(), ran, 0.5), tmp_path)
    validate(summary)
    for change in ({"unheard_of": 1}, {"volume_ml": "much"}, {"verdict": "perhaps"}, {"format": "bleedmap study 2"}):
        with pytest.raises(jsonschema.ValidationError):
            validate(summary | change)
