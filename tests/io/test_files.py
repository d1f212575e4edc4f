"""Folders of results: whole or not at all, and never at the cost of somebody's files."""

import errno
import json
import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bleedmap.errors import OutputError
from bleedmap.io import files
from bleedmap.io.files import folder_written_whole, read_csv, refuse_folder, write_json, written_whole
from refusing_share import EVERYTHING, on_a_share


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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The real calls of fsync and rename in their order, by what each one opened or renamed."""
    noted: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        noted.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))  # noqa: PTH115
        sync(descriptor)

    def note_rename(source, target, **places) -> None:
        noted.append(("rename", str(source)))
        rename(source, target, **places)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    return noted


def test_a_file_is_on_the_disk_before_it_takes_its_name_and_its_name_after(tmp_path, calls):
    """Else a power cut leaves an empty file under the name, or takes the name back."""
    write_json(tmp_path / "file.json", {"a": 1})
    beside = next(place for call, place in calls if call == "rename")
    assert calls == [("sync", beside), ("rename", beside), ("sync", str(tmp_path))]


@pytest.mark.parametrize("exists", [False, True])
def test_a_folders_name_is_on_the_disk_after_its_files(tmp_path, calls, exists):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with folder_written_whole(out) as inside:
        write_json(inside / "file.json", {"a": 1})
    assert [call for call, _ in calls[:2]] == ["sync", "rename"]
    assert calls[-1] == ("sync", str(out if exists else tmp_path))
    assert calls[-2][0] == "rename"


TWO_RUNS = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from bleedmap.errors import OutputError
from bleedmap.io.files import folder_written_whole, write_json
for name in ("first", "second"):
    with folder_written_whole(Path(sys.argv[1]), overwrite=True) as inside:
        (inside / "dicom/pictures").mkdir(parents=True)
        (inside / "dicom/pictures" / name).write_text(name)
        write_json(inside / "summary.json", {"of": name})
try:
    write_json(Path(sys.argv[2]), {"of": "second"})
except OutputError as error:
    sys.exit(error.explain())
"""


@pytest.mark.parametrize(
    "refused",
    ["chmod=EPERM", "utime=EPERM", "fsync=EINVAL", "fsync=ENOSYS", "fsync=ENOTSUP", "rename=EPERM", "rename=EXDEV",
     "rename=ENOSYS", EVERYTHING],
)  # fmt: skip
@pytest.mark.parametrize("exists", [False, True])
def test_a_share_that_refuses_calls_gets_all_results(tmp_path, refused, exists):
    out, single = tmp_path / "out", tmp_path / "single.json"
    write_json(single, {"of": "first"})
    if exists:
        out.mkdir()
    ended = on_a_share(refused, "-c", TWO_RUNS, out, single)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert held(tmp_path) == {"out/.bleedmap.json", "out/summary.json", "out/dicom/pictures/second", "single.json"}
    assert '"of": "second"' in (out / "summary.json").read_text("utf-8")
    assert '"of": "second"' in single.read_text("utf-8")
    assert sorted(json.loads((out / ".bleedmap.json").read_text("utf-8"))["files"]) == [
        "dicom/pictures/second", "summary.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [("fsync=ENOSPC", "free some space"), ("fsync=EDQUOT", "quota"), ("fsync=EIO", "check that disk"),
     ("rename=EROFS", "not read-only"), ("rename=ENOSPC", "free some space")],
)  # fmt: skip
def test_a_disk_that_fails_is_an_error_with_a_remedy(tmp_path, refused, remedy):
    single = tmp_path / "single.json"
    write_json(single, {"of": "first"})
    ended = on_a_share(refused, "-c", TWO_RUNS.replace('("first", "second")', "()"), tmp_path / "out", single)
    assert ended.returncode == 1
    assert remedy in ended.stderr
    assert "Traceback" not in ended.stderr
    assert held(tmp_path) == {"single.json"}
    assert '"of": "first"' in single.read_text("utf-8")


CUT_SHORT = """
import os, shutil, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from bleedmap.io import files
copied, write_copy = [], files._write_copy
def killed(source, target):
    copied.append(target)
    if len(copied) == int(sys.argv[2]):
        os._exit(9)
    write_copy(source, target)
files._write_copy = killed
with files.folder_written_whole(Path(sys.argv[1]), overwrite=True) as inside:
    for name in "abc":
        (inside / name).write_text(name)
"""


@pytest.mark.parametrize("calls", range(2, 7))
def test_a_kill_while_results_are_copied_locks_nobody_out(tmp_path, calls):
    out = tmp_path / "out"
    assert on_a_share("rename=EPERM", "-c", CUT_SHORT, out, calls).returncode == 9
    fill(out, "d.txt", overwrite=True)
    assert {name for name in held(out) if not name.startswith(".part-")} == {"d.txt"}


def test_a_copy_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    """The disk is full in the middle of a copy to a share that cannot rename."""
    path, write_copy = tmp_path / "file.json", files._write_copy
    write_json(path, {"of": "first"})

    def full(source: Path, target: Path) -> None:
        if target == path and "second" in source.read_text("utf-8"):
            target.write_text("half", "utf-8")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_copy(source, target)

    def refused(self: Path, target: Path) -> Path:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(files, "_write_copy", full)
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(OutputError, match="No space left"):
        write_json(path, {"of": "second"})
    assert '"of": "first"' in path.read_text("utf-8")
    assert held(tmp_path) == {"file.json"}


@pytest.mark.parametrize(("umask", "of_folder", "of_file"), [
    (0o002, 0o775, 0o664), (0o022, 0o755, 0o644), (0o027, 0o750, 0o640), (0o077, 0o700, 0o600),
])  # fmt: skip
@pytest.mark.parametrize("refused", ["", "rename=EPERM"])
def test_results_have_the_rights_that_the_user_gives_to_new_files(tmp_path, umask, of_folder, of_file, refused):
    out = tmp_path / "out"
    code = f"import os; os.umask({umask})\n{TWO_RUNS}"
    assert on_a_share(refused, "-c", code, out, tmp_path / "single.json").returncode == 0
    for path in (out, *out.rglob("*"), tmp_path / "single.json"):
        assert path.stat().st_mode & 0o777 == (of_folder if path.is_dir() else of_file), path


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("x" * 256, "File name too long"), ("検" * 86 + "/out", "File name too long"),
        ("/".join(["x" * 200] * 21), "File name too long"), ("file/out", "Not a directory"), ("none/such/out", None),
        ("x" * 250, None),
    ],
)  # fmt: skip
def test_a_place_that_takes_no_results_is_found_before_the_work(tmp_path, place, words):
    (tmp_path / "file").write_text("x", "utf-8")
    if words is None:
        refuse_folder(tmp_path / place, overwrite=False)
    else:
        with pytest.raises(OutputError, match=words) as caught:
            refuse_folder(tmp_path / place, overwrite=False)
        assert "give a folder" in caught.value.remedy
    assert held(tmp_path) == {"file"}
    assert [one.name for one in tmp_path.iterdir()] == ["file"]  # no folder was made either


@pytest.mark.parametrize("name", ["x" * 248 + ".nii.gz", "検" * 83 + ".json", "a.json"])
def test_a_file_of_any_name_that_the_disk_takes_is_written(tmp_path, name):
    with written_whole(tmp_path / name) as temporary:
        assert temporary.suffix == Path(name).suffix
        temporary.write_text("x", "utf-8")
    assert held(tmp_path) == {name}


def test_a_full_or_read_only_disk_is_found_before_the_work(tmp_path, monkeypatch):
    def refused(self: Path, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(OutputError, match="Read-only file system"):
        refuse_folder(tmp_path / "out", overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs Linux' /dev/shm")  # noqa: PTH112
def test_folders_in_memory_are_walked_and_the_kernels_are_not(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/dev/shm") as memory:
        inside = Path(memory, "study", "series")
        inside.mkdir(parents=True)
        (inside / "1.dcm").touch()
        found = [(folder.name, list(names)) for folder, names in files.walk(Path(memory))]
        assert ("series", ["1.dcm"]) in found
    (tmp_path / "kernel").symlink_to("/proc/self")
    assert [folder for folder, _ in files.walk(tmp_path)] == [tmp_path]


def test_a_table_is_read_from_a_pipe_and_with_either_separator(tmp_path: Path) -> None:
    """A shell's `<(command)` gives a pipe, which can be read once."""
    os.mkfifo(tmp_path / "pipe")
    for text in ('study,patient\na, 1\n , \n"b, c",2\n,\n', 'study;patient\na; 1\n"b, c";2\n;\n'):
        (tmp_path / "table.csv").write_text("\ufeff" + text, "utf-8")
        writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text, "utf-8"))
        writer.start()
        for path in (tmp_path / "pipe", tmp_path / "table.csv"):
            rows = read_csv(path)
            assert rows == [{"study": "a", "patient": "1"}, {"study": "b, c", "patient": "2"}]
            assert [one.line for one in rows] == [2, 4 if "," in text.splitlines()[0] else 3]
        writer.join()
