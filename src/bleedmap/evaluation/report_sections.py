"""The report's tables: headline, by fold, published figures, differences, all measures, abstaining, choices."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bleedmap.evaluation.measure_table import HEADLINE, Measure, measures
from bleedmap.evaluation.protocol import TARGETS, Peer
from bleedmap.evaluation.records import OutOfFold
from bleedmap.evaluation.scores import NO_DIFFERENCE, Comparison, CrossValidation, Difference, Score
from bleedmap.evaluation.tables import Tables
from bleedmap.page.section import DOES_NOT_APPLY, Estimate, Row, Section, Table, estimate_or_dash, or_dash, tabulate

_INTERVALS = (
    "In brackets 95 % intervals: percentile bootstrap over patients, {resamples:,} draws; a share of 0 or 1 has "
    "Wilson's interval over patients. They hold the trained networks fixed, and over few patients they are too narrow. "
    "Many measures are compared, so do not rely on any single difference."
)
_MET = {True: "met", False: "missed", None: DOES_NOT_APPLY}


@dataclass(frozen=True, eq=False)
class Method:
    """One method: its records and what they score."""

    records: OutOfFold
    scores: CrossValidation

    @property
    def name(self) -> str:
        """As tables print it."""
        return self.records.method

    @cached_property
    def tables(self) -> Tables:
        """The records as columns."""
        return Tables.of(self.records)


def headline(methods: Sequence[Method]) -> Section:
    """The targets and the decisions; which targets the first method meets comes first."""
    rows = [
        {"measure": _label(score), "method": method.name, "value": _estimate(score),
         "target": score.target or DOES_NOT_APPLY, "met": _MET[score.met], "cases": score.cases,
         "patients": score.patients}
        for key in HEADLINE for method in methods for score in [method.scores.score(key)]
    ]  # fmt: skip
    note = (
        "Every study counts here, also without a verdict. A target is met or missed by the value; targets were set "
        "before training."
    )
    words = (_targets_met(methods[0]), _INTERVALS.format(resamples=methods[0].scores.resamples))
    table = _by_method("headline", "Headline measures", note, rows, methods)
    return Section("headline", "What was reached", words, (table,))


def _targets_met(method: Method) -> str:
    scores = [method.scores.score(key) for key in TARGETS]
    words = [f"{method.name} meets {sum(one.met is True for one in scores)} of {len(scores)} targets."]
    for heading, met in (("Met", True), ("Missed", False)):
        found = [f"{_label(one)}: {one.value:.3f} (target {one.target})" for one in scores if one.met is met]
        words += [f"{heading}: {'; '.join(found)}."] if found else []
    return " ".join(words)


def by_fold(methods: Sequence[Method]) -> Section:
    """The headline measures in each fold alone."""
    folds = sorted({one.fold for method in methods for one in method.records.studies})
    every = {one.key: one for one in measures()}
    tables = [method.tables for method in methods]
    parts = [[one.drawn(np.flatnonzero(one.studies.fold == fold)) for fold in folds] for one in tables]
    rows = [
        {"measure": _label(every[key]), "method": method.name,
         **{f"fold {fold}": or_dash(every[key].compute(part).value) for fold, part in zip(folds, own, strict=True)}}
        for key in HEADLINE for method, own in zip(methods, parts, strict=True)
    ]  # fmt: skip
    sizes = "; ".join(
        f"fold {fold}: {len(part.studies.bleeds)} patients, {int(part.studies.bleeds.sum())} bleed"
        for fold, part in zip(folds, parts[0], strict=True)
    )
    note = f"Values without intervals: a fold has too few patients for one. {sizes}."
    table = _by_method("by-fold", "The same, fold by fold", note, rows, methods)
    return Section("by-fold", "Fold by fold", ("The table shows how far the folds lie apart.",), (table,))


def published(methods: Sequence[Method], peers: Sequence[Peer], caution: str) -> Section | None:
    """Published figures beside the measure that each is nearest to; None without any."""
    if not peers:
        return None
    rows = [
        [("published by", peer.who),
         ("figure", f"{peer.low:g}" if peer.low == peer.high else f"{peer.low:g} to {peer.high:g}"),
         ("nearest measure here", _label(ours[0])), *_side_by_side(methods, ours), ("caution", peer.caution)]
        for peer in peers for ours in [[method.scores.score(peer.measure) for method in methods]]
    ]  # fmt: skip
    table = tabulate("published", "Published figures", "", rows)
    return Section("published", "Published figures on this data set", (caution,), (table,))


def differences(comparisons: Sequence[Comparison]) -> Section | None:
    """The first method against each other one; None with one method alone."""
    if not comparisons:
        return None
    tables, words = [], []
    for number, one in enumerate(comparisons, 1):
        rows = [
            [("measure", _label(each)), (one.first, or_dash(each.first)), (one.second, or_dash(each.second)),
             ("difference", estimate_or_dash(each.difference, each.low, each.high)),
             ("better", each.better or DOES_NOT_APPLY)]
            for each in one.differences
        ]  # fmt: skip
        title, better = f"{one.first} against {one.second}", Counter(each.better for each in one.differences)
        tables.append(tabulate(f"difference-{number}", title, "", rows))
        words.append(
            f"{title}: {better[one.first]} of {len(one.differences)} headline measures better, {better[one.second]} "
            "worse, for the others no difference was shown."
        )
    rule = (
        "Both methods are measured on the same draws of patients. A difference whose interval holds 0 is called "
        f"“{NO_DIFFERENCE}”."
    )
    return Section("differences", "Methods compared", (*words, rule), tuple(tables))


def every_measure(methods: Sequence[Method]) -> Section:
    """All measures by group, methods side by side, each with how it counts."""
    tables = []
    for group in dict.fromkeys(one.group for one in methods[0].scores.scores):
        rows = []
        for score in [one for one in methods[0].scores.scores if one.group == group]:
            own = [method.scores.score(score.key) for method in methods]
            most = max(own, key=lambda one: one.cases)  # a method without types has no cases of them
            rows.append([
                ("measure", score.title), ("of", score.over), *_side_by_side(methods, own), ("cases", most.cases),
                ("patients", most.patients), ("how it counts", score.convention),
            ])  # fmt: skip
        tables.append(tabulate(group.replace(" ", "-"), group[0].upper() + group[1:], "", rows))
    words = "These are all measures of the protocol. A number that cannot be had is a dash, not 0."
    return Section("measures", "All measures", (words,), tuple(tables))


def abstentions(methods: Sequence[Method]) -> Section:
    """Share abstained on; where it is not 0, the reasons and the headline measures without these studies."""
    rows = [
        {"studies": score.title, "method": method.name, "share": _estimate(score), "of": score.cases}
        for method in methods for score in method.scores.abstained
    ]  # fmt: skip
    tables = [_by_method("abstained", "Share abstained on", "", rows, methods)]
    words = []
    for number, method in enumerate(methods, 1):
        verdicts = [study.verdict for study in method.records.studies]
        reasons = Counter(  # each with its own figures: told apart by their words
            re.sub(r"\d[\d.]*%?", "…", reason).rstrip(".") for verdict in verdicts for reason in verdict.abstained
        )
        count = sum(bool(verdict.abstained) for verdict in verdicts)
        listed = "; ".join(f"{reason} ({times})" for reason, times in reasons.most_common())
        words.append(f"{method.name}: {f'{count} studies were given no verdict. {listed}' if count else 'none'}.")
        if method.scores.answered is not None:
            pairs = zip(map(method.scores.score, HEADLINE), method.scores.answered, strict=True)
            tables.append(tabulate(f"answered-{number}", f"{method.name}: without these studies", "", [
                {"measure": _label(one), "all studies": _estimate(one), "with a verdict": _estimate(without),
                 "cases": without.cases}
                for one, without in pairs
            ]))  # fmt: skip
    return Section("abstained", "Studies without a verdict", tuple(words), tuple(tables))


def choices(methods: Sequence[Method]) -> Section:
    """What each fold chose before its test side was looked at."""
    rows = [
        {"method": method.name} | {name.replace("_", " "): value for name, value in asdict(one).items()}
        for method in methods for one in method.records.choices
    ]  # fmt: skip
    note = "Marked, or called bleeding, from the threshold on."
    table = _by_method("choices", "Choices of the folds", note, rows, methods)
    words = "Chosen on each fold's validation patients, written down before its test patients were predicted."
    return Section("choices", "What each fold chose", (words,), (table,))


def _by_method(key: str, title: str, note: str, rows: Sequence[Row], methods: Sequence[Method]) -> Table:
    """A table with a column of methods, which is left out where it would repeat one name."""
    kept = [{name: value for name, value in row.items() if name != "method" or len(methods) > 1} for row in rows]
    return tabulate(key, title, note, kept)


def _side_by_side(methods: Sequence[Method], scores: Sequence[Score]) -> list[tuple[str, Any]]:
    names = ["value"] if len(methods) == 1 else [method.name for method in methods]
    return [(name, _estimate(score)) for name, score in zip(names, scores, strict=True)]


def _estimate(score: Score) -> Estimate:
    return estimate_or_dash(score.value, score.low, score.high)


def _label(of: Score | Measure | Difference) -> str:
    """Title and cases: a title alone does not tell slices from studies."""
    return f"{of.title}, {of.over}"
