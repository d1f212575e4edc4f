"""`bleedmap reproduce`."""

import click

from bleedmap.cli import options
from bleedmap.cli.console import make_table, print_json, print_line, print_table
from bleedmap.cli.reproduce.folds import ablations, strangers
from bleedmap.cli.reproduce.folds import command as folds
from bleedmap.cli.reproduce.precisions import command as precisions
from bleedmap.cli.reproduce.speed import command as speed
from bleedmap.cli.reproduce.thesis import command as thesis
from bleedmap.cli.reproduce.thesis import load_thesis


@click.group()
def command() -> None:
    """Repeat experiments: those of the 2021 thesis that this project grew from (Erazo, USFQ), and those of our network.

    \b
    bleedmap reproduce thesis -o thesis --data ct-ich             the thesis' experiment and its report
    bleedmap reproduce conventions                                what the numbers of its Table 1 can mean
    bleedmap reproduce speed                                      training speed compared with a plain loop
    bleedmap reproduce folds -o folds --data ct-ich               our network, tested on patients it has not seen
    bleedmap reproduce ablations -o folds --data ct-ich           what each part of its recipe is worth
    bleedmap reproduce strangers -o folds/mixed --data ct-ich     does it notice images unlike its training data?
    bleedmap reproduce precisions -o folds/mixed --data ct-ich    what bf16 costs against fp32
    """


command.add_command(thesis, "thesis")
command.add_command(speed, "speed")
command.add_command(folds, "folds")
command.add_command(ablations, "ablations")
command.add_command(strangers, "strangers")
command.add_command(precisions, "precisions")


@command.command()
@options.json_option
def conventions(as_json: bool) -> None:
    """Find which ways of scoring can produce the pairs of Dice and IoU in the thesis' Table 1.

    In: nothing; the 20 cells of the table come with the program. Out: for each convention, how many cells it allows. If
    a convention forbids a pair even with rounding, that pair was not scored in this way.

    \b
    bleedmap reproduce conventions
    bleedmap reproduce conventions --json
    """
    thesis = load_thesis("analyses.conventions")
    found = thesis.judge_conventions()
    if as_json:
        print_json(found)
        return
    rows = (
        (one["convention"], f"{one['allows']} of {one['cells']}", thesis.give_example(one))
        for one in sorted(found, key=lambda one: -one["allows"])
    )
    table = make_table("Scored by", ">Allows", "A cell that it forbids (Dice, IoU)", rows=rows)
    table.padding = (0, 2, 1, 0)
    table.columns[0].ratio, table.columns[1].no_wrap, table.columns[2].no_wrap = 1, True, True
    print_table(table)
    print_line("By slice: the thesis' test slices are of patients that were trained on. Rounding is granted.")
