"""One bar, one kind of table, one way to stop: what every verb shows in a terminal, a log and a pipe."""

import os
import pty
import sys
import threading

import pytest

from bleedmap.cli.console import ProgressBar, explain_interrupt, make_table, print_line, print_table, progress_bar


def in_a_terminal(show) -> str:
    """What a function writes to standard error where that is a terminal."""
    main, terminal = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        while True:
            try:
                written.append(os.read(main, 65536))
            except OSError:  # its other end was closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    before, sys.stderr = sys.stderr, os.fdopen(terminal, "w")
    try:
        show()
    finally:
        sys.stderr.close()
        sys.stderr = before
        reader.join(10)
        os.close(main)
    return b"".join(written).decode()


def two_pieces_of_work(**settings: object) -> None:
    with ProgressBar(**settings) as bar:
        bar.report("Reading [folder]", 3, 10, "head.nii")
        bar.warn("one file [b] is damaged")
        bar.log("only without a terminal")
        bar.report("Segmenting", 1, 2)


def test_a_terminal_shows_the_bar_and_warnings_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    shown = in_a_terminal(two_pieces_of_work)
    assert "one file [b] is damaged" in shown
    assert "Segmenting" in shown
    assert "1/2" in shown
    assert "only without" not in shown
    assert not in_a_terminal(lambda: two_pieces_of_work(quiet=True))


def test_without_a_terminal_there_are_lines_only_where_asked_for(capsys):
    two_pieces_of_work()
    assert capsys.readouterr().err == "one file [b] is damaged\nonly without a terminal\n"
    two_pieces_of_work(line_every_s=3600)
    assert capsys.readouterr().err == (
        "Reading [folder] 3/10  head.nii\none file [b] is damaged\nonly without a terminal\nSegmenting 1/2\n"
    )
    two_pieces_of_work(quiet=True, line_every_s=0)
    with progress_bar("Reading") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


def test_tables_align_numbers_to_the_right_and_lines_are_never_folded(capsys):
    table = make_table("Name", ">mL", title="Lesions")
    table.add_row("a", "1.25")
    table.add_row("bcd", "100.00")
    print_table(table)
    print_line("x" * 200)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Lesions", "Name      mL", "a       1.25", "bcd   100.00", "x" * 200]


def test_ctrl_c_says_how_to_resume(capsys):
    with pytest.raises(SystemExit) as left, explain_interrupt("give the same command again to continue"):
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err == "stopped; give the same command again to continue\n"
