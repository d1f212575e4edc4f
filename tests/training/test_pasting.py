"""Lesions pasted into other heads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from bleedmap.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from bleedmap.models.lite_unet import build_lite  # noqa: E402
from bleedmap.training.fit import load_fitted  # noqa: E402
from bleedmap.training.pasting import HEIGHT_SLICES, draw_pasting, paste  # noqa: E402
from bleedmap.training.recipe import Recipe  # noqa: E402
from bleedmap.training.samples import Samples  # noqa: E402
from bleedmap.training.sampling import Pools, apply, draw_step  # noqa: E402

SIDE, SLICES = 82, 8
RECIPE = Recipe(size=64, steps=1, lesion=3, lesion_free=1, phantom=2, phantoms=2, warp=0, intensity=0, alone=0)


def heads(studies: int, grey: int) -> Samples:
    """Skulls full of even grey; slices 2 and 3 of each study have a lesion left of the middle."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    inside = rows**2 + columns**2 < 30**2
    skull = (rows**2 + columns**2 < 34**2) & ~inside
    slices = np.repeat(np.where(skull, 255, grey * inside)[None], SLICES * studies, axis=0).astype(np.uint8)
    masks, labels = np.zeros_like(slices), np.zeros((len(slices), 6), np.float32)
    spot = rows**2 + (columns + 12) ** 2 < 36
    for index in range(len(slices)):
        if index % SLICES in (2, 3):
            masks[index][spot], slices[index][spot], labels[index, [0, 2]] = 255, 200, 1
    return Samples(slices, masks, labels, np.repeat(np.arange(studies), SLICES))


def stacked(samples: Samples, row: int) -> tuple[Tensor, Tensor]:
    around = samples.neighbours(np.array([row]), 1)
    return torch.from_numpy(samples.slices[around]) / 255, torch.from_numpy(samples.masks[around]) / 255


def test_the_lesion_is_the_donors_and_the_head_the_other_ones() -> None:
    donor, mask = stacked(heads(1, 80), 2)
    into, _ = stacked(heads(1, 120), 6)
    slices, pasted, done = paste(donor, mask, into)
    assert done.tolist() == [True]
    lesion = mask > 0
    assert torch.equal(pasted[0], mask[0, 1])
    assert torch.equal(slices[lesion], donor[lesion])
    assert not (slices[0, 0] != into[0, 0]).any()  # the slice below has no lesion
    changed = (slices != into)[0, 1]
    assert changed.sum() > lesion[0, 1].sum()  # it fades out
    assert (torch.nn.functional.max_pool2d(lesion[0, 1].float()[None], 15, 1, 7)[0][changed] > 0).all()


def test_a_lesion_beyond_the_skull_is_not_pasted() -> None:
    donor, mask = stacked(heads(1, 80), 2)
    into, _ = stacked(heads(1, 120), 6)
    beyond = into.roll(40, dims=3)  # the head stands where the lesion does not
    slices, pasted, done = paste(donor, mask, beyond)
    assert done.tolist() == [False]
    assert torch.equal(slices, donor)
    assert torch.equal(pasted[0], mask[0, 1])


def test_bone_is_never_covered() -> None:
    donor, mask = stacked(heads(1, 80), 2)
    into, _ = stacked(heads(1, 120), 6)
    into[:, :, 38:41] = 1.0  # a bar of bone through the lesion
    slices, pasted, done = paste(donor, mask, into)
    assert done.tolist() == [True]
    assert (slices[0, 1, 38:41] == 1).all()
    assert (pasted[0, 38:41] == 0).all()


def test_what_receives_bears_no_lesion_and_lies_as_high() -> None:
    patients, random = heads(4, 90), np.random.default_rng(0)
    heights = patients.from_top[[2, 3, 10, 11]]
    assert heights.tolist() == [5, 4, 5, 4]
    pasting = draw_pasting(random, 1.0, np.arange(4), heights, patients)
    assert pasting.samples.tolist() == [0, 1, 2, 3]
    assert not patients.has_lesion[pasting.into].any()
    assert (abs(patients.from_top[pasting.into] - heights) <= HEIGHT_SLICES).all()
    assert len(draw_pasting(random, 0.0, np.arange(4), heights, patients).samples) == 0


def test_everything_else_is_drawn_as_without_it() -> None:
    pools = Pools(heads(4, 90), heads(2, 60))
    plain, pasted = (draw_step(replace(RECIPE, pasted=part), pools, 3) for part in (0.0, 1.0))
    assert plain.pasting is None
    assert pasted.pasting is not None
    assert pasted.pasting.samples.tolist() == [0, 1, 2, 4, 5]  # lesions, then phantoms; the lesion-free slice is not
    for name in ("patient_rows", "phantom_rows", "affine", "level", "noise_seed"):
        assert np.array_equal(getattr(plain, name), getattr(pasted, name))


def test_a_batch_shows_lesions_in_heads_that_have_none() -> None:
    """Donors' brains are dark, receivers' bright: a pasted sample is bright beside its lesion."""
    dark = heads(2, 80)
    bright = heads(2, 120)
    patients = Samples(
        np.concatenate([dark.slices, bright.slices]), np.concatenate([dark.masks, bright.masks]),
        np.concatenate([dark.labels, bright.labels]), np.concatenate([dark.study, bright.study + 2]),
    )  # fmt: skip
    pools, recipe = Pools(patients, None), replace(RECIPE, phantom=0, lesion=4, lesion_free=0, pasted=1.0)
    other = 0
    for step in range(12):
        draw = draw_step(recipe, pools, step)
        slices, cover, labels = apply(draw, pools, recipe)
        assert (labels[:, 0] == 1).all()
        assert (cover.flatten(1).sum(1) > 10).all()
        beside = slices[:, 1, 16, 32] * 255  # in front of the middle: the lesion does not reach it, mirrored or not
        donor = torch.from_numpy(patients.slices[draw.patient_rows, 21, 41].astype(np.float32))
        other += int(((beside - donor).abs() > 30).sum())
    assert other > 8  # half of the receivers differ from the donor


def test_a_network_trained_before_pasting_still_loads(tmp_path: Path) -> None:
    network = build_lite(RECIPE.network(), 0)
    old = {name: value for name, value in RECIPE.to_dict().items() if name != "pasted"}
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    write_checkpoint(tmp_path / "network.safetensors", Checkpoint(tensors, {"recipe": old, "step": 1}))
    load_fitted(tmp_path / "network.safetensors", RECIPE)
    assert "pasted" not in read_checkpoint(tmp_path / "network.safetensors").record["recipe"]
