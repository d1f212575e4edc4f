"""Damaged inputs through the real command line, in a process of its own that is watched.

    python tests/support/matrices/damage.py --count 500 --seed 0

prints what became of them: refused, accepted, crashed, too slow, too large; and names every seed that broke a rule.
"""

import argparse
import gc
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MOST_S, MOST_BYTES = 10.0, 2 << 30  # seconds of processor time, so that other programs do not count
HANGS_AFTER_S = 300.0


@dataclass(frozen=True)
class Outcome:
    """What one input led to.

    Attributes:
        seed, kind: of the input.
        ended: 'refused', 'accepted', 'died' or 'too slow'.
        seconds: of processor time that it took.
        peak_bytes: of resident memory, of the program or of a process that it began.
        said: the first line of what was said, or of the result.
        result: of an accepted one, against the undamaged study's: 'same', 'noted' where volume or slices differ and a
            note, check or choice of series says something that it did not, else 'other'.
        wrong: rules that were broken.
    """

    seed: int
    kind: str
    ended: str
    seconds: float
    peak_bytes: int
    said: str
    result: str = ""
    wrong: tuple[str, ...] = ()


# --- the process that is watched -----------------------------------------------------------------------------------


def serve() -> None:
    """Run `bleedmap segment` for each line of JSON on standard input; answer on what was standard output."""
    replies = os.fdopen(os.dup(1), "w")
    from bleedmap.cli.main import main

    for line in sys.stdin:
        request = json.loads(line)
        gc.collect()  # what the run before left: a user's process would have ended
        _forget_peak()
        with open(request["said"], "wb", buffering=0) as said:  # noqa: PTH123 - a descriptor is wanted
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            code, started = 0, _processor_s()
            try:
                main(["segment", request["input"], "-o", request["out"]])
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
            except BaseException:  # what a user would see as a traceback
                import traceback

                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
        seconds = _processor_s() - started
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        replies.write(
            json.dumps({"code": code, "seconds": seconds, "peak": _peak(os.getpid()), "child": children}) + "\n"
        )
        replies.flush()


def _processor_s() -> float:
    """Of this process and of those that it began and that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _forget_peak() -> None:
    """Linux: let the peak of resident memory begin anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return


def _peak(pid: int) -> int:
    """Peak of resident memory in bytes, 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


# --- the watcher ---------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """The process, begun anew after it died or was too slow."""

    process: "subprocess.Popen[str] | None" = field(default=None)

    def run(self, source: Path, out: Path, said: Path) -> dict[str, float | str]:
        """The reply; 'ended' is 'died' or 'too slow' where there was none."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        started = time.monotonic()
        self.process.stdin.write(json.dumps({"input": str(source), "out": str(out), "said": str(said)}) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], HANGS_AFTER_S)[0]:
            peak = _peak(self.process.pid)
            self.stop()
            return {"ended": "too slow", "seconds": time.monotonic() - started, "peak": peak, "child": 0}
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            return {"ended": "died", "seconds": time.monotonic() - started, "peak": 0, "child": 0}
        reply: dict[str, float | str] = json.loads(line)
        return reply

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def outcomes(seeds: Iterable[int]) -> Iterator[Outcome]:
    """One after the other; each input is gone afterwards."""
    from damage_inputs import make_input, undamaged_inputs

    watched = Watched()
    try:
        with tempfile.TemporaryDirectory() as first:  # the libraries are loaded by the undamaged study
            usual = {}
            for source in undamaged_inputs(Path(first)):
                found = _outcome(-1, "undamaged", source, Path(first), watched, {})
                assert found.ended == "accepted", found
                usual[".nii" in source.name] = json.loads(found.result)
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                kind, source = make_input(seed, Path(folder))
                yield _outcome(seed, kind, source, Path(folder), watched, usual[".nii" in source.name])
    finally:
        watched.stop()


def _outcome(
    seed: int, kind: str, source: Path, folder: Path, watched: Watched, undamaged: dict[str, object]
) -> Outcome:  # fmt: skip
    """Run one input and judge it; without `undamaged` its `result` is what later ones are held against."""
    out, said_file = folder / "out", folder / "said"
    before = _tree(folder)
    reply = watched.run(source, out, said_file)
    said = said_file.read_text("utf-8", "replace") if said_file.exists() else ""
    code = reply.get("code")
    ended = str(reply.get("ended") or {0: "accepted", 2: "refused"}.get(code, "broken"))  # type: ignore[call-overload]
    after = _tree(folder) - {"said"}
    wrong = _wrong(ended, said, float(reply["seconds"]), max(int(reply["peak"]), int(reply["child"])))
    left = sorted(one for one in after - before if ended != "accepted" or ".part-" in one or not one.startswith("out"))
    wrong += [f"left behind: {', '.join(left[:3])}"] if left else []
    lines = said.splitlines() or [""]
    first = next((line for line in lines if "emorrhage" in line), lines[0]) if ended == "accepted" else lines[0]
    shown = first.replace(str(folder), "")[:200]
    peak = max(int(reply["peak"]), int(reply["child"]))
    result = ""
    if ended == "accepted":
        now = _gist(out)
        result = _against(now, undamaged) if undamaged else json.dumps(now)
        wrong += _secrets_in("results", " ".join(one.read_text("utf-8", "replace") for one in _texts(out)))
    shutil.rmtree(out, ignore_errors=True)
    return Outcome(seed, kind, ended, float(reply["seconds"]), peak, shown, result, tuple(wrong))


def _gist(out: Path) -> dict[str, object]:
    """What was found, and what was said about the input."""
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    found = {name: summary[name] for name in ("volume_ml", "slice_count")}
    checks = [f"{one['name']} {one['verdict']} {one['found']}" for one in summary["checks"] if one["verdict"] != "pass"]
    series = [f"{one['instances']} {one['reason']}" for one in summary["series"] or ()]
    return found | {"said": [*summary["notes"], *checks, *series]}


def _against(now: dict[str, object], undamaged: dict[str, object]) -> str:
    if all(now[name] == undamaged[name] for name in ("volume_ml", "slice_count")):
        return "same"
    return "noted" if now["said"] != undamaged["said"] else "other"


def _texts(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.suffix in (".json", ".csv", ".html")]


def _wrong(ended: str, said: str, seconds: float, peak: int) -> list[str]:
    wrong = _secrets_in("words", said)
    if ended not in ("accepted", "refused"):
        wrong.append(ended)
    if "Traceback" in said or "Exception ignored" in said:
        wrong.append("a traceback: " + said.strip().splitlines()[-1])
    if ended == "refused" and not (
        said.startswith("error: ") and "\n  needed: " in said and said.splitlines()[-1].startswith("  remedy: ")
    ):
        wrong.append("no message of what was found, needed, to do: " + said[-200:])
    if seconds > MOST_S:
        wrong.append(f"took {seconds:.1f} s")
    if peak > MOST_BYTES:
        wrong.append(f"took {peak / 2**30:.2f} GiB")
    if any(ord(one) < 32 and one not in "\n\t" for one in said):
        wrong.append("control characters")
    return wrong


def _secrets_in(where: str, said: str) -> list[str]:
    from damage_dicom import SECRETS

    return [f"{where} name the patient ({one})" for one in SECRETS if one in said]


def _tree(folder: Path) -> set[str]:
    found = set()
    for place, folders, names in os.walk(folder):
        found |= {str((Path(place) / name).relative_to(folder)) for name in (*folders, *names)}
    return found


def table(found: list[Outcome]) -> str:
    """What became of each kind, in Markdown."""
    names = "damage", "inputs", "refused", "accepted: same", "noted", "other", "slowest s", "peak MiB", "broke a rule"
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    for kind in [*dict.fromkeys(one.kind for one in found), "all"]:
        own = [one for one in found if kind in ("all", one.kind)]
        ended = Counter(one.ended for one in own)
        slowest, peak = max(one.seconds for one in own), max(one.peak_bytes for one in own) / 2**20
        broke = sum(bool(one.wrong) for one in own)
        results = Counter(one.result for one in own)
        counts = f"{len(own)} | {ended['refused']} | {results['same']} | {results['noted']} | {results['other']}"
        lines.append(f"| {kind} | {counts} | {slowest:.1f} | {peak:,.0f} | {broke} |")
    return "\n".join(lines)


def _main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--count", type=int, default=500)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--verbose", action="store_true", help="a line for each input")
    flags.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.serve:
        serve()
        return
    found = []
    for one in outcomes(range(given.seed, given.seed + given.count)):
        found.append(one)
        if given.verbose or one.wrong:
            print(
                f"{one.seed} {one.kind}: {one.ended}, {one.result}, {one.seconds:.1f} s, {one.said}",
                *one.wrong,
                sep="\n  WRONG ",
            )
            sys.stdout.flush()
    print(table(found))


if __name__ == "__main__":
    _main()
