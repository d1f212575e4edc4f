"""Folders of results: whole or not at all, and never at the cost of somebody's files."""

import os
from pathlib import Path

import pytest

from bleedmap.errors import OutputError
from bleedmap.io.files import folder_written_whole, refuse_folder, write_json, written_whole


def fill(folder: Path, *names: str, overwrite: bool = False) -> None:
    with folder_written_whole(folder, overwrite=overwrite) as inside:
        for name in names:
            (inside / name).parent.mkdir(exist_ok=True)
            (inside / name).write_text(name, "utf-8")


def held(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".bleedmap.json"}


def test_earlier_results_are_replaced_on_request_only(tmp_path):
    out = tmp_path / "out"
    fill(out, "a.txt", "sub/b.txt")
    with pytest.raises(OutputError, match="already holds results"):
        fill(out, "c.txt")
    assert held(out) == {"a.txt", "sub/b.txt"}
    fill(out, "c.txt", overwrite=True)
    assert held(out) == {"c.txt"}


@pytest.mark.parametrize("stranger", ["thesis.docx", "sub/notes.txt", ".hidden"])
def test_a_folder_with_somebodys_file_is_never_touched(tmp_path, stranger):
    out = tmp_path / "out"
    fill(out, "summary.json", "sub/b.txt")
    (out / stranger).write_text("mine", "utf-8")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="not earlier results"):
            fill(out, "new.txt", overwrite=overwrite)
    assert held(out) == {"summary.json", "sub/b.txt", stranger}


def test_the_working_directory_and_a_link_can_be_the_target(tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    fill(tmp_path / "link", "a.txt")
    assert (tmp_path / "link").is_symlink()
    assert held(target) == {"a.txt"}
    monkeypatch.chdir(target)
    fill(Path(), "b.txt", overwrite=True)
    assert held(target) == {"b.txt"}


def test_an_error_leaves_earlier_results_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    fill(out, "a.txt")

    def fail() -> None:
        with folder_written_whole(out, overwrite=True) as inside:
            (inside / "b.txt").write_text("half", "utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert held(out) == {"a.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_behind_is_no_obstacle(tmp_path):
    out = tmp_path / "out"
    (out / ".part-killed").mkdir(parents=True)
    (out / ".part-killed/half.txt").write_text("half", "utf-8")
    fill(out, "a.txt")
    assert "a.txt" in held(out)


def test_a_kill_while_results_are_replaced_locks_nobody_out(tmp_path, monkeypatch):
    out, moved, replace = tmp_path / "out", [], Path.replace
    for name in ("a.txt", "b.txt"):
        with folder_written_whole(out, overwrite=True) as inside:
            (inside / "deep").mkdir()
            (inside / "deep" / name).write_text(name, "utf-8")
            (inside / name).write_text(name, "utf-8")

    def killed(self: Path, target: Path) -> Path:
        moved.append(self)
        if len(moved) == 4:  # the two lists, then one of two entries
            os._exit(9)
        return replace(self, target)

    child = os.fork()
    if not child:
        monkeypatch.setattr(Path, "replace", killed)
        with folder_written_whole(out, overwrite=True) as inside:
            (inside / "deep").mkdir()
            (inside / "deep/c.txt").write_text("c", "utf-8")
            (inside / "c.txt").write_text("c", "utf-8")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    refuse_folder(out, overwrite=True)
    with folder_written_whole(out, overwrite=True) as inside:
        (inside / "d.txt").write_text("d", "utf-8")
    assert {name for name in held(out) if not name.startswith(".part-")} == {"d.txt"}


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep/file.json"
    write_json(path, {"a": 1})

    def fail() -> None:
        with written_whole(path) as beside:
            beside.write_text("half", "utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert '"a": 1' in path.read_text("utf-8")
    assert os.listdir(path.parent) == ["file.json"]  # noqa: PTH208


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Else a power cut leaves an empty file under the name: the order of the real calls, by what each one opened."""
    calls: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))  # noqa: PTH115
        sync(descriptor)

    def note_rename(source, target, **places) -> None:
        calls.append(("rename", str(source)))
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    write_json(tmp_path / "file.json", {"a": 1})
    beside = next(place for call, place in calls if call == "rename")
    assert calls[:2] == [("sync", beside), ("rename", beside)]
