"""`bleedmap batch`: real files of many kinds, disturbed in every way, and a summary that is always complete."""

import csv
import gc
import json
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runs import Rows, begun, files_of, lasting, rows_of, summary_of, until
from bleedmap.archive import run as batch
from bleedmap.archive import summary
from bleedmap.archive.find import find_studies, name_studies
from bleedmap.archive.locks import locked
from bleedmap.archive.run import BatchOptions, Step, run_batch
from bleedmap.arrays import FloatArray
from bleedmap.inference.backends import BackendRecord, Prediction
from bleedmap.io import nifti
from bleedmap.io.names import fit_name, short_hash
from bleedmap.phantom.dicom import CtOptions, ct_instances, scout, write_series
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from command_line import limit_files, run
from refusing_share import EVERYTHING, on_a_share

FILES = ("summary.csv", "summary.json", "lesions.csv", "data-dictionary.csv", "index.html", "thumbnails")


@pytest.fixture
def three(tmp_path: Path, heads: tuple[Volume, Volume]) -> Path:
    """Two NIfTI studies, and a torn file."""
    folder = tmp_path / "three"
    for name, head in (("a", 0), ("b", 1)):
        (folder / name).mkdir(parents=True)
        nifti.write(folder / f"{name}/head.nii", heads[head])
    (folder / "bad.nii.gz").write_bytes(b"\x1f\x8b torn")
    return folder


@pytest.fixture
def mixed(tmp_path: Path, heads: tuple[Volume, Volume]) -> Path:
    """Every kind of study, and of what is none."""
    folder, (bleeding, calm) = tmp_path / "mixed", heads
    one, two, three = (CtOptions(seed=seed) for seed in (1, 2, 3))
    write_series(folder / "patient/thick", ct_instances(bleeding, options=one))
    write_series(folder / "patient/scout", [scout(bleeding, options=one)])
    both = [*ct_instances(bleeding, options=two), *ct_instances(calm, options=three)]
    flat = write_series(folder / "flat", both, names="uid")
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        for path in flat[:14]:
            archive.write(path, path.name)
    for name, head in (("a", bleeding), ("b", calm)):
        (folder / name).mkdir()
        nifti.write(folder / name / "head.nii.gz", head)
    (folder / "a/head_dseg.nii.gz").write_bytes(b"a mask")
    (folder / "a/._head.nii.gz").write_bytes(b"a Mac was here")
    (folder / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    (folder / "torn").mkdir()
    (folder / "torn/1").write_bytes(bytes(128) + b"DICM torn")
    (folder / "readme.txt").write_text("x", "utf-8")
    (folder / "photo.JPG").write_bytes(b"x")
    (folder / "elsewhere.nii").symlink_to(tmp_path / "x.nii")
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 14), np.int16), np.diag([3, 3, 10, 1])), folder / "blank.nii")
    return folder


def test_every_study_has_a_row_and_what_is_none_is_named(
    mixed: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("batch", mixed, "-o", out, "--weights", weights, "--fractional", "--json") == 0
    said = capsys.readouterr()
    summary = summary_of(out)
    assert (json.loads(said.out), said.err) == (summary | {"out": str(out)}, "")
    rows = rows_of(out)
    flat = sorted(name for name in rows if re.fullmatch(r"flat-[0-9a-f]{12}", name))
    assert set(rows) == {"patient", *flat, "packed", "a_head", "b_head", "torn", "blank", *(set(rows) & _torn(rows))}
    by_status = {status: {name for name in rows if rows[name]["status"] == status} for status in summary["counts"]}
    assert summary["counts"] == {status: len(names) for status, names in by_status.items()}
    assert {"patient", "packed", "a_head"} <= by_status["found"]
    assert len(by_status["found"] & set(flat)) == len(by_status["not found"] & set(flat)) == 1
    assert "b_head" in by_status["not found"]
    assert by_status["refused"] == {"torn", "blank", *_torn(rows)}
    assert by_status["failed"] == set()
    assert "refused by the input checks" in rows["blank"]["error"]
    assert rows["patient"]["source"] == "patient"
    assert rows["patient"]["volume_ml"] == pytest.approx(10, rel=0.2)
    assert rows["patient"]["lesions"] >= 1
    assert rows["patient"]["slices"] == 14
    passed = {one["reason"]: one["examples"] for one in summary["passed_by"]}
    assert "a/._head.nii.gz" in passed["hidden"]
    assert passed["a mask or probability map, by its name"] == ["a/head_dseg.nii.gz"]
    assert passed["neither DICOM, NIfTI nor a .zip"] == ["readme.txt"]
    assert passed["a link to nothing"] == ["elsewhere.nii"]
    assert passed["a picture; `bleedmap segment` takes pictures"] == ["photo.JPG"]
    assert summary["open"] == 0
    single = tmp_path / "single"  # the results are those of `segment`
    assert run("segment", mixed / "patient", "-o", single, "--weights", weights) == 0
    for kind in ("dseg", "probseg"):
        name = f"patient_{kind}.nii.gz"
        assert (out / "patient" / name).read_bytes() == (single / name).read_bytes()
    assert len(list((out / "patient/dicom").glob("*.dcm"))) == 1 + len(list((single / "dicom").glob("*.dcm")))
    with (out / "summary.csv").open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    for line, row in zip(lines, summary["studies"], strict=True):
        shown = {name: "; ".join(one) if isinstance(one, list) else one for name, one in row.items() if name != "types"}
        shown |= {f"type_{name}": one for name, one in row["types"].items()}
        assert line == {name: "" if one is None else str(one) for name, one in shown.items()}


def _torn(rows: Rows) -> set[str]:
    """The second of 'torn' and 'torn.zip', which would have one name."""
    return {f"torn-{short_hash(place)}" for place in ("torn", "torn.zip")} & set(rows)


def test_peer_5_a_study_without_a_finding_has_all_results(three: Path, weights: str, tmp_path: Path) -> None:
    assert run("batch", three, "-o", tmp_path / "out", "--weights", weights) == 0
    row = rows_of(tmp_path / "out")["b_head"]
    assert (row["status"], row["volume_ml"], row["lesions"]) == ("not found", 0, 0)
    named = [
        {path.name.removeprefix(name) for path in (tmp_path / "out" / name).iterdir()} for name in ("a_head", "b_head")
    ]
    assert named[0] == named[1]


def test_a_second_run_does_nothing_and_changed_files_are_done_again(
    three: Path, weights: str, tmp_path: Path, heads: tuple[Volume, Volume]
) -> None:
    out = tmp_path / "out"
    command = ("batch", three, "-o", out, "--weights", weights)
    assert run(*command) == 0
    first, times = rows_of(out), {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert run(*command) == 0
    assert rows_of(out) == first  # with the seconds
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == times
    nifti.write(three / "b/head.nii", heads[0])
    nifti.write(three / "d.nii", heads[1])
    (out / ".batch/done" / f"{short_hash('a/head.nii')}.json").write_text("{}", "utf-8")  # spoilt by someone
    assert run(*command) == 0
    after = rows_of(out)
    assert {name: row["status"] for name, row in after.items()} == {
        "a_head": "found", "b_head": "found", "d": "not found", "bad": "refused",
    }  # fmt: skip
    assert lasting(after)["a_head"] == lasting(first)["a_head"]
    assert after["bad"] == first["bad"]
    assert {path.name for path in out.iterdir()} == {
        ".batch", *FILES, "a_head", "b_head", "d",
    }  # fmt: skip


def test_a_batch_on_a_share_that_refuses_calls_loses_nothing_and_resumes(
    three: Path, weights: str, tmp_path: Path
) -> None:
    calm, out = tmp_path / "calm", tmp_path / "out"
    command = ("-m", "bleedmap.cli.main", "batch", three, "--weights", weights, "--processes", 2, "-o", out)
    assert run("batch", three, "-o", calm, "--weights", weights) == 0
    ended = on_a_share(EVERYTHING, *command)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert (lasting(rows_of(out)), files_of(out)) == (lasting(rows_of(calm)), files_of(calm))
    first, times = rows_of(out), {path: path.stat().st_mtime_ns for path in out.glob("[ab]_head/*")}
    assert on_a_share(EVERYTHING, *command).returncode == 0
    assert rows_of(out) == first  # with the seconds
    assert {path: path.stat().st_mtime_ns for path in out.glob("[ab]_head/*")} == times
    shutil.copy(three / "b/head.nii", three / "a/head.nii")
    assert on_a_share(EVERYTHING, *command).returncode == 0
    assert rows_of(out)["a_head"]["status"] == "not found"
    assert not [path for path in out.rglob("*") if path.name.startswith(".part") or path.suffix == ".held"]


def test_a_result_that_no_longer_holds_is_taken_away(three: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("batch", three, "-o", out, "--weights", weights) == 0
    (three / "a/head.nii").write_bytes(b"broken since")
    assert run("batch", three, "-o", out, "--weights", weights) == 0
    assert rows_of(out)["a_head"]["status"] == "refused"
    assert not (out / "a_head").exists()


def test_a_half_finished_batch_of_the_version_before_is_resumed(three: Path, weights: str, tmp_path: Path) -> None:
    """Its records were indented JSON in this order of keys."""
    out = tmp_path / "out"
    assert run("batch", three, "-o", out, "--weights", weights) == 0
    first, masks = rows_of(out), {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    for path in (out / ".batch/done").glob("*.json"):
        content = json.loads(path.read_text("utf-8"))
        before = {name: content[name] for name in ("key", "digest", "settings", "row", "turn")}
        path.write_text(json.dumps(before, ensure_ascii=False, indent=2) + "\n", "utf-8")
        if content["key"] == "b/head.nii":
            path.unlink()  # its turn had not come
    assert run("batch", three, "-o", out, "--weights", weights) == 0
    after = rows_of(out)
    assert lasting(after) == lasting(first)
    assert after["a_head"] == first["a_head"]  # with the seconds
    assert {name for name in masks if name.stat().st_mtime_ns == masks[name]} == set((out / "a_head").glob("*.nii.gz"))


def test_retry_gives_refused_studies_another_turn(weights: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    blank = nib.Nifti1Image(np.zeros((64, 64, 14), np.int16), np.diag([3, 3, 10, 1]))
    nib.save(blank, folder / "blank.nii")
    command = ("batch", folder, "-o", out, "--weights", weights)
    assert run(*command) == 0
    error = rows_of(out)["blank"]["error"]
    accept = [word for name in re.findall(r"--accept ([a-z-]+)", error) for word in ("--accept", name)]
    assert run(*command, *accept) == 0
    assert rows_of(out)["blank"]["status"] == "refused"
    assert run(*command, "--retry", *accept) == 0
    row = rows_of(out)["blank"]
    assert row["status"] == "not found"
    assert {name.replace(" ", "-") for name in row["warnings"]} >= set(accept[1::2])
    assert run(*command, "--retry", "--accept", "hair") == 2


def test_other_settings_are_refused_or_everything_is_made_anew(
    three: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("batch", three, "-o", out, "--weights", weights)
    assert run(*command) == 0
    before, mask = rows_of(out), (out / "a_head/a_head_dseg.nii.gz").read_bytes()
    assert run(*command, "--threshold", 0.9) == 2
    assert "threshold 0.5, now 0.9" in capsys.readouterr().err
    assert rows_of(out) == before
    assert run(*command, "--threshold", 0.9, "--overwrite") == 0
    assert (out / "a_head/a_head_dseg.nii.gz").read_bytes() != mask
    assert rows_of(out)["a_head"]["volume_ml"] < before["a_head"]["volume_ml"]
    settings = json.loads((out / ".batch/settings.json").read_text("utf-8"))
    elsewhere = settings | {"precision": "as another processor computes"}
    (out / ".batch/settings.json").write_text(json.dumps(elsewhere), "utf-8")
    capsys.readouterr()
    assert run(*command, "--threshold", 0.9) == 2
    assert "for several machines give --precision fp32 from the start" in capsys.readouterr().err
    (out / ".batch/settings.json").write_text(json.dumps(settings), "utf-8")
    (tmp_path / "other").mkdir()
    shutil.copy(three / "b/head.nii", tmp_path / "other/head.nii")
    assert run("batch", tmp_path / "other", "-o", out, "--weights", weights, "--threshold", 0.9) == 2
    assert "folder" in capsys.readouterr().err


def test_a_kill_at_any_moment_leaves_nothing_half_written_and_the_next_run_goes_on(
    three: Path, weights: str, tmp_path: Path
) -> None:
    calm, out = tmp_path / "calm", tmp_path / "out"
    assert run("batch", three, "-o", calm, "--weights", weights) == 0
    moments: tuple[Callable[[], object], ...] = (
        lambda: list(out.glob(".batch/work/*/.part-*/*dseg*")),  # while the first study is written
        lambda: list(out.glob(".batch/done/*")) and list(out.glob(".batch/work/*")),
    )
    for moment in moments:
        process = begun(three, "-o", out, "--weights", weights)
        until(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in (path for path in out.glob("*") if path.is_dir() and path.name not in (".batch", "thumbnails")):
            listed = json.loads((folder / ".bleedmap.json").read_text("utf-8"))["files"]
            assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
                *listed, ".bleedmap.json",
            }  # fmt: skip
    assert run("batch", three, "-o", out, "--weights", weights) == 0
    assert lasting(rows_of(out)) == lasting(rows_of(calm))
    assert files_of(out) == files_of(calm)
    assert not list(out.glob(".batch/work/*"))


def test_two_processes_share_the_studies(three: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out / ".batch/locks" / f"{short_hash('b/head.nii')}.lock") as ours:  # as a process that is at it
        assert ours
        two = [begun(three, "-o", out, "--weights", weights) for _ in range(2)]
        until(lambda: (out / "summary.json").is_file() and len(rows_of(out)) == 2)
        assert set(rows_of(out)) == {"a_head", "bad"}
        assert summary_of(out)["open"] == 1
        assert all(one.poll() is None for one in two)  # they wait: the process may be killed
    said = [one.communicate(timeout=600) for one in two]
    assert [one.returncode for one in two] == [0, 0]
    worked = [line.split()[1].rstrip(":") for _, lines in said for line in lines.splitlines()]
    assert sorted(worked) == ["a_head", "b_head", "bad"]  # each once, by one of them
    assert all("3 studies: 1 found, 1 not found, 1 refused, 0 failed" in shown for shown, _ in said)


def test_peer_14_batch_progress_tells_study_and_time_left(
    three: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = begun(three, "-o", tmp_path / "lines", "--weights", weights)  # no terminal: a line each
    lines = process.communicate(timeout=600)[1].splitlines()
    told = [re.fullmatch(r"(\d/3) \w+: (found|not found|refused)\b.* s; [\d.]+ min left", line) for line in lines]
    assert [one and one[1] for one in told] == ["1/3", "2/3", "3/3"]
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal
    process = begun(three, "-o", tmp_path / "bar", "--weights", weights)
    bar = process.communicate(timeout=600)[1]
    assert re.search(r"[12]/3.*\d:\d\d:\d\d.*b_head", bar)


class Faulty:
    """A backend with a fault that one study brings out; it quotes what no record may hold."""

    record = BackendRecord("faulty", "cpu", "fp32")

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, slices: FloatArray) -> Prediction:
        self.calls += 1
        if self.calls == 1:
            raise ValueError("DOE^JANE 1950-01-01")
        return Prediction(np.zeros_like(slices[:, 0]))


def test_a_fault_of_the_program_is_one_row_and_says_nothing_of_the_patient(
    three: Path, weights: str, tmp_path: Path
) -> None:
    loaded = Segmenter.load(weights)
    out, found = tmp_path / "out", find_studies(three, tmp_path / "out")
    summary = run_batch(found, out, Segmenter(loaded.weights, Faulty(), 0.5))
    assert summary["counts"] == {"found": 0, "not found": 1, "no verdict": 0, "refused": 1, "failed": 1, "waiting": 0}
    row = rows_of(out)["a_head"]
    assert row["error"].startswith("unexpected ValueError in outline.")
    assert "DOE" not in (out / "summary.json").read_text("utf-8") + (out / "summary.csv").read_text("utf-8")
    assert not (out / "a_head").exists()
    again = run_batch(found, out, Segmenter(loaded.weights, Faulty(), 0.5), BatchOptions(retry=True))
    assert again["counts"]["failed"] == 1  # its turn came first again


def test_files_of_others_in_a_place_of_results_stay_and_the_exit_code_tells(
    three: Path, weights: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("batch", three, "-o", out, "--weights", weights) == 0
    (out / "a_head/diary.txt").write_text("mine", "utf-8")
    os.utime(three / "a/head.nii", (1, 1))
    assert run("batch", three, "-o", out, "--weights", weights) == 1
    assert (out / "a_head/diary.txt").read_text("utf-8") == "mine"
    row = rows_of(out)["a_head"]
    assert row["status"] == "failed"
    assert "diary.txt" in row["error"]
    (out / "a_head/diary.txt").unlink()
    assert run("batch", three, "-o", out, "--weights", weights, "--retry") == 0
    assert rows_of(out)["a_head"]["status"] == "found"


def test_a_table_that_takes_long_is_not_written_after_every_study(
    three: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows with the studies, so that a batch's time would with their square."""
    written, write = [], summary.write_summary

    def counted(*arguments: Any) -> dict[str, Any]:
        content = write(*arguments)
        written.append(len(content["studies"]))
        return content

    monkeypatch.setattr(summary, "write_summary", counted)
    monkeypatch.setattr(batch, "_TABLE_PAUSE", 1e9)  # as if it took long: the next is due after a minute
    run_batch(find_studies(three, tmp_path / "out"), tmp_path / "out", Segmenter.load(weights))
    assert written == [1, 3]  # after the first study, and at the end


def test_an_interrupted_batch_leaves_a_table_of_what_it_did(
    three: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_TABLE_PAUSE", 1e9)  # the next is due after a minute
    out, ended = tmp_path / "out", []

    def report(step: Step) -> None:
        if step.row is not None:
            ended.append(step.name)
            if len(ended) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(find_studies(three, out), out, Segmenter.load(weights), report=report)
    assert set(rows_of(out)) == set(ended)


def test_a_full_disk_stops_the_batch_at_once(
    three: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with limit_files(20_000):  # bytes: enough for records, not for probabilities
        assert run("batch", three, "-o", out, "--weights", weights) == 2
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "Traceback" not in told
    assert not list(out.glob("*_head"))
    assert run("batch", three, "-o", out, "--weights", weights) == 0


def test_peer_11_nothing_of_a_study_is_in_memory_when_the_next_begins(
    three: Path, weights: str, tmp_path: Path, heads: tuple[Volume, Volume]
) -> None:
    write_series(three / "ct", ct_instances(heads[0]))
    others = [one for one in gc.get_objects() if isinstance(one, Volume)]  # of this test and those before it
    held: list[int] = []

    def report(step: Step) -> None:
        if step.row is not None:
            held.append(sum(isinstance(one, Volume) for one in gc.get_objects()) - len(others))

    run_batch(find_studies(three, tmp_path / "out"), tmp_path / "out", Segmenter.load(weights), report=report)
    assert held
    assert not any(held)


HOSTILE = (
    b"=cmd|' C calc'!A0.nii", b"-rf.nii", b"CON.nii", b"nul.x.nii", b"a b;$(id)`x`.nii", b"\xff\xfe.nii",
    b"summary.json.nii", b"SUMMARY.csv.nii", b"line\nbreak.nii", b"[bold]red[bold].nii", b"x" * 240 + b".nii",
    "ä頭👩🏽.nii".encode(), "é.nii".encode(), "e\u0301.nii".encode(), b"Head.nii", b"head.nii", b"head.nii.gz",
    b"HEAD.NII", b"%s%n.nii", b"a.part-.nii", b"\\\\server\\share.nii",
)  # fmt: skip


def test_hostile_names_become_names_for_every_disk(
    weights: str, tmp_path: Path, heads: tuple[Volume, Volume], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in HOSTILE:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
    nifti.write(tmp_path / "head.nii", heads[0])
    for name in (HOSTILE[0], HOSTILE[5], HOSTILE[10], HOSTILE[11], HOSTILE[12]):
        shutil.copy(os.fsencode(tmp_path / "head.nii"), os.fsencode(folder) + b"/" + name)
    assert run("batch", folder, "-o", out, "--weights", weights) == 0
    rows = rows_of(out)
    assert len({name.casefold() for name in rows}) == len(HOSTILE)
    assert sum(row["status"] == "found" for row in rows.values()) == 5
    assert {path.name for path in out.iterdir()} - {".batch", *FILES} == {
        name for name, row in rows.items() if row["status"] == "found"
    }
    with (out / "summary.csv").open(encoding="utf-8-sig", newline="") as stream:
        cells = [cell for line in csv.reader(stream) for cell in line]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert "'=cmd|' C calc'!A0.nii" in cells
    assert "Traceback" not in capsys.readouterr().err


PLACES = st.lists(
    st.text(min_size=1, max_size=300) | st.sampled_from(["a/b", "A_b", "a_b.nii", "con", "/", "."]), unique=True
)


@given(PLACES, st.integers(0, 100))
def test_names_are_unique_and_fit_and_stay(places: list[str], kept: int) -> None:
    keyed = {place: place for place in places}
    known = name_studies(dict(list(keyed.items())[kept:]), {})
    names = name_studies(keyed, known, ("summary.json",))
    assert names.items() >= known.items()
    assert (
        len({name.casefold() for name in names.values()} | {"summary.json"}) == len(places) + 1
        or "summary.json" in known.values()
    )
    for name in names.values():
        assert len(name.encode()) <= 112 + 1 + 13  # fits, with a device's mark and a hash
        assert name == fit_name(name) or name[:-13] == fit_name(name[:-13])


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "out", "words"),
    [
        ("none", "out", "no such folder"), ("in", "out", "is empty"), ("in", ".", "holds the input"),
        ("in", "in", "holds the input"), ("in/x.nii", "out", "is a file"), ("in", "taken", "not earlier results"),
        ("in", "in/x.nii", "is a file"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_any_work(
    folder: str, out: str, words: str, places: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "x.nii" in folder + out:
        (places / "in/x.nii").write_bytes(b"x")
    (places / "taken").mkdir()
    (places / "taken/mine.txt").write_text("x", "utf-8")
    assert run("batch", places / folder, "-o", places / out, "--weights", weights) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "remedy:" in said
    assert not (places / "out").exists()
