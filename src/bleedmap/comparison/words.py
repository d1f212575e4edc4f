"""What a comparison says in words, the same on the page, in the picture and on the terminal."""

from bleedmap.comparison.compare import Comparison
from bleedmap.comparison.growth import Growth, Interval
from bleedmap.comparison.match import Group
from bleedmap.study.words import percent


def headline(comparison: Comparison) -> str:
    """The growth in one clause, or that none is claimed."""
    growth = comparison.growth
    if growth is None:
        return "no growth is claimed"
    if not growth.first_ml and not growth.second_ml and not comparison.groups:
        return "no bleed marked in either study"
    totals = "" if comparison.groups is not None else ", of totals only: the heads could not be aligned"
    return f"{'growth' if growth.ml >= 0 else 'shrinking'}: {signed_ml(growth.ml)} mL{share(growth.percent)}{totals}"


def growth_of(group: Group) -> str:
    """'+3.2 mL (+40 %)', or a dash."""
    return "–" if group.growth_ml is None else f"{signed_ml(group.growth_ml)} mL{share(group.growth_percent)}"


def share(value: float | None) -> str:
    """' (+45 %)'; '' where there is no share."""
    return "" if value is None else f" ({signed_percent(value)})"


def signed_ml(value: float) -> str:
    """Three digits at most, with its sign: '+12.3', '-0.25'; what is no change is '0'."""
    if abs(value) < 0.005:
        return "0"
    return f"{value:+.2f}" if abs(value) < 1 else f"{value:+.1f}" if abs(value) < 100 else f"{value:+,.0f}"


def signed_percent(value: float) -> str:
    """'+45 %'."""
    return "0 %" if abs(value) < 0.5 else f"{value:+,.0f} %"


def span(interval: Interval | None, form: str) -> str:
    """'-3.1 to +12 mL'; 'from -20 %' without an upper end; '' without an interval. `form`: 'mL' or '%'."""
    if interval is None:
        return ""
    low, high = (
        None if end is None else signed_ml(end) if form == "mL" else signed_percent(end)[:-2] for end in interval
    )
    return f"from {low} {form}, no upper end" if high is None else f"{low} to {high} {form}"


def interval_words(growth: Growth) -> str:
    """'80 % interval -3.1 to +12 mL, -10 to +80 %'; '' where there is none."""
    if growth.coverage is None or growth.interval_ml is None:
        return ""
    parts = [span(growth.interval_ml, "mL"), span(growth.interval_percent, "%")]
    return f"{percent(growth.coverage)} interval {', '.join(one for one in parts if one)}"


def interval_is(coverage: float) -> str:
    """What the interval of a growth means, as a sentence."""
    return (
        f"It is made of the two volumes' {percent(coverage)} intervals as if their errors were independent. On two "
        "studies of one patient errors tend to go the same way, and then it is wider than it need be. It was not "
        "measured on follow-up studies."
    )


def expansion_words(growth: Growth) -> str:
    """'met as measured; the interval leaves it open': what is said of the criterion of expansion."""
    if growth.expansion == "not known":
        return "not known, because lesions are left out that one of the studies does not show"
    if growth.firmness == "over the whole interval":
        return f"{growth.expansion} over the whole interval"
    open_ = "" if growth.firmness == "not known" else "; the interval leaves it open"
    return f"{growth.expansion} as measured{open_}"
