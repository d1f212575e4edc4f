"""Names of result files: every disk takes them, and none of two inputs' names becomes another's."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bleedmap.errors import InputError, spell
from bleedmap.io.names import MOST_BYTES, MOST_CHARACTERS, fit_name, fold_name, number_name, short_hash

NAMES = st.text(max_size=300) | st.binary(max_size=255).map(lambda one: one.decode("utf-8", "surrogateescape"))


@given(NAMES)
def test_every_disk_takes_every_name(text: str) -> None:
    name = fit_name(text)
    assert len(name.encode()) <= MOST_BYTES + 1
    assert len(name) <= MOST_CHARACTERS + 1
    assert len(name.encode("utf-16-le")) // 2 <= 2 * MOST_CHARACTERS + 2
    assert all(one.isalnum() or one in "_.+-" or unicodedata.category(one)[0] == "M" for one in name)
    assert name[0] not in ".-+"
    assert name[-1] not in ". "
    assert not re.fullmatch(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", name, re.IGNORECASE)
    assert fit_name(name) in (name, f"_{name}", name.strip("_"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("検査" * 10, "検査" * 10), ("मस्तिष्क", "मस्तिष्क"), ("สมอง ที่", "สมอง_ที่"), ("Schädel (2)", "Schädel_2"),
        ("-rf", "rf"), ("CON", "_CON"), ("nul.x", "_nul.x"), ("com¹", "_com¹"), ("console", "console"), ("a:b", "a_b"),
        ("line\nbreak", "line_break"), ("head. ", "head"), ("..", "study"), ("", "study"), ("\udcff\udcfe", "study"),
        ("a\udcffb", "a_b"), ("=cmd|'x'!A0", "cmd_x_A0"), ("x" * 80, "x" * 80), ("\u202etxt", "txt"), ("👩🏽", "study"),
    ],
)  # fmt: skip
def test_a_name_keeps_what_every_disk_takes(text: str, name: str) -> None:
    assert fit_name(text) == name


@pytest.mark.parametrize("text", ["検査" * 40, "x" * 81, "頭" * 85, "ä" * 127, "𠀀" * 63])
def test_a_long_name_is_cut_between_characters_and_stays_apart_from_others(text: str) -> None:
    name, other = fit_name(text), fit_name(text + "2")
    assert name.endswith(f"-{short_hash(text)}")
    assert text.startswith(name.removesuffix(f"-{short_hash(text)}"))
    assert len(name.encode()) <= MOST_BYTES
    assert name != other


def test_numbers_tell_names_apart_that_some_disk_takes_for_one() -> None:
    taken = {fold_name("Kopf"), fold_name("kopf-2"), fold_name("é")}
    assert number_name("KOPF", taken) == "KOPF-3"
    assert number_name("e\u0301", taken) == "e\u0301-2"
    assert number_name("new", taken) == "new"


def test_a_message_names_any_file_on_one_line() -> None:
    odd = "a\nb\x1b[31m\udcff検.nii"
    assert spell(odd) == "a\\nb\\x1b[31m\\xff検.nii"
    assert spell(spell(odd)) == spell(odd)
    error = InputError(odd, found="x", needed="y", remedy="z")
    assert error.explain().splitlines()[0] == "a\\nb\\x1b[31m\\xff検.nii: x"
    error.explain().encode()
