"""`bleedmap reproduce thesis`: runs, says where it stands, survives kills, writes its report."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bleedmap.cli.main import main
from bleedmap_thesis.plan import SCALES, cells
from bleedmap_thesis.runner import cell_ledger, make_job
from ct_ich_tables import PEOPLE, label_rows

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
KILLS = 5
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


def command(out: Path, data: Path, *more: object) -> list[str]:
    words = ("reproduce", "thesis", "-o", out, "--data", data, "--scale", "trial", "--device", "cpu", *more)
    return [sys.executable, "-m", "bleedmap.cli.main", *map(str, words)]


def run(*arguments: object) -> str:
    done = subprocess.run(
        command(*arguments), check=False, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*arguments: object) -> str:
    """What the command says when it refuses."""
    done = subprocess.run(
        command(*arguments), check=False, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


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
    run(out, release, "--part", "grid")
    return out


def test_killed_five_times_it_ends_with_the_same_results(release, undisturbed, tmp_path):
    out, chance, kills, wait = tmp_path / "killed", random.Random(1), 0, 8.0
    while kills < KILLS:
        process = subprocess.Popen(
            command(out, release, "--part", "grid"), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(chance.uniform(0.5, wait))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        elif len(results_of(out)) == 6:  # faster than the kills: begin again, and kill sooner
            for path in (out / "results").rglob("*.json"):
                path.unlink()
            wait /= 2
        process.wait()
    run(out, release, "--part", "grid")
    assert results_of(out) == results_of(undisturbed)
    assert len(results_of(out)) == 6


def test_two_commands_share_the_work(release, undisturbed, tmp_path):
    out = tmp_path / "shared"
    both = [
        subprocess.Popen(
            command(out, release, "--part", "grid"), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        ) for _ in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert results_of(out) == results_of(undisturbed)
    assert any("waiting for another command" in one for one in told), "they met at one cell at least"


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
    assert done == {f"trial/grid/{name}" for name in (
        "model-2-b32/slice-seed0", "model-1-b16/slice-seed0", "model-2-b32/patient-seed0",
        "model-1-b16/patient-seed0", "model-2-b16/slice-seed0", "model-1-b32/slice-seed0",
    )}  # fmt: skip
    assert len(state["cells"]) > 100
    assert "6 of" in run(undisturbed, release, "--status")


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
