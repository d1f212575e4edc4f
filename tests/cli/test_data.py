"""`bleedmap data` and `bleedmap split`, run as a user runs them."""

import hashlib
import json
from pathlib import Path

import pytest

from bleedmap.datasets.splits import read_split
from command_line import run


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred columns, and no data set but the one that a test names."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("BLEEDMAP_DATA", raising=False)


@pytest.fixture
def with_sums(jpeg_release: Path) -> Path:
    """The small release with its list of checksums."""
    files = sorted(path for path in jpeg_release.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(jpeg_release)}\n" for f in files]
    (jpeg_release / "SHA256SUMS").write_text("".join(lines))
    return jpeg_release


class TestSummary:
    def test_tables(self, jpeg_release: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "summary", "--data", jpeg_release) == 0
        out = capsys.readouterr().out
        assert "release 1.0.0 JPEG" in out
        assert "epidural" in out
        assert "on file 'Normal CT'" not in out  # patient 50 is
        assert "starts with a byte-order mark" in out
        assert max(map(len, out.splitlines())) <= 100

    def test_json_alone_on_standard_output(self, jpeg_release: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "summary", "--data", jpeg_release, "--json") == 0
        content = json.loads(capsys.readouterr().out)
        assert (content["patients"], content["slices"], content["lesion_slices"]) == (3, 8, 3)
        assert content["types"][0] == {"name": "epidural", "short_name": "EDH", "slices": 2, "patients": 1}
        assert len(content["content_sha256"]) == 64
        assert {"place", "found", "treatment"} == set(content["oddities"][0])

    def test_folder_from_the_variable(
        self, jpeg_release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("BLEEDMAP_DATA", str(jpeg_release))
        assert run("data", "summary", "--json") == 0
        assert json.loads(capsys.readouterr().out)["folder"] == str(jpeg_release)

    def test_no_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "summary") == 2
        err = capsys.readouterr().err
        assert "BLEEDMAP_DATA" in err
        assert "Traceback" not in err

    def test_real_data(self, ct_ich_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "summary", "--data", ct_ich_root) == 0
        out = capsys.readouterr().out
        for count in ("46 male, 36 female", "2,501", "2,500", "1,104", "142 to 17,582", "0.034 to 4.2", "084/36"):
            assert count in out
        assert "agree with the slice labels in all 82" in out


class TestVerify:
    def test_all_intact(self, with_sums: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "verify", "--data", with_sums.parent) == 0
        assert "all 21 files are as the publisher lists them" in capsys.readouterr().out

    def test_missing_and_changed(self, with_sums: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (with_sums / "Patients_CT/049/bone/1.jpg").unlink()
        (with_sums / "hemorrhage_diagnosis.csv").write_text("edited")
        assert run("data", "verify", "--data", with_sums) == 2
        out, err = capsys.readouterr()
        assert out.splitlines() == ["missing  Patients_CT/049/bone/1.jpg", "changed  hemorrhage_diagnosis.csv"]
        assert "1 missing and 1 changed" in err

    def test_many_are_counted(self, with_sums: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for path in with_sums.rglob("*.jpg"):
            path.write_bytes(b"changed")
        with (with_sums / "SHA256SUMS").open("a") as stream:
            stream.writelines(f"{'0' * 64}  {number}.jpg\n" for number in range(25))
        assert run("data", "verify", "--data", with_sums, "--json") == 2
        assert len(json.loads(capsys.readouterr().out)["missing"]) == 25
        assert run("data", "verify", "--data", with_sums) == 2
        assert "missing  … and 5 more" in capsys.readouterr().out

    def test_without_a_list(self, jpeg_release: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "verify", "--data", jpeg_release) == 2
        assert "no list of checksums (SHA256SUMS or SHA256SUMS.txt)" in capsys.readouterr().err


class TestDownload:
    def test_refused_address(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("data", "download", "-o", tmp_path / "ct-ich", "--url", "ftp://127.0.0.1/") == 2
        assert "https://" in capsys.readouterr().err
        assert not (tmp_path / "ct-ich").exists()


class TestSplit:
    def test_writes_a_file_that_can_be_read(
        self, ct_ich_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "split.json"
        assert run("split", "--data", ct_ich_root, "-o", out, "--seed", 3) == 0
        split = read_split(out)
        assert (split.kind, split.balanced, split.seed, split.fold) == ("patient", True, 3, None)
        assert len(split.ids) == 636
        assert "Patients" in capsys.readouterr().out
        assert run("split", "--data", ct_ich_root, "-o", out) == 2
        assert "already exists" in capsys.readouterr().err
        assert read_split(out) == split
        assert run("split", "--data", ct_ich_root, "-o", out, "--all-slices", "--overwrite") == 0
        assert len(read_split(out).ids) == 2501

    def test_folds_into_a_folder(self, ct_ich_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "folds"
        assert run("split", "--data", ct_ich_root, "--kind", "slice", "--folds", 5, "-o", out, "--json") == 0
        described = json.loads(capsys.readouterr().out)
        assert sum(split["test"]["lesion_slices"] for split in described["splits"]) == 318
        assert [read_split(out / f"fold-{k}.json").fold for k in range(1, 6)] == [1, 2, 3, 4, 5]
        assert len(list(out.glob("fold-*.json"))) == 5

    def test_too_many_folds_leave_nothing(
        self, jpeg_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("split", "--data", jpeg_release, "--all-slices", "--folds", 4, "-o", tmp_path / "folds")
        assert run(*arguments) == 2
        assert "make fewer folds" in capsys.readouterr().err
        assert not (tmp_path / "folds").exists()

    def test_folder_in_the_way(self, ct_ich_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("split", "--data", ct_ich_root, "-o", tmp_path) == 2
        assert "a folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["data summary", "data verify", "data download", "split"])
def test_help_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*verb.split(), "--help") == 0
    out = capsys.readouterr().out
    assert f"bleedmap {verb} -" in out  # an example
    assert "In: " in out
    assert "Out: " in out
