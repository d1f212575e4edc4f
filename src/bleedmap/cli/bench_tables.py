"""What `bleedmap bench` prints: a table a part."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from bleedmap.cli.console import make_table, print_line, print_table


def print_tables(record: dict[str, Any]) -> None:
    """The machine, the parts that were measured, and what was left out, on standard output."""
    print_line(escape(machine_line(record)))
    for part, table in (("network", _network), ("study", _study), ("growth", _growth), ("training", _training)):
        if part in record:
            print_line()
            print_table(table(record[part]))
    for name, why in record["left_out"].items():
        print_line(f"[dim]left out: {escape(name)}: {escape(why)}[/]")


def machine_line(record: dict[str, Any]) -> str:
    """What was measured on, in a line."""
    machine = record["machine"]
    threads = f"{record['threads'] or 'own choice'} of {machine['threads']}"
    load = "" if machine["load"] is None else f"; load at the start {machine['load']:.1f}"
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    return (
        f"{machine['processor']}, threads: {threads}, {machine['memory_gib'] or '?'} GiB{load}; {versions}; "
        f"weights {record['weights']['name']}; medians of {record['repeats']}"
    )


def _table(title: str, *columns: str) -> Table:
    return make_table(*(f">{name}" if number else name for number, name in enumerate(columns)), title=title)


def _network(found: dict[str, Any]) -> Table:
    at_a_time = "a slice" if found["batch"] == 1 else f"{found['batch']} slices"
    title = f"The network alone, {at_a_time} at a time: {_times(found['input'])}, {found['gflop_per_slice']:.2f} GFLOP"
    table = _table(title, "", "Slices/s", "ms", "TFLOP/s", "Share", "Ratio", "Difference")
    for one in found["backends"]:
        table.add_row(
            f"{one['name']} {one['precision']}", f"{one['slices_per_s']:,.1f}", f"{one['ms_per_slice']:,.1f}",
            f"{one['tflops']:.3f}", f"{one['share']:.0%}", f"{one['ratio']:.2f}", f"{one['largest_difference']:.1e}",
        )  # fmt: skip
    rates = "; ".join(
        f"{rate:.3f} TFLOP/s in {form}, {found['matrix_product_ratios'][form]:.1f} × {found['reference']}"
        for form, rate in found["matrix_product_tflops"].items()
    )
    table.caption = (
        f"Share: of this machine's own matrix product: {rates}. Ratio and largest difference of a probability: against "
        f"{found['reference']}."
    )
    if found["batch"] == 1:
        table.caption += " OpenVINO has as many slices under way as in `segment`, the others one."
    return table


def _study(found: dict[str, Any]) -> Table:
    cold, warm = found["cold"], found["warm"]
    table = _table(f"A whole study: {_times(found['shape'])}", "", "Seconds", "Share", "MiB")
    table.add_row("a fresh process", f"{cold['seconds']:.2f}", "", _mib(cold["peak_mib"]))
    table.add_row("warm", f"{warm['seconds']:.2f}", "", _mib(warm["peak_mib"]))
    for name in warm["parts_s"]:
        table.add_row(f"  {name.replace('_', ' ')}", f"{warm['parts_s'][name]:.2f}", f"{warm['shares'][name]:.0%}", "")
    return table


def _growth(found: dict[str, Any]) -> Table:
    table = _table("Growing work", "", "Seconds", "Each", "MiB")
    for key, number in (("slices", 0), ("pixels", 1)):
        for one in found[key]:
            each = f"{1e3 * one['seconds'] / one['shape'][0]:,.0f} ms a slice"
            name = f"{one['shape'][number]} {key}: {_times(one['shape'])}, warm"
            table.add_row(name, f"{one['seconds']:.2f}", each, _mib(one["peak_mib"]))
    for one in found["studies"]:
        several = f"{one['processes']} fresh processes, MiB of the first"
        name = f"batch of {one['studies']}, {several if one['processes'] > 1 else 'a fresh process'}"
        each = f"{one['seconds_per_study']:.2f} s a study"
        table.add_row(name, f"{one['seconds']:.2f}", each, _mib(one["peak_mib"]))
    return table


def _training(found: dict[str, Any]) -> Table:
    table = _table(f"Training, {found['size']}×{found['size']}, batch {found['batch']}", "", "Slices/s", "Ratio")
    table.add_row("a plain loop, fp32, depthwise filters learn", f"{found['plain_slices_per_s']:.1f}", "1.00")
    table.add_row(f"the recipe, {found['machine']}", f"{found['ours_slices_per_s']:.1f}", f"{found['ratio']:.2f}")
    return table


def _times(shape: list[int]) -> str:
    return " × ".join(map(str, shape))


def _mib(peak: float | None) -> str:
    return "–" if peak is None else f"{peak:,.0f}"
