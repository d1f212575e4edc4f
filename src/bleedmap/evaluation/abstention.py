"""Studies on which the program gave no verdict: how many, and the headline measures without them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bleedmap.evaluation import measures as samples
from bleedmap.evaluation.measure_table import HEADLINE, Measure, measures
from bleedmap.evaluation.measures import Sample
from bleedmap.evaluation.tables import Tables

ANSWERED = "_answered"  # ends the keys of measures without the studies abstained on: the targets are not theirs
_WORDS = "the program said that it gives no verdict, and why"


def abstention_measures() -> tuple[Measure, ...]:
    """Share abstained: of all studies, of those that bleed, of those that do not."""
    return (
        Measure("abstained", "abstained", "studies abstained on", "all patients", _WORDS, _all),
        Measure("abstained_bleeding", "abstained", "of those that bleed", "patients with a lesion", _WORDS, _bleeding),
        Measure("abstained_bleed_free", "abstained", "of those that do not", "bleed-free patients", _WORDS, _free),
    )


def answered_measures() -> tuple[Measure, ...]:
    """The headline measures on the studies that were given a verdict; each draw of patients drops its own."""
    every = {one.key: one for one in measures()}
    return tuple(
        replace(every[key], key=key + ANSWERED, over=f"{every[key].over}, with a verdict", of=_on_answered(every[key]))
        for key in HEADLINE
    )


def _on_answered(measure: Measure) -> Callable[[Tables], Sample]:
    return lambda tables: measure.of(tables.answered)


def _all(tables: Tables) -> Sample:
    return samples.share(tables.studies, tables.studies.abstained, np.ones(len(tables.studies.study), np.bool_))


def _bleeding(tables: Tables) -> Sample:
    return samples.share(tables.studies, tables.studies.abstained, tables.studies.bleeds)


def _free(tables: Tables) -> Sample:
    return samples.share(tables.studies, tables.studies.abstained, ~tables.studies.bleeds)
