"""The terminal, the same in every verb: lines and tables on standard output, one progress bar on standard error."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from bleedmap.cli.edge import exit_code_of, print_error

_BAR_FROM = 11  # slices
_SPEED_OVER_S = 1800  # the time left is estimated from the last half hour: studies and epochs differ in length


def print_json(content: Any) -> None:
    """Print JSON on standard output; where its encoding lacks a character, all but ASCII is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2)
    print(text, flush=True)


def print_line(text: str = "", style: str | None = None) -> None:
    """Print one line with Rich's markup, never folded: names of files in it must be escaped."""
    Console(highlight=False).print(text, style=style, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal."""
    Console(highlight=False).print(table)


def make_table(
    *heads: str, rows: Iterable[Iterable[RenderableType]] = (), title: str | None = None, caption: str | None = None
) -> Table:
    """A table without borders; a column whose head begins with '>' is aligned to the right."""
    table = Table(
        title=title, title_justify="left", title_style="bold", caption=caption, caption_justify="left", box=None,
        padding=(0, 2, 0, 0), show_header=any(head.strip(">") for head in heads),
    )  # fmt: skip
    for head in heads:
        table.add_column(head.removeprefix(">"), justify="right" if head.startswith(">") else "left")
    for row in rows:
        table.add_row(*row)
    return table


def print_rows(*heads: str, rows: Iterable[Iterable[RenderableType]], title: str | None = None) -> None:
    """Print a table of rows; see `make_table`."""
    print_table(make_table(*heads, rows=rows, title=title))


def or_dash(value: Any, form: str | Callable[[Any], str]) -> str:
    """Return a value as `form` (of `format`, or a function) prints it; '–' where there is none."""
    if value is None:
        return "–"
    return format(value, form) if isinstance(form, str) else form(value)


class ProgressBar:
    """One bar on standard error with the time left.

    Where standard error is no terminal there is no bar. Then `report` prints a line every `line_every_s` seconds, and
    `log` prints its line.

    Args:
        quiet: show nothing at all, as with --json.
        line_every_s: seconds between the lines of `report`; None: no lines.
    """

    def __init__(self, *, quiet: bool = False, line_every_s: float | None = None) -> None:
        console = Console(stderr=True, highlight=False)
        self._quiet, self._shown = quiet, console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console, transient=True, disable=not self._shown, speed_estimate_period=_SPEED_OVER_S,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._label = ""
        self._line_every_s, self._last_line = line_every_s, -math.inf

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def report(self, label: str, done: float, of: float | None, note: str = "") -> None:
        """Show how far the work has come.

        Args:
            label: names the work; another label than before begins the bar anew.
            done: units done. What is done at a label's first report does not count for the time left.
            of: all units; None: not known yet.
            note: shown behind the bar.
        """
        if self._task is None or label != self._label:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(escape(label), completed=int(done), total=of, note=escape(note))
            self._label, self._last_line = label, -math.inf
        self._progress.update(self._task, completed=done, total=of, note=escape(note))
        now = time.monotonic()
        if self._line_every_s is not None and now - self._last_line >= self._line_every_s:
            self._last_line = now
            self.log(f"{label} {done:,.0f}/{of or 0:,.0f}  {note}".rstrip())

    def log(self, line: str) -> None:
        """Print a line on standard error where the bar cannot be shown."""
        if not self._quiet and not self._shown:
            print_error(line)

    def warn(self, line: str) -> None:
        """Print a line on standard error, above the bar where there is one."""
        if self._shown:
            self._progress.console.print(escape(line), soft_wrap=True)
        elif not self._quiet:
            print_error(line)


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A `ProgressBar` for one piece of work; yields report(done, of)."""
    with ProgressBar(quiet=quiet) as bar:
        bar.report(label, 0, None)
        yield lambda done, of: bar.report(label, done, of)


@contextmanager
def slices_bar(label: str, count: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar for slices, from eleven on: fewer are done before it could be read; yields advance(slices)."""
    done = 0
    with progress_bar(label, quiet=quiet or count < _BAR_FROM) as report:

        def advance(slices: int) -> None:
            nonlocal done
            done += slices
            report(done, count)

        yield advance


@contextmanager
def explain_interrupt(how_to_resume: str = "give the same command again to continue") -> Iterator[None]:
    """After Ctrl-C or a signal like it, print how to resume and end with exit code 130, or the signal's."""
    try:
        yield
    except KeyboardInterrupt as stop:
        print_error(f"stopped; {how_to_resume}")
        sys.exit(exit_code_of(stop))
