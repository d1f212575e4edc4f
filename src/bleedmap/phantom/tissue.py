"""Turn the phantom's fields into Hounsfield units, layer by layer with soft edges.

HU of tissues: brain 20–45, grey above white matter, CSF 0–15, fat -100 to -50, clotted blood 50–90
(Osborn's Brain, 2nd ed., 2017; rounded).
"""

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.phantom.anatomy import Fields
from bleedmap.phantom.shapes import inside

AIR_HU = -1000.0
FAT_HU = -90.0
SKIN_HU = 55.0
MUSCLE_HU = 50.0
CSF_HU = 7.0
WHITE_MATTER_HU = 28.5
GREY_MATTER_HU = 37.5
NUCLEI_HU = 36.0
CEREBELLUM_HU = 35.0
BRAINSTEM_HU = 30.0
DURA_HU = 50.0
SINUS_HU = 52.0
TABLE_HU = 1600.0  # compact bone of the inner and outer table
DIPLOE_HU = 700.0
FACEBONE_HU = 750.0
LIME_HU = 190.0
EYE_HU = 12.0
_CORTEX_MM = 3.2


def paint(hu: FloatArray, share: FloatArray, value: FloatArray | float) -> None:
    """Cover `hu` with `value` where `share` is 1, mix in between; in place."""
    hu += share * (value - hu)


def healthy_head(field: Fields, sulcus_mm: float) -> FloatArray:
    """Compute HU of a head without a bleed, float32, in the shape of the fields."""
    hu = _outside_the_skull(field)
    thickness, cavity = field["thickness"], field["cavity"]
    middle = np.abs(2 * cavity / thickness - 1)  # 0 in the diploe's middle, 1 at both tables' surfaces
    bone = DIPLOE_HU + (TABLE_HU - DIPLOE_HU) * np.clip(1.6 * middle - 0.5, 0, 1)
    paint(hu, inside(cavity - thickness), bone)
    paint(hu, inside(field["cells"]) * inside(-cavity + 2.0), -600.0)
    paint(hu, inside(cavity), _inside_the_skull(field, sulcus_mm))
    return hu


def _outside_the_skull(field: Fields) -> FloatArray:
    skin, fascia = field["skin"], field["fascia"]
    hu = np.full(skin.shape, AIR_HU, np.float32)
    paint(hu, inside(skin), SKIN_HU)
    paint(hu, inside(skin + 2.6), FAT_HU)
    paint(hu, inside(np.maximum(field["muscle"], skin + 2.6)), MUSCLE_HU)
    seams = inside(np.abs(fascia) - 0.12, 0.3) * inside(field["muscle"] + 4) * inside(skin + 8.0, 6.0)
    paint(hu, seams, FAT_HU)
    in_head = inside(skin + 3.0)
    paint(hu, inside(field["facebone"]) * in_head, FACEBONE_HU + 150 * fascia)
    paint(hu, inside(field["orbit"]) * in_head, FAT_HU)
    paint(hu, inside(field["nerve"]) * in_head * inside(field["orbit"]), 40.0)
    paint(hu, inside(field["eye"]), 45.0)
    paint(hu, inside(field["eye"] + 1.5), EYE_HU)
    paint(hu, inside(field["air"]), AIR_HU)
    return hu


def _inside_the_skull(field: Fields, sulcus_mm: float) -> FloatArray:
    """Compute brain, CSF, dura and sinuses, as if there were no skull around."""
    midline, cerebellar = np.abs(field["midline"]), inside(field["cerebellum"])
    fold = np.maximum(np.abs(field["sulcus"]), field["shallow"])
    cleft = np.maximum(midline, -field["callosum"])
    open_mm = sulcus_mm * (1 + 0.5 * field["texture"])
    to_csf = np.minimum(np.minimum(-field["brain"], fold), np.minimum(cleft, field["sylvius"]))
    hu = GREY_MATTER_HU + (WHITE_MATTER_HU - GREY_MATTER_HU) * inside(_CORTEX_MM - to_csf, 1.5)
    paint(hu, inside(field["nuclei"], 2.0), NUCLEI_HU)
    fluid = inside(np.minimum(fold, cleft) - open_mm, 1.2)
    np.maximum(fluid, inside(field["sylvius"] - 1.6 * sulcus_mm - 0.2, 1.5), out=fluid)
    paint(hu, fluid * (1 - cerebellar), CSF_HU)
    paint(hu, inside(field["cistern"]), CSF_HU)
    leaves = 1.2 * np.sin(field["cerebellum"] * (2 * np.pi / 5.0) + field["texture"])
    core = 4.0 * inside(field["cerebellum"] + 12.0 + 2.0 * field["texture"], 4.0)
    paint(hu, cerebellar, CEREBELLUM_HU + leaves - core)
    paint(hu, inside(field["stem"]), BRAINSTEM_HU)
    hu += 0.8 * field["texture"]
    paint(hu, inside(-field["brain"]), CSF_HU)
    paint(hu, inside(field["ventricle"]), CSF_HU)
    paint(hu, inside(field["lime"]), LIME_HU)
    _paint_dura(hu, field, midline)
    return hu


def _paint_dura(hu: FloatArray, field: Fields, midline: FloatArray) -> None:
    above = inside(-field["tent"])
    paint(hu, 0.7 * inside(midline - 0.6) * inside(-field["falx"]) * above, DURA_HU)
    paint(hu, 0.7 * inside(np.abs(field["tent"]) - 0.6) * inside(field["tent_front"]), DURA_HU)
    paint(hu, inside(-field["cavity"] - 0.8), DURA_HU)
    paint(hu, inside(field["sinus"]), SINUS_HU)
