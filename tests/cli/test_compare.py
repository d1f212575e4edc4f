"""`bleedmap compare`, by its real entry: one pair, many pairs, resumed."""

import csv
import json
from pathlib import Path

import pytest

from bleedmap.phantom.head import Bleed
from command_line import run
from dicom_studies import write_scan
from drawn_heads import small_head
from tiny_network import write_spot_network

NIGHT, DAY = ("20240503", "230000"), ("20240504", "083000")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies of one head: 30 mL, 75 mL the next day, and that of another patient; and a tiny network."""
    root = tmp_path_factory.mktemp("studies")
    for name, volume_ml, when, patient in (
        ("night", 30.0, NIGHT, "P-17"),
        ("day", 75.0, DAY, "P-17"),
        ("other", 30.0, DAY, "Q-4"),
    ):
        write_scan(root / name, small_head(Bleed("IPH", volume_ml, "left")).volume, when, patient)
    write_spot_network(root / "tiny.onnx")
    return root


def test_one_pair(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, weights = tmp_path / "out", ("--weights", studies / "tiny.onnx")
    assert run("compare", studies / "night", studies / "day", "-o", out, *weights, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["hours"] == 9.5
    assert [content[side]["source"].rpartition("/")[2] for side in ("first", "second")] == ["night", "day"]
    assert 15 < content["growth"]["ml"] < 60  # the tiny network marks no edges
    assert content["growth"]["criterion"]["expansion"] == "met"
    assert "P-17" not in json.dumps(content)
    assert run("compare", studies / "night", studies / "day", "-o", out, *weights) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("compare", studies / "day", studies / "night", "-o", tmp_path / "turned", *weights) == 2
    assert "9.5 hours later" in capsys.readouterr().err
    assert run("compare", studies / "night", studies / "other", "-o", tmp_path / "two", *weights) == 2
    told = capsys.readouterr().err
    assert "Patient ID differs" in told
    assert "Q-4" not in told
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("first",), "one study or none"),
        (("first", "second", "--pairs", "pairs.csv"), "either FIRST and SECOND"),
        (("first", "second", "--retry"), "--retry"),
        (("--pairs", "nothing.csv"), "no such file"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", *arguments, "-o", tmp_path / "out") == 2
    assert said in capsys.readouterr().err


def test_many_pairs_are_resumed_and_each_has_a_row(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = studies / "pairs.csv", tmp_path / "cohort"
    table.write_text("First, second ,name\nnight,day,=one\nnight,missing,\nnight,other,\n", "utf-8")
    command = ("compare", "--pairs", table, "-o", out, "--weights", studies / "tiny.onnx", "--json")
    assert run(*command) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["counts"]["expansion"] == 1
    assert content["counts"]["refused"] == 2
    rows = {row["name"]: row for row in content["pairs"]}
    assert len(rows) == 3
    assert "no such file" in rows["night-missing"]["error"]
    assert "Q-4" not in json.dumps(content)
    (good,) = (row for row in rows.values() if row["error"] is None)
    page = out / good["name"] / "compare.html"
    written = page.stat().st_mtime_ns
    assert run(*command) == 0
    assert json.loads(capsys.readouterr().out) == content
    assert page.stat().st_mtime_ns == written  # not done again
    with (out / "growth.csv").open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 3
    with (out / "data-dictionary.csv").open(encoding="utf-8", newline="") as stream:
        told = {(line["file"], line["column"]) for line in csv.DictReader(stream)}
    assert {("growth.csv", column) for column in lines[0]} <= told
    with (out / "lesions.csv").open(encoding="utf-8-sig", newline="") as stream:
        columns = csv.DictReader(stream).fieldnames or []
    assert {("lesions.csv", column) for column in columns} <= told
    assert f"{good['name']}/compare.html" in (out / "index.html").read_text("utf-8")
    assert run(*command, "--threshold", "0.4") == 2
    assert "other settings" in capsys.readouterr().err


def test_in_a_folder_of_pairs_dates_say_which_is_first(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("day", "night"):
        (tmp_path / "pairs/p1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pairs/p1" / name).symlink_to(studies / name)
    (tmp_path / "pairs/p2").mkdir()
    out = tmp_path / "out"
    assert run("compare", "--pairs", tmp_path / "pairs", "-o", out, "--weights", studies / "tiny.onnx", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["pairs"]}
    assert rows["p1"]["first"].endswith("night")
    assert rows["p1"]["growth_ml"] > 0
    assert "holds 0 files" in rows["p2"]["error"]
