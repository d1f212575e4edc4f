"""A batch in shards: every study once, killed and resumed, the same results as in one process; then merged."""

import json
import signal
from pathlib import Path

import pytest

from batch_runs import begun, files_of, lasting, rows_of, summary_of, until
from bleedmap.archive import shards, summary
from bleedmap.archive.find import find_studies
from bleedmap.archive.shards import Shard, batch_ledger, list_studies, read_list, shard_of
from bleedmap.errors import InputError, SettingsError
from bleedmap.io import nifti
from bleedmap.volume import Volume
from command_line import run

SHARDS, COUNT = 2, 10


@pytest.fixture
def ten(tmp_path: Path, heads: tuple[Volume, Volume]) -> Path:
    """Nine NIfTI studies in folders, and a torn file; two have one name on disks that fold cases."""
    folder = tmp_path / "ten"
    for number in range(COUNT - 1):
        place = folder / ("Case/a" if number == 7 else "case/A" if number == 8 else f"{number}")
        place.mkdir(parents=True)
        nifti.write(place / "head.nii", heads[number % 2])
    (folder / "bad.nii.gz").write_bytes(b"\x1f\x8b torn")
    return folder


def test_shards_share_all_studies_and_change_their_number(ten: Path, tmp_path: Path):
    keys = [one.key for one in find_studies(ten, tmp_path / "out").sources]
    for count in (1, 3, 4):
        parts = [list_studies(ten, tmp_path / "out", Shard(number, count)) for number in range(1, count + 1)]
        assert sorted(one.key for part in parts for one in part.found.sources) == sorted(keys)
        assert all(shard_of(one.key, count) == row + 1 for row, part in enumerate(parts) for one in part.found.sources)
    names = list_studies(ten, tmp_path / "out", None).names
    assert len({name.casefold() for name in names.values()}) == COUNT


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", "1/3/5"])
def test_a_shard_that_is_none_is_refused(wrong: str):
    with pytest.raises(SettingsError, match="3/16"):
        Shard.parse(wrong)


@pytest.mark.exhaustive
def test_shards_at_once_one_killed_and_resumed_make_what_one_batch_makes(ten: Path, weights: str, tmp_path: Path):
    """Two of shard 1 at once, the others beside them; one is killed in its first study."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    flags = ("--weights", weights, "--precision", "fp32", "--threads", 1, "--processes", 1)
    of = [shard_of(one.key, SHARDS) for one in find_studies(ten, out).sources]
    fullest = max(range(1, SHARDS + 1), key=of.count)
    started = [
        begun(ten, "-o", out, *flags, "--shard", f"{number}/{SHARDS}") for number in (fullest, *range(1, SHARDS + 1))
    ]
    until(lambda: any((out / ".batch/work").glob("*/*")) or any((out / ".batch/done").glob("*.json")))
    started[0].send_signal(signal.SIGKILL)
    told = [one.communicate(timeout=600) for one in started]
    assert [one.returncode for one in started] == [-signal.SIGKILL, 0, 0], told
    assert not (out / "summary.json").exists()  # tables are merged alone
    before = {path: path.stat().st_mtime_ns for path in (out / ".batch/done").glob("*.json")}
    assert run("batch", ten, "-o", out, *flags, "--shard", f"{fullest}/{SHARDS}") == 0
    assert run("batch", ten, "-o", out, *flags, "--shard", "2/4") == 0  # another number of shards does nothing again
    assert {path: path.stat().st_mtime_ns for path in (out / ".batch/done").glob("*.json")} == before
    assert run("batch", ten, "-o", out, "--merge") == 0
    assert run("batch", ten, "-o", whole, *flags) == 0
    assert lasting(rows_of(out)) == lasting(rows_of(whole))
    assert files_of(out) == files_of(whole)
    assert {key: one for key, one in summary_of(out).items() if key != "studies"} == {
        key: one for key, one in summary_of(whole).items() if key != "studies"
    }
    for name in ("lesions.csv", "data-dictionary.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert (out / "index.html").is_file()
    assert not list((out / ".batch/work").iterdir())


def test_missing_shards_are_named(ten: Path, weights: str, tmp_path: Path, capsys):
    out, flags = tmp_path / "out", ("--weights", weights, "--precision", "fp32", "--processes", 1)
    assert run("batch", ten, "-o", out, "--merge") == 2
    assert "--shard 1/N" in capsys.readouterr().err
    assert run("batch", ten, "-o", out, *flags, "--shard", "1/2", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert run("batch", ten, "-o", out, "--merge") == 1
    left = COUNT - len(done["studies"])
    assert f"shard 2/2: {left} studies to do" in " ".join(capsys.readouterr().out.split())
    assert summary_of(out)["open"] == left
    assert run("batch", ten, "-o", out, "--merge", "--json") == 1
    assert json.loads(capsys.readouterr().out)["open_shards"] == ["2/2"]
    assert run("batch", ten, "-o", out, "--merge", "--shard", "1/2") == 2
    assert run("batch", ten, "-o", out, "--search") == 2
    assert run("batch", ten, "-o", out, "--merge", "--retry") == 2
    assert run("batch", ten, "-o", out, *flags, "--shard", "1/2", "--identify") == 2


def test_one_shard_searches_and_reads_no_more_than_its_own(ten, weights, tmp_path, monkeypatch, capsys, heads):
    """The list is kept; --search finds what came later; a shard reads its own studies' records, and no table."""
    out, flags = tmp_path / "out", ("--weights", weights, "--precision", "fp32", "--processes", 1)
    searches: list[Path] = []
    monkeypatch.setattr(shards, "find_studies", lambda *given: searches.append(given[0]) or find_studies(*given))
    assert run("batch", ten, "-o", out, *flags, "--shard", "1/2") == 0
    (ten / "new").mkdir()
    nifti.write(ten / "new/head.nii", heads[0])
    assert run("batch", ten, "-o", out, *flags, "--shard", "2/2") == 0
    assert len(searches) == 1
    assert run("batch", ten, "-o", out, *flags, "--shard", "1/3", "--search") == 0
    assert "split into 3 shards, 2 before" in capsys.readouterr().err
    assert len(searches) == 2
    for number in (2, 3):
        assert run("batch", ten, "-o", out, *flags, "--shard", f"{number}/3") == 0
    assert run("batch", ten, "-o", out, "--merge") == 0
    assert len(rows_of(out)) == COUNT + 1

    ledger = batch_ledger(out)
    monkeypatch.setattr(type(ledger), "read_all", lambda self: pytest.fail("reads every record"))
    monkeypatch.setattr(summary, "write_summary", lambda *given: pytest.fail("writes the tables"))
    (out / "new_head/summary.json").unlink()
    new = next(one.key for one in read_list(ledger, ten, None).found.sources if one.place.startswith("new"))
    assert run("batch", ten, "-o", out, *flags, "--shard", f"{shard_of(new, 3)}/3") == 0
    assert (out / "new_head/summary.json").is_file()
    (out / ".batch/studies.jsonl").write_text("{torn")
    with pytest.raises(InputError, match="--search"):
        list_studies(ten, out, Shard(1, 3))
    assert not list((out / ".batch/work").iterdir())
