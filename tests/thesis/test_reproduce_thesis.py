"""`bleedmap reproduce thesis`: runs, says where it stands, survives kills, writes its report."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import command_line
from bleedmap.cli.main import main
from bleedmap_thesis.plan import SCALES, cells
from bleedmap_thesis.runner import cell_ledger, make_job, result_file
from ct_ich_tables import PEOPLE, label_rows
from ray_nodes import run_nodes
from written_files import wait_for_changes

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TIMES = ("code", "device", "threads", "torch", "training_s", "seconds", "bf16")


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """Release 1.0.0 in small: 24 patients of 4 slices of 64×64, twelve of them with a bright bleed on two slices."""
    root, draw = tmp_path_factory.mktemp("data") / "ct-ich", np.random.default_rng(0)
    patients = {
        49 + number: tuple(("Epidural" if number < 12 and at in (2, 3) else "", False) for at in range(1, 5))
        for number in range(24)
    }
    for patient, slices in patients.items():
        folder = root / f"Patients_CT/{patient:03d}"
        for window in ("brain", "bone"):
            (folder / window).mkdir(parents=True)
        for number, (lesion, _) in enumerate(slices, start=1):
            grey = draw.normal(90, 4, (64, 64)).clip(0, 255).astype(np.uint8)
            if lesion:
                mask = np.zeros((64, 64), np.uint8)
                row, column = draw.integers(8, 36, 2)
                mask[row : row + 16, column : column + 20] = 255
                grey[mask > 0] += 90
                Image.fromarray(mask).save(folder / f"brain/{number}_HGE_Seg.jpg", quality=90)
            for window in ("brain", "bone"):
                Image.fromarray(grey).save(folder / f"{window}/{number}.jpg", quality=95)
    (root / "hemorrhage_diagnosis.csv").write_text("\ufeff" + label_rows(patients), encoding="utf-8", newline="")
    people = PEOPLE.splitlines()[:2] + [f'{patient},35,"Male",,,,,,,"",' for patient in patients]
    (root / "patient_demographics.csv").write_text("\n".join(people) + "\n", encoding="utf-8", newline="")
    return root


def words_of(out: Path, data: Path, *more: object) -> list[str]:
    words = ("reproduce", "thesis", "-o", out, "--data", data, "--scale", "trial", "--device", "cpu", *more)
    return [str(word) for word in words]


def run(*arguments: object) -> str:
    """What the command prints in this process."""
    with redirect_stdout(StringIO()) as shown:
        assert command_line.run(*words_of(*arguments)) == 0
    return shown.getvalue()


def refused(*arguments: object) -> str:
    """What the command says when it refuses."""
    with redirect_stderr(StringIO()) as said:
        assert command_line.run(*words_of(*arguments)) == 2
    return said.getvalue()


def results_of(out: Path) -> dict[str, dict]:
    """Every finished cell without what may differ: machine and times."""
    found = {}
    for path in sorted((out / "results").rglob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        assert set(content["made"]) == set(TIMES)
        found[str(path.relative_to(out))] = {name: value for name, value in content.items() if name != "made"}
    return found


@pytest.fixture(scope="module")
def undisturbed(release, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("thesis") / "undisturbed"
    run(out, release, "--part", "grid", "--method", "model-2-b32")
    return out


def begin(out: Path, data: Path) -> "subprocess.Popen[bytes]":
    """The two cells of one network, in a process that writes what it says to a file beside its folder."""
    with out.with_name(f"{out.name}-{len(list(out.parent.iterdir()))}.log").open("wb") as log:
        words = words_of(out, data, "--part", "grid", "--method", "model-2-b32")
        command = [sys.executable, "-m", "bleedmap.cli.main", *words]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=log)


@pytest.mark.exhaustive
def test_killed_again_and_again_it_ends_with_the_same_results(release, undisturbed, tmp_path):
    """Each time a few written files after the command began."""
    out, chance, kills = tmp_path / "killed", random.Random(1), 2
    while kills:
        process = begin(out, release)
        wait_for_changes(out, chance.randint(1, 12), process)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills -= 1
        else:  # it ended first: begin again
            assert process.returncode == 0
            for path in (out / "results").rglob("*.json"):
                path.unlink()
        process.wait()
    run(out, release, "--part", "grid", "--method", "model-2-b32")
    assert results_of(out) == results_of(undisturbed)
    assert len(results_of(out)) == 2


@pytest.mark.exhaustive
def test_two_commands_share_the_work(release, undisturbed, tmp_path):
    out, cell = tmp_path / "shared", next(one for one in cells(SCALES["trial"], ("grid",)) if "model-2-b32" in one.key)
    with cell_ledger(out).claim(make_job(cell), wait=False) as ours:  # as a third command that is at it
        assert ours
        both = [begin(out, release) for _ in range(2)]
        logs = sorted(tmp_path.glob("shared-*.log"))
        while not all(b"waiting for another command" in log.read_bytes() for log in logs):
            assert [process.poll() for process in both] == [None, None], [log.read_text() for log in logs]
            time.sleep(0.01)
    assert [process.wait() for process in both] == [0, 0], [log.read_text() for log in logs]
    assert len(logs) == 2
    assert results_of(out) == results_of(undisturbed)


@pytest.mark.exhaustive
def test_a_cluster_runs_the_same_cells_and_waits_for_one_that_a_command_is_at(release, undisturbed, tmp_path):
    out, cell = tmp_path / "cluster", cells(SCALES["trial"], ("grid",))[0]
    with run_nodes(2) as nodes, (tmp_path / "log").open("wb") as log:
        words = words_of(out, release, "--part", "grid", "--method", "model-2-b32", "--ray", nodes.address)
        with cell_ledger(out).claim(make_job(cell), wait=False) as ours:
            assert ours
            command = [sys.executable, "-m", "bleedmap.cli.main", *words]
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=log)
            while len(results_of(out)) < 1:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            assert not result_file(out, cell).exists()
        assert process.wait(120) == 0, (tmp_path / "log").read_text()
    assert results_of(out) == results_of(undisturbed)
    assert (out / "report/report.html").is_file()


def test_a_cell_at_work_is_running(release, undisturbed):
    cell = cells(SCALES["trial"], ("grid",), seeds=2)[-1]
    with cell_ledger(undisturbed).claim(make_job(cell), wait=False) as ours:
        assert ours
        state = json.loads(run(undisturbed, release, "--status", "--json", "--seeds", 2))
    assert state["cells"][cell.key] == "running"


def test_a_label_that_is_not_there_is_refused(release, tmp_path):
    done = refused(tmp_path / "out", release, "--method", "model-3")
    assert "model-3" in done
    assert "model-2-b32" in done


def test_a_result_of_other_settings_is_refused(undisturbed, release, tmp_path):
    out, name = tmp_path / "other", "results/trial/grid/model-2-b32/slice-seed0.json"
    (out / name).parent.mkdir(parents=True)
    content = json.loads((undisturbed / name).read_text("utf-8"))
    content["cell"]["config"]["learning_rate"] = 0.5
    (out / name).write_text(json.dumps(content), "utf-8")
    for more in ("--report-only", "--part=grid"):
        assert "other settings" in refused(out, release, more)


def test_a_folder_of_others_files_is_met_before_the_work(release, tmp_path):
    (tmp_path / "out/report").mkdir(parents=True)
    (tmp_path / "out/report/letter.txt").write_text("mine", "utf-8")
    assert "letter.txt" in refused(tmp_path / "out", release, "--part", "grid")
    assert not (tmp_path / "out/runs").exists()


def test_status_says_which_cells_are_done(release, undisturbed):
    state = json.loads(run(undisturbed, release, "--status", "--json"))
    assert state["scale"] == "trial"
    done = {key for key, value in state["cells"].items() if value == "done"}
    assert done == {f"trial/grid/model-2-b32/{kind}-seed0" for kind in ("slice", "patient")}
    assert len(state["cells"]) > 100
    assert "2 of" in run(undisturbed, release, "--status")


def test_a_cell_reads_back_and_knows_its_protocol(undisturbed):
    content = json.loads((undisturbed / "results/trial/grid/model-2-b32/patient-seed0.json").read_text("utf-8"))
    assert content["split"]["kind"] == "patient"
    assert content["split"]["test_patients_trained_on"] == 0
    assert [one["epoch"] for one in content["evaluations"]] == [1, 2, 3, 4, 5, 6, 7]
    assert len(content["curves"]) == 7
    rest = {name.split("/")[0] for name in content["rest"]["ids"]}
    assert rest <= {name.split("/")[0] for name in content["evaluations"][0]["ids"]}


def test_the_report_stands_alone(undisturbed, release):
    page = (undisturbed / "report/report.html").read_text("utf-8")
    assert "not a medical device" in page
    assert 'src="http' not in page and 'href="http' not in page.split("<body")[0]  # noqa: PT018
    assert (undisturbed / "report/report.json").stat().st_size > 1000
    assert list((undisturbed / "report").rglob("*.csv"))


def test_a_damaged_result_is_named(undisturbed, release, tmp_path):
    out = tmp_path / "damaged"
    path = out / "results/trial/grid/model-2-b32/slice-seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text("{", "utf-8")
    assert "slice-seed0.json" in refused(out, release, "--report-only")


def test_an_unfinished_run_of_other_settings_is_not_taken_for_the_cell(undisturbed, release, tmp_path):
    out = tmp_path / "other"
    source, place = (folder / "runs/trial/grid/model-2-b32/slice-seed0" for folder in (undisturbed, out))
    place.mkdir(parents=True)
    for name in ("config.json", "split.json", "run.json"):
        (place / name).write_bytes((source / name).read_bytes())
    config = json.loads((place / "config.json").read_text("utf-8")) | {"seed": 7}
    (place / "config.json").write_text(json.dumps(config), "utf-8")
    assert "other settings" in refused(out, release, "--part", "grid")


def test_without_the_package_of_the_thesis_the_verb_says_so(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "bleedmap_thesis"]:
        monkeypatch.delitem(sys.modules, name)
    places = [place for place in sys.path if not (Path(place) / "bleedmap_thesis").is_dir()]
    monkeypatch.setattr(sys, "path", places)
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if "ditable" not in repr(one)])
    for words in (["reproduce", "thesis", "-o", str(tmp_path), "--status"], ["reproduce", "conventions"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "'bleedmap_thesis' is not installed" in capsys.readouterr().err


def test_its_help_needs_neither_torch_nor_the_package_of_the_thesis():
    code = (
        "import sys; from bleedmap.cli.main import main\n"
        "try: main(['reproduce', 'thesis', '--help'])\n"
        "finally: print([name for name in ('torch', 'bleedmap_thesis') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert "--report-only" in done.stdout
    assert done.stderr.strip() == "[]"
