"""`bleedmap batch`."""

import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bleedmap.cli import options
from bleedmap.cli.console import (
    ProgressBar,
    explain_interrupt,
    make_table,
    or_dash,
    print_json,
    print_line,
    print_table,
    progress_bar,
)
from bleedmap.cli.edge import print_error
from bleedmap.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bleedmap.archive.cluster import Cluster
    from bleedmap.archive.find import Archive, Found
    from bleedmap.archive.remote.send import Sending
    from bleedmap.archive.run import Step
    from bleedmap.archive.shards import Shard
    from bleedmap.inference.backends import Precision

_TABLE_ROWS, _REASONS, _NAME_WIDTH = 50, 10, 40
_WIDE = 120  # columns of a terminal that takes the whole table
_RARE = ("no verdict", "waiting")  # not counted where there are none
_WORDS = ("Study", "Status", "Warnings")
_STYLES = {
    "found": "bold red",
    "not found": "green",
    "no verdict": "bold yellow",
    "refused": "yellow",
    "failed": "bold magenta",
    "waiting": "bold yellow",
}


@click.command()
@click.argument("source", metavar="SOURCE")
@options.out_option("A new or empty folder for the results, or the folder of an earlier run, to resume it.")
@options.weights_option
@options.inference_precision_option
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N",
    help="Number of processor threads for the network in each process. Not given: all of them, divided evenly; with "
    "--ray: 1.",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(1, 64), metavar="N",
    help="Number of studies to segment at the same time, each in a process of about 0.5 GB; fewer are started for few "
    "studies. Not given: one for each thread of the processor, at most 4; with --ray: as the nodes have room.",
)  # fmt: skip
@options.threshold_option
@options.accept_option
@options.no_dicom_option
@options.fractional_option
@click.option(
    "--identify",
    is_flag=True,
    help="Write Patient ID, Study Date and Accession Number of DICOM studies into the tables. Keep these files safe.",
)
@click.option("--retry", is_flag=True, help="Try again those studies that were refused or failed.")
@click.option("--overwrite", is_flag=True, help="Replace results that were made with other settings.")
@click.option(
    "--shard", metavar="I/N", help="Do only part I of N of the studies, as one job of N on a cluster; from 1 to N."
)
@click.option("--merge", is_flag=True, help="Write the tables of all shards, and name those with studies still to do.")
@click.option("--search", is_flag=True, help="With --shard or --merge: look for studies again, for new ones.")
@click.option(
    "--ray", metavar="ADDRESS",
    help="Have a Ray cluster do the studies: HOST:PORT of its head, auto for the one that this machine belongs to, or "
    "local to start one on this machine. Needs the extra ray.",
)  # fmt: skip
@options.remote_options
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="DICOMweb: only studies of this day or later.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="DICOMweb: only studies of this day or earlier.")
@click.option(
    "--uids", type=click.Path(path_type=Path), metavar="FILE",
    help="DICOMweb: only studies with these Study Instance UIDs, one on each line of the file.",
)  # fmt: skip
@click.option(
    "--scratch", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the copy of a remote study while it is segmented. Not given: inside the folder of results.",
)  # fmt: skip
@click.option(
    "--send", metavar="URL",
    help="Send the results of each study to a DICOMweb service (segmentation, report, pictures) or, all files, to "
    "s3://BUCKET/PREFIX.",
)  # fmt: skip
@click.option(
    "--send-token-file", type=click.Path(), default="", metavar="FILE",
    help="File of the bearer token for --send. Not given: --token-file, where both are on one server.",
)  # fmt: skip
@options.json_option
def command(
    source: str, out: Path, weights: str | None, precision: "Precision", threads: int | None, processes: int | None,
    threshold: float | None, accept: tuple[str, ...], no_dicom: bool, fractional: bool, identify: bool, retry: bool,
    overwrite: bool, shard: str | None, merge: bool, search: bool, ray: str | None, token_file: str, ca_file: str,
    since: datetime | None, until: datetime | None, uids: Path | None, scratch: Path | None, send: str | None,
    send_token_file: str, as_json: bool,
) -> None:  # fmt: skip
    """Outline hemorrhage on all head CTs in a folder, on a DICOMweb server or in a bucket.

    Research software, not a medical device: do not use its results to diagnose or treat a patient.

    In: a folder, searched with all its subfolders. A study is a NIfTI file in HU, a .zip of DICOM, or DICOM files with
    one Study Instance UID, wherever they lie. Other files are counted at the end.

    Or the URL of a DICOMweb service, as https://pacs/dicom-web, whose studies with CT are taken, all or those of
    --since, --until and --uids; what follows '?' in the URL narrows the search too. Or s3://BUCKET/PREFIX, searched as
    a folder is. A study is fetched, segmented, and its copy removed. A server that is away is asked again for a minute;
    then the study waits, and the same command tries again. Passwords come from ~/.netrc or --token-file, for buckets
    from the settings of AWS; never from the URL. These need the extras 'dicomweb' and 's3'.

    --send brings the results of each study to a server or bucket, which is asked first what it holds and confirms at
    last: stop at any moment, nothing is sent twice.

    \b
    Out:
      index.html           the table to look at, with a picture of each study: sort by a column, filter by status
      summary.csv          one row for each study: found, not found, no verdict, refused or failed, and why;
                           probabilities, volume in mL with its interval, lesions, slices, warnings, seconds
      lesions.csv          one row for each lesion of all studies
      data-dictionary.csv  what the columns of both mean, with units
      summary.json         the same for programs, with the settings and the files that are no study
      NAME/                what `bleedmap segment` writes for a study; NAME comes from its path

    The tables are complete when the batch ends or is interrupted; before that they are at most one minute and one
    study behind. Without --identify they hold no patient's name, number or date.

    A study that cannot be read or fails an input check is refused, with the reason in its row; the others continue.
    "No verdict" means that the program cannot judge a study, and the row says why: do not rely on what is outlined.

    You can stop at any moment and give the same command again: finished studies are not repeated, unless their files
    have changed. Several commands may share one folder of results, also from several machines. Then give all of them
    --precision fp32 from the start: auto depends on the processor, and results of two kinds do not mix.

    On a cluster, --shard I/N does part I of N, chosen by a hash of each study's place. The first shard looks for
    studies, the others read its list. A shard writes no tables: give --merge when all have ended, which names those
    with studies still to do. Any shard may be stopped, repeated, or started twice; N may change.

    With --ray ADDRESS the nodes of a Ray cluster do the studies, in one process for each CPU, or for --threads CPUs.
    All nodes must see FOLDER and OUT under the same paths, and have the same bleedmap. Nodes may come and go. The
    tables are written when the batch ends; --merge writes them at any time.

    Exit code 0: no study failed. 1: at least one failed, by a fault of the program or because its folder holds foreign
    files, or waits for a server. 2: the batch could not continue. 130: stopped by Ctrl-C.

    The network is compiled for this machine once and kept for the next start, in your cache folder or in the folder
    that the variable BLEEDMAP_CACHE names. BLEEDMAP_CACHE=off keeps nothing.

    \b
    bleedmap batch studies/ -o results/
    bleedmap batch studies/ -o results/ --retry --accept slice-count
    bleedmap batch studies/ -o results/ --precision fp32 --shard 3/16
    bleedmap batch studies/ -o results/ --merge
    bleedmap batch studies/ -o results/ --precision fp32 --ray auto
    bleedmap batch https://pacs/dicom-web -o results/ --since 2024-01-01 --send https://pacs/dicom-web
    bleedmap batch s3://archive/2019 -o results/ --send s3://archive/results-2019
    """
    from bleedmap.archive.memory import collect_seldom

    collect_seldom()
    from bleedmap.archive.run import BatchOptions, Workers, count_open, run_batch
    from bleedmap.archive.shards import Shard, batch_ledger, find_in
    from bleedmap.archive.workers import count_processes, guard_local_cluster
    from bleedmap.inference.backends import available_threads, check_threads
    from bleedmap.inference.weights import locate

    folder = _open(source, since, until, uids, token_file, ca_file)
    sending = _open_target(out, send, source, send_token_file, token_file, ca_file, dicom=not no_dicom)
    if isinstance(folder, Path):
        options.refuse_inside(out, folder)
    of_segmenting = (weights, threshold, processes, threads, ray, accept or None) != (None,) * 6
    others = of_segmenting or no_dicom or fractional or retry or overwrite or sending is not None
    _refuse_flags(merge=merge, shard=shard is not None, search=search, identify=identify, others=others)
    part = None if shard is None else Shard.parse(shard)
    batch_ledger(out).refuse_foreign_files()
    check_threads(None if ray else threads)
    locate(weights)  # what is wrong with it is said before the search
    if merge:
        _merge(folder, out, search=search, identify=identify, as_json=as_json)
        return
    if ray is not None:
        guard_local_cluster(ray)
        from bleedmap.archive.cluster import connect

        click.get_current_context().with_resource(connect(ray))
    with progress_bar("Looking for studies", quiet=as_json) as seen:
        if part is None:
            found, names = find_in(folder, out, lambda files: seen(files, files)), None
        else:
            found, names = _list_shard(folder, out, part, seen, again=search)
    if not found.sources:
        return
    if ray is None:
        processes = count_processes(count_open(found, out, retry=retry, overwrite=overwrite), processes) - 1
        threads = threads or max(1, available_threads() // (processes + 1))
    workers = Workers(processes or 0, weights, threshold, precision, threads or 1)
    segmenter = replace(workers, threads=None if ray else threads).load()
    asked = BatchOptions(accept, not no_dicom, fractional, retry, overwrite, identify, scratch, sending)
    with explain_interrupt(), ProgressBar(quiet=as_json) as bar:
        cluster = None if ray is None else _cluster(out, found, weights, bar)
        summary = run_batch(found, out, segmenter, asked, _Report(bar), workers, names, cluster)
    if as_json:
        print_json(summary | {"out": str(out)})
    else:
        _print(summary, out, whole=part is None)
    if summary["counts"]["failed"] or summary["counts"]["waiting"] or summary.get("sending", {}).get("waiting"):
        sys.exit(1)


def _refuse_flags(*, merge: bool, shard: bool, search: bool, identify: bool, others: bool) -> None:
    """Refuse flags that could do nothing."""
    if merge and (shard or others):
        raise click.UsageError("--merge writes tables alone: of other flags it takes --identify, --search and --json.")
    if search and not (merge or shard):
        raise click.UsageError("without --shard or --merge each run looks for studies: leave --search out.")
    if shard and identify:
        raise click.UsageError("a shard writes no tables: give --identify with --merge.")


def _list_shard(
    folder: "Path | Archive", out: Path, part: "Shard", seen: "Callable[[int, int], None]", *, again: bool
) -> "tuple[Found, dict[str, str]]":
    """A shard's studies, and the names of their folders of results; none where others have them all."""
    from bleedmap.archive.shards import batch_ledger, list_studies, note_shards

    listed = list_studies(folder, out, part, lambda files: seen(files, files), again=again)
    if (before := note_shards(batch_ledger(out), part)) is not None:
        print_error(f"split into {part.of} shards, {before} before: what is done stays done")
    count, made_at = len(listed.found.sources), listed.made_at
    print_error(
        f"shard {part.number} of {part.of}: {count:,} studies, by the search of {made_at}; --search looks again"
    )
    return listed.found, listed.names


def _cluster(out: Path, found: "Found", weights: str | None, bar: ProgressBar) -> "Cluster":
    from bleedmap.archive.cluster import Cluster
    from bleedmap.archive.shards import batch_ledger

    needs = [found.folder, Path(found.sources[0].files[0])] if isinstance(found.folder, Path) else []
    if weights and Path(weights).exists():
        needs.append(Path(weights))
    return Cluster(batch_ledger(out).state, needs, bar.warn)


def _open(
    source: str, since: datetime | None, until: datetime | None, uids: Path | None, token_file: str, ca_file: str
) -> "Path | Archive":
    """The folder or archive that the user named."""
    from bleedmap.archive.remote.places import is_url, open_archive, read_uids

    if not is_url(source):
        if since or until or uids or token_file or ca_file:
            raise click.UsageError(
                "--since, --until, --uids, --token-file and --ca-file are for URLs, not for folders."
            )
        return Path(source)
    if since and until and since > until:
        raise click.UsageError("--since is after --until.")
    return open_archive(
        source, token_file=token_file, ca_file=ca_file, since=since, until=until, uids=read_uids(uids) if uids else ()
    )


def _open_target(
    out: Path, send: str | None, source: str, send_token_file: str, token_file: str, ca_file: str, *, dicom: bool
) -> "Sending | None":
    """To whom results are sent; the token of the source is for its own server alone."""
    from bleedmap.archive.remote.places import has_same_address, is_url, open_target
    from bleedmap.archive.remote.send import DicomwebTarget, Sending

    if send is None:
        if send_token_file:
            raise click.UsageError("--send-token-file is for --send.")
        return None
    if not is_url(send):
        raise click.UsageError("--send takes a URL: https://… of a DICOMweb service, or s3://BUCKET/PREFIX.")
    token = send_token_file or (token_file if has_same_address(send, source) else "")
    target = open_target(send, token_file=token, ca_file=ca_file)
    if isinstance(target, DicomwebTarget) and not dicom:
        raise click.UsageError("--no-dicom leaves nothing that a DICOMweb service takes: leave it or --send out.")
    return Sending(target, out)


def _merge(folder: "Path | Archive", out: Path, *, search: bool, identify: bool, as_json: bool) -> None:
    """Write the tables of all shards; exit code 1 where studies are still to be done, or have failed."""
    from bleedmap.archive.shards import batch_ledger, list_studies, read_count, shard_of
    from bleedmap.archive.summary import merge_batch

    ledger = batch_ledger(out)
    if ledger.settings() is None:
        raise OutputError(
            out, found="no results of a batch", needed="a folder in which shards have worked",
            remedy="run them first: bleedmap batch FOLDER -o OUT --shard 1/N",
        )  # fmt: skip
    with progress_bar("Looking for studies", quiet=as_json) as seen:
        listed = list_studies(folder, out, None, lambda files: seen(files, files), again=search)
    summary = merge_batch(ledger, listed.found, identify)
    done = {row["name"] for row in summary["studies"]}
    left = [one.key for one in listed.found.sources if listed.names[one.key] not in done]
    count = read_count(ledger) or 1
    missing = dict(sorted(Counter(shard_of(key, count) for key in left).items()))
    if as_json:
        print_json(summary | {"out": str(out), "open_shards": [f"{number}/{count}" for number in missing]})
    else:
        _print(summary, out, whole=True)
        for number, studies in missing.items():
            print_line(f"[yellow]shard {number}/{count}: {studies:,} studies to do; give its command again[/]")
    if summary["counts"]["failed"] or summary["counts"]["waiting"] or missing:
        sys.exit(1)


class _Report:
    """Shows each step of a batch: on the bar, or as a line for each study where there is no terminal."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar, self._begun, self._done_before = bar, time.monotonic(), -1.0

    def __call__(self, step: "Step") -> None:
        if self._done_before < 0:  # what earlier runs did says nothing of the speed
            self._done_before = step.done
        if step.exit_code:
            self._bar.warn(f"one of the processes ended early, exit code {step.exit_code}; the others take its studies")
        name = step.name if len(step.name) <= _NAME_WIDTH else f"{step.name[: _NAME_WIDTH - 1]}…"
        self._bar.report("Studies", step.done, step.of, name)
        if step.row is None:
            return
        done = max(1.0, step.done - self._done_before)
        left_s = (time.monotonic() - self._begun) / done * (step.of - step.done)
        from bleedmap.study.words import millilitres

        volume = "" if step.row.volume_ml is None else f", {millilitres(step.row.volume_ml)} mL"
        line = f"{step.done:,.0f}/{step.of:,} {step.name}: {step.row.status}{volume}, {step.row.seconds:,.1f} s"
        self._bar.log(f"{line}; {left_s / 60:,.1f} min left")


def _print(summary: dict[str, Any], out: Path, *, whole: bool) -> None:
    rows, counts = summary["studies"], summary["counts"]
    print_table(_table(rows))
    reasons = [(row, row["error"] or " ".join(row["abstained"])) for row in rows if row["error"] or row["abstained"]]
    for row, why in reasons[:_REASONS]:
        print_line(f"[yellow]{row['status']}[/] {escape(row['name'])}: {escape(why)}")
    if len(reasons) > _REASONS:
        print_line(f"and {len(reasons) - _REASONS:,} more, see summary.csv")
    for one in summary["passed_by"]:
        more = ", …" if one["count"] > len(one["examples"]) else ""
        sentence = f"not segmented, {one['reason']}: {one['count']:,} ({', '.join(one['examples'])}{more})"
        print_line(f"[dim]{escape(sentence)}[/]")
    total = f"{len(rows):,} {'study' if len(rows) == 1 else 'studies'}"
    counted = [f"{count:,} {status}" for status, count in counts.items() if count or status not in _RARE]
    print_line(f"[bold]{total}[/]: {', '.join(counted)}")
    if counts["waiting"]:
        print_line(f"[yellow]{counts['waiting']:,} could not be fetched: give the same command again[/]")
    if "sending" in summary:
        _print_sending(summary["sending"])
    if whole:
        print_line(f"Look at: {escape(str(out / 'index.html'))}")
        print_line(f"Summary: {escape(str(out / 'summary.csv'))}, lesions.csv, data-dictionary.csv")
    else:
        print_line("This shard alone. The tables of all: bleedmap batch FOLDER -o OUT --merge")
    print_line(summary["research_only"], style="yellow")


def _print_sending(sending: dict[str, Any]) -> None:
    done = f"results of {sending['sent']:,} sent ({sending['objects']:,} objects) to {sending['to']}"
    print_line(escape(done[0].upper() + done[1:]))
    waiting = list(sending["waiting"].items())
    for name, why in waiting[:_REASONS]:
        print_line(f"[yellow]not sent yet[/] {escape(name)}: {escape(why)}")
    if waiting:
        print_line(f"[yellow]{len(waiting):,} wait to be sent: give the same command again[/]")


def _table(rows: list[dict[str, Any]]) -> Table:
    """As many columns as the terminal is wide; name and status are never cut."""
    columns = _columns(rows, shutil.get_terminal_size().columns)
    cells = (
        [Text(form(row), _STYLES[row["status"]] if name == "Status" else "") for name, form in columns.items()]
        for row in rows[:_TABLE_ROWS]
    )
    table = make_table(*(f"{'' if name in _WORDS else '>'}{name}" for name in columns), rows=cells)
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", column.header not in _WORDS or column.header == "Status"
    if len(rows) > _TABLE_ROWS:
        table.caption = f"and {len(rows) - _TABLE_ROWS:,} more, see summary.csv"
    return table


def _columns(rows: list[dict[str, Any]], width: int) -> "dict[str, Callable[[dict[str, Any]], str]]":
    """Column -> what is shown of a row. Those of certainty only where a row has it: not all weights say how sure they
    are."""
    from bleedmap.study.words import chance, millilitres, percent, span_ml

    def show(key: str, form: "str | Callable[[Any], str]") -> "Callable[[dict[str, Any]], str]":
        return lambda row: or_dash(row[key], form)

    coverage = next((row["interval_coverage"] for row in rows if row["interval_coverage"] is not None), None)
    wide, columns = width >= _WIDE, {"Study": show("name", ""), "Status": show("status", "")}
    if any(row["study_probability"] is not None for row in rows):
        columns["Probability"] = show("study_probability", chance)
    columns["mL"] = show("volume_ml", millilitres)
    if coverage is not None and wide:
        columns[f"{percent(coverage)} interval"] = lambda row: or_dash(
            row["volume_low_ml"], lambda low_ml: span_ml((low_ml, row["volume_high_ml"]))
        )
    columns["Lesions"] = show("lesions", ",")
    if wide:
        columns |= {"Slices": show("slices", ","), "Highest pixel": show("highest_probability", ".2f")}
    columns["Seconds"] = show("seconds", ",.1f")
    if wide:
        columns["Warnings"] = show("warnings", ", ".join)
    return columns
