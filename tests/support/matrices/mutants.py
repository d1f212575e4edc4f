"""Put small faults into the numerical and clinical code, one at a time, and list those that no test notices.

Run as a script it tries all, or those whose names match: `python tests/support/matrices/mutants.py
'bleedmap.inference.certainty*'`; in the checkout's folder, where it writes ./mutants. `mutmut show NAME` shows a fault.

mutmut makes the faults, and `pyproject.toml` says where and which tests to run. Unlike `mutmut run`, this collects the
tests once and forks a process for each fault, which takes a small part of the time. Results stay in ./mutants: faults
that a test has noticed are not tried again, so a stopped run goes on; `make clean` forgets them.
"""

import gc
import os
import resource
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from fnmatch import fnmatch
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from mutmut.__main__ import create_mutants
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths, walk_mutatable_files
from mutmut.utils.format_utils import mangled_name_from_mutant_name

PROGRESS_S = 30.0
SURVIVED, NOTICED, BROKE_OFF, NO_TESTS = 0, 1, 3, 33  # mutmut's codes; a signal that ended a process has its own
UNNOTICED = (SURVIVED, NO_TESTS)
FORK = get_context("fork")
T = TypeVar("T")


def make_mutants() -> list[SourceFileMutationData]:
    """Write the code with all its faults and the tests into ./mutants, as `mutmut run` does; results so far stay."""
    Path("mutants").mkdir(exist_ok=True)
    shutil.rmtree("mutants/tests", ignore_errors=True)  # of which some may be gone since
    with redirect_stdout(StringIO()):
        copy_src_dir()
        copy_also_copy_files()
        setup_source_paths()
        create_mutants(os.cpu_count() or 1)
    modules = [SourceFileMutationData(path=path) for path in sorted(walk_mutatable_files())]
    for module in modules:
        module.meta_path = module.meta_path.absolute()
        module.load()
    return modules


def run_forked(work: Callable[[], T]) -> tuple[T | None, int | None]:
    """Do the work in a forked process whose output is dropped; its answer, None if it died, and its exit code."""
    receiver, sender = FORK.Pipe(duplex=False)

    def run() -> None:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        sender.send(work())

    process = FORK.Process(target=run)
    process.start()
    sender.close()
    with receiver:
        try:
            answer = receiver.recv()
        except EOFError:
            answer = None
    process.join()
    return answer, process.exitcode


class Trials:
    """A pytest plugin that tries faults on the collected tests in place of running them."""

    def __init__(self, modules: Sequence[SourceFileMutationData], patterns: Sequence[str]) -> None:
        self.modules, self.patterns = modules, patterns
        self.cpu_s: dict[pytest.Item, float] = {}
        self.callers: defaultdict[str, list[pytest.Item]] = defaultdict(list)  # of each function
        self.hits: Counter[tuple[str, pytest.Item]] = Counter()  # by function or module
        self.failures: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the tests without a fault, then with each that no test has noticed so far."""
        if session.testsfailed:  # while collecting, which pytest reports
            return None
        gc.collect()
        gc.freeze()  # a forked process copies less memory
        self.run_clean(session.items)
        open_codes = (*UNNOTICED, None)
        faults = [(one, name) for one in self.modules for name, code in self.results(one).items() if code in open_codes]
        begun = said = time.monotonic()
        for number, (module, name) in enumerate(faults):
            if time.monotonic() > said + PROGRESS_S:
                said = time.monotonic()
                print(f"{number:,} of {len(faults):,} faults, {said - begun:.0f} s", flush=True)
            module.exit_code_by_key[name] = self.try_fault(name)
            module.save()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what failed."""
        if report.failed:
            self.failures.append(f"{report.nodeid}\n{report.longreprtext}")

    def passes(self, test: pytest.Item) -> bool:
        """Run a test, with fixtures of its own."""
        before = len(self.failures)
        test.ihook.pytest_runtest_protocol(item=test, nextitem=None)
        return len(self.failures) == before

    def results(self, module: SourceFileMutationData) -> dict[str, int | None]:
        """The codes of a module's faults that were asked for, None for those not tried yet."""
        codes = module.exit_code_by_key
        return {name: code for name, code in codes.items() if any(fnmatch(name, one) for one in self.patterns)}

    def run_clean(self, tests: Sequence[pytest.Item]) -> None:
        """Measure each test's processor time and the functions that it calls; all must pass."""

        def run() -> tuple[list[tuple[float, set[str]]], list[str]]:
            set_mutant_under_test("stats")  # mutmut then notes the functions called
            measured = []
            for test in tests:
                state()._stats.clear()
                begun = time.process_time()
                self.passes(test)
                measured.append((time.process_time() - begun, set(state()._stats)))
            return measured, self.failures

        answer, code = run_forked(run)
        if answer is None or answer[1]:
            said = "\n\n".join(answer[1]) if answer else f"the process ended with {code}"
            pytest.exit(f"the tests fail without a fault:\n{said}", returncode=1)
        for test, (cpu_s, called) in zip(tests, answer[0], strict=True):
            self.cpu_s[test] = cpu_s
            for function in called:
                self.callers[function].append(test)
        print(f"{len(tests):,} tests pass without a fault, in {sum(self.cpu_s.values()):.0f} s", flush=True)

    def try_fault(self, name: str) -> int:
        """Run the tests that call the function until one fails, those first that noticed most; mutmut's code for it."""
        function = mangled_name_from_mutant_name(name)
        places = function, function.rpartition(".")[0]
        tests = self.callers[function]
        tests.sort(key=lambda test: (*(-self.hits[place, test] for place in places), self.cpu_s[test]))
        limit_s = 6 + int(8 * sum(self.cpu_s[test] for test in tests))

        def run() -> int | None:
            set_mutant_under_test(name)
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))  # a fault may make a loop endless
            return next((number for number, test in enumerate(tests) if not self.passes(test)), -1)

        if not tests:
            return NO_TESTS
        noticed_by, code = run_forked(run)
        if noticed_by is None:
            return code or BROKE_OFF
        if noticed_by < 0:
            return SURVIVED
        self.hits.update((place, tests[noticed_by]) for place in places)
        return NOTICED

    def table(self) -> str:
        """The results in Markdown, a line a module, and the names of the faults that no test noticed."""
        results = {str(module.path): codes for module in self.modules if (codes := self.results(module))}
        together = {name: code for codes in results.values() for name, code in codes.items()}
        lines = ["| module | faults | tried | noticed | not noticed |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [_line(path, codes) for path, codes in results.items()]
        unnoticed = [name for name, code in together.items() if code in UNNOTICED]
        return "\n".join([*lines, _line("all", together), "", *unnoticed])


def _line(words: str, codes: dict[str, int | None]) -> str:
    tried = sum(code is not None for code in codes.values())
    unnoticed = sum(code in UNNOTICED for code in codes.values())
    return f"| {words} | {len(codes):,} | {tried:,} | {tried - unnoticed:,} | {unnoticed:,} |"


def main(patterns: Sequence[str]) -> int:
    """Try the faults that match any of the patterns, print the table, and return pytest's exit code."""
    trials = Trials(make_mutants(), patterns or ["*"])
    if not any(trials.results(module) for module in trials.modules):
        sys.exit(f"no fault matches {' '.join(patterns)}")
    os.chdir("mutants")
    set_mutant_under_test("")  # tests/conftest.py asks for it
    with TemporaryDirectory() as folder:
        args = ["--rootdir=.", "-qq", "--capture=no", f"--basetemp={folder}/tests"]
        args += config().pytest_add_cli_args_test_selection + config().pytest_add_cli_args
        code = int(pytest.main(args, plugins=[trials]))
    print(trials.table())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
