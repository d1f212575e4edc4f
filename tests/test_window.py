"""Windows: what they show as black and white, and what is none."""

import numpy as np
import pytest

from bleedmap.errors import SettingsError
from bleedmap.window import BRAIN, Window, picture_to_hu


@pytest.mark.parametrize(
    ("level_hu", "width_hu"), [(40, 0), (40, -1), (40, np.nan), (40, np.inf), (np.nan, 80), (np.inf, 80)]
)
def test_what_is_no_window_is_refused(level_hu, width_hu):
    with pytest.raises(SettingsError) as caught:
        Window(level_hu, width_hu)
    assert str(caught.value).splitlines()[0].startswith("window: ")
    assert caught.value.found == f"level {level_hu}, width {width_hu}"
    assert (caught.value.needed, caught.value.remedy) == (
        "finite numbers and a width above 0", "give level and width in HU, for example 40 120",
    )  # fmt: skip


def test_a_window_may_be_narrower_than_a_unit():
    assert Window(40, 0.5).to_unit(np.array([39.75, 40, 40.25])).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.float32, np.float64])
def test_any_kind_of_number_is_shown_as_float32(kind):
    shown = BRAIN.to_unit(np.array([-1000, -20, 10, 40, 100, 3000], kind))
    assert (shown.dtype, shown.tolist()) == (np.float32, [0, 0, 0.25, 0.5, 1, 1])
    hu = BRAIN.to_hu(np.array([0, 51, 255], kind))
    assert hu.dtype == np.float32
    assert hu == pytest.approx([-20, 4, 100], abs=1e-4)


@pytest.mark.parametrize("window", [BRAIN, Window(40, 80), Window(50, 100), Window(80, 200), Window(40, 400)])
def test_bone_and_air_of_another_window_look_as_in_the_brain_window(window):
    """In a window that ends at 80 HU the skull is white: at 80 HU it would look like blood."""
    hu = np.array([-1000, 10, 32, 60, 1000], np.float32)
    grey = np.rint(window.to_unit(hu) * 255).astype(np.uint8)
    assert BRAIN.to_unit(picture_to_hu(grey, window)) == pytest.approx(BRAIN.to_unit(hu), abs=0.01)
