"""The report's tables: headline, by fold, published figures, differences, all measures, abstaining, choices."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bleedmap.evaluation.measure_table import HEADLINE, Measure, measures
from bleedmap.evaluation.protocol import TARGETS, Peer
from bleedmap.evaluation.records import OutOfFold
from bleedmap.evaluation.scores import NO_DIFFERENCE, Comparison, CrossValidation, Difference, Score
from bleedmap.evaluation.tables import Tables
from bleedmap.page.section import Section, Table, Value
from bleedmap.page.table import DOES_NOT_APPLY

INTERVALS = (
    "In brackets 95 % intervals: percentile bootstrap over patients, {resamples:,} draws; a share of 0 or 1 has "
    "Wilson's interval over patients."
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


def headline(methods: Sequence[Method]) -> Section:
    """The targets and the decisions; which targets the first method meets comes first."""
    rows = [
        (_label(score), method.name, *_ends(score), score.target or DOES_NOT_APPLY, _MET[score.met], score.cases,
         score.patients)
        for key in HEADLINE
        for method in methods
        for score in [method.scores.score(key)]
    ]  # fmt: skip
    columns = ("measure", "method", *_three("value"), "target", "met", "cases", "patients")
    note = (
        f"Every study counts here, abstained on or not. {_intervals(methods)} A target is met or missed by the value; "
        "targets were set before training."
    )
    table = _without_lone_method(Table("headline", "Headline measures", note, columns, tuple(rows)), methods)
    return Section("headline", "What was reached", _answer(methods[0]), (table,))


def _answer(method: Method) -> tuple[str, ...]:
    scores = [method.scores.score(key) for key in TARGETS]
    known = [one for one in scores if one.value is not None]
    met, missed = ([one for one in known if one.met is flag] for flag in (True, False))
    words = [f"{method.name} meets {len(met)} of {len(scores)} targets."]
    words += [f"Met: {_listed(met)}."] if met else []
    words += [f"Missed: {_listed(missed)}."] if missed else []
    return (" ".join(words),)


def _listed(scores: Sequence[Score]) -> str:
    return "; ".join(f"{_label(one)}: {one.value:.3f} (target {one.target})" for one in scores)


def _label(of: Score | Measure | Difference) -> str:
    """A title alone does not tell slices from studies."""
    return f"{of.title}, {of.over}"


def by_fold(methods: Sequence[Method]) -> Section:
    """The headline measures in each fold alone."""
    folds = sorted({one.fold for method in methods for one in method.records.studies})
    every = {one.key: one for one in measures()}
    tables = [Tables.of(method.records) for method in methods]
    by_fold = [[one.drawn(np.flatnonzero(one.studies.fold == fold)) for fold in folds] for one in tables]
    rows = [
        (_label(every[key]), method.name, *(_dash(every[key].compute(fold).value) for fold in own))
        for key in HEADLINE
        for method, own in zip(methods, by_fold, strict=True)
    ]
    counts = tables[0].studies
    sizes = "; ".join(
        f"fold {fold}: {int((counts.fold == fold).sum())} patients, "
        f"{int((counts.bleeds & (counts.fold == fold)).sum())} bleed"
        for fold in folds
    )
    note = f"Values without intervals: a fold has too few patients for one. {sizes}."
    columns = ("measure", "method", *(f"fold {fold}" for fold in folds))
    table = _without_lone_method(Table("by-fold", "The same, fold by fold", note, columns, tuple(rows)), methods)
    return Section("by-fold", "Fold by fold", ("How far the folds lie apart.",), (table,))


def published(methods: Sequence[Method], peers: Sequence[Peer], caution: str) -> Section | None:
    """Published figures beside the measure that each is nearest to; None without any."""
    if not peers:
        return None
    rows = []
    for peer in peers:
        theirs = f"{peer.low:g}" if peer.low == peer.high else f"{peer.low:g} to {peer.high:g}"
        ours = [method.scores.score(peer.measure) for method in methods]
        ends = [value for score in ours for value in _ends(score)]
        rows.append((peer.who, theirs, _label(ours[0]), *ends, peer.caution))
    columns = ("published by", "figure", "nearest measure here", *_columns(methods), "caution")
    table = Table("published", "Published figures", _intervals(methods), columns, tuple(rows))
    return Section("published", "Published figures on this data set", (caution,), (table,))


def differences(comparisons: Sequence[Comparison]) -> Section | None:
    """The first method against each other one; None with one method alone."""
    if not comparisons:
        return None
    tables = []
    for number, one in enumerate(comparisons, 1):
        rows = [
            (_label(each), _dash(each.first), _dash(each.second), _dash(each.difference), each.low, each.high,
             each.better or DOES_NOT_APPLY)
            for each in one.differences
        ]  # fmt: skip
        columns = ("measure", one.first, one.second, *_three("difference"), "better")
        title = f"{one.first} against {one.second}"
        note = (
            "Both methods on the same draws of patients. A difference whose interval holds 0 is called "
            f"“{NO_DIFFERENCE}”. Many measures are compared: no single difference should be leaned on."
        )
        tables.append(Table(f"difference-{number}", title, note, columns, tuple(rows)))
    found = [
        f"{one.first} against {one.second}: "
        f"{sum(each.better == one.first for each in one.differences)} of {len(one.differences)} headline measures "
        f"better, {sum(each.better == one.second for each in one.differences)} worse, for the others no difference "
        "was shown."
        for one in comparisons
    ]
    return Section("differences", "Methods compared", tuple(found), tuple(tables))


def every_measure(methods: Sequence[Method]) -> Section:
    """All measures by group, methods side by side, each with how it counts."""
    tables = []
    for group in dict.fromkeys(one.group for one in methods[0].scores.scores):
        rows = []
        for score in methods[0].scores.scores:
            if score.group != group:
                continue
            own = [method.scores.score(score.key) for method in methods]
            most = max(own, key=lambda one: one.cases)  # a method that tells no types has none
            ends = [value for one in own for value in _ends(one)]
            rows.append((score.title, score.over, *ends, most.cases, most.patients, score.convention))
        columns = ("measure", "of", *_columns(methods), "cases", "patients", "how it counts")
        key = group.replace(" ", "-")
        tables.append(Table(key, group[0].upper() + group[1:], _intervals(methods), columns, tuple(rows)))
    words = "Every measure of the protocol. Where a number cannot be had there is a dash, not 0."
    return Section("measures", "All measures", (words,), tuple(tables))


def abstentions(methods: Sequence[Method]) -> Section:
    """Share abstained on; where it is not 0, the reasons and the headline measures without these studies."""
    shares = [
        (score.title, method.name, *_ends(score), score.cases)
        for method in methods
        for score in method.scores.abstained
    ]
    columns = ("studies", "method", *_three("share"), "of")
    share = Table("abstained", "Share abstained on", _intervals(methods), columns, tuple(shares))
    words, tables = [], [_without_lone_method(share, methods)]
    for number, method in enumerate(methods, 1):
        reasons = Counter(  # each with its own figures: told apart by their words
            re.sub(r"\d[\d.]*%?", "…", reason).rstrip(".")
            for one in method.records.studies
            for reason in one.verdict.abstained
        )
        count = sum(bool(study.verdict.abstained) for study in method.records.studies)
        listed = "; ".join(f"{reason} ({times})" for reason, times in reasons.most_common())
        words.append(f"{method.name}: {f'{count} studies were given no verdict. {listed}' if count else 'none'}.")
        if method.scores.answered is not None:
            tables.append(_answered(method, number))
    return Section("abstained", "Studies without a verdict", tuple(words), tuple(tables))


def _answered(method: Method, number: int) -> Table:
    assert method.scores.answered is not None
    rows = [
        (_label(method.scores.score(key)), *_ends(method.scores.score(key)), *_ends(without), without.cases)
        for key, without in zip(HEADLINE, method.scores.answered, strict=True)
    ]
    columns = ("measure", *_three("all studies"), *_three("with a verdict"), "cases")
    note = f"The headline holds every study; this is what stands beside it. {_intervals([method])}"
    return Table(f"answered-{number}", f"{method.name}: without these studies", note, columns, tuple(rows))


def choices(methods: Sequence[Method]) -> Section:
    """What each fold chose before its test side was looked at."""
    rows = [
        (method.name, one.fold, one.epochs, one.pixel_threshold, one.slice_threshold, one.study_threshold)
        for method in methods
        for one in method.records.choices
    ]
    columns = ("method", "fold", "epochs", "pixel threshold", "slice threshold", "study threshold")
    note = "Marked, or called bleeding, from the threshold on."
    table = _without_lone_method(Table("choices", "Choices of the folds", note, columns, tuple(rows)), methods)
    words = "Chosen on each fold's validation patients, written down before its test patients were predicted."
    return Section("choices", "What each fold chose", (words,), (table,))


def _without_lone_method(table: Table, methods: Sequence[Method]) -> Table:
    """A column that would repeat one name says nothing."""
    if len(methods) > 1:
        return table
    at = table.columns.index("method")
    rows = tuple(row[:at] + row[at + 1 :] for row in table.rows)
    return replace(table, columns=table.columns[:at] + table.columns[at + 1 :], rows=rows)


def _columns(methods: Sequence[Method]) -> tuple[str, ...]:
    return tuple(name for method in methods for name in _three("value" if len(methods) == 1 else method.name))


def _three(name: str) -> tuple[str, str, str]:
    return name, f"{name} low", f"{name} high"


def _ends(score: Score) -> tuple[Value, Value, Value]:
    return _dash(score.value), score.low, score.high


def _dash(value: float | None) -> Value:
    return DOES_NOT_APPLY if value is None or np.isnan(value) else value


def _intervals(methods: Sequence[Method]) -> str:
    return INTERVALS.format(resamples=methods[0].scores.resamples)
