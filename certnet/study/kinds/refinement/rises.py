"""What rose while a training objective fell: the test error, or the certified L, method by method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from certnet.core.digits import above
from certnet.refinement.rises import Change, Knob
from certnet.study.kinds.reports import Rise
from certnet.study.kinds.statistics import finished, grouped
from certnet.study.tasks import Row

__all__ = ["Pair", "pairs_of", "what_rose"]

_KNOB: Final = Knob(choice='choose it on validation data (kind = "validated")')
_CHOSEN: Final = (
    "the weight was chosen on validation data by the error under attack, which the test error need not follow: more "
    "candidates or more trials may help"
)
_FLATTER: Final = "try a larger weight"
_LARGER_CANDIDATES: Final = "larger candidates of the weight keep it down"


@dataclass(frozen=True, eq=False)
class Pair:
    """Rows of a start and of what a method made of it, trial by trial."""

    data: str
    weight: float | None
    start: str
    method: str
    before: tuple[Row, ...]
    after: tuple[Row, ...]

    def means(self, name: str) -> tuple[float, float]:
        """Of a column, before and after."""
        return fmean(row[name] for row in self.before), fmean(row[name] for row in self.after)

    @property
    def label(self) -> str:
        weight = "" if self.weight is None else f", weight {self.weight:g}"
        return f"{self.data}{weight}: {self.method} over {self.start}"


def pairs_of(rows: Sequence[Row], *, by_weight: bool) -> list[Pair]:
    """Methods with their starts, of the trials that have both; ``by_weight``: of the same weight, each by itself."""

    def key(row: Row) -> tuple[Any, ...]:
        return row["data"], row["weight"] if by_weight else None, row["start"]

    done = finished(rows)
    starts = {(key(row), row["trial"]): row for row in done if not row["method"]}
    groups = grouped(
        [row for row in done if row["method"] and (key(row), row["trial"]) in starts],
        lambda row: (key(row), row["method"]),
    )
    return [
        Pair(
            data, weight, start, method, tuple(starts[(data, weight, start), row["trial"]] for row in same), tuple(same)
        )
        for ((data, weight, start), method), same in groups.items()
    ]


def what_rose(rows: Sequence[Row], *, by_weight: bool, several: bool) -> tuple[Rise, ...]:
    """Every method whose mean test error or L is above that of its start by a thousandth, with what to try.

    Parameters
    ----------
    rows : sequence of Row
    by_weight : bool
        Was the weight given? Else it was chosen, by every network for itself.
    several : bool
        Are there several weights to be told apart?
    """
    found: list[Rise] = []
    for pair in pairs_of(rows, by_weight=by_weight):
        label = pair.label if several else f"{pair.data}: {pair.method} over {pair.start}"
        found += _risen(pair, label, chosen=not by_weight)
    return tuple(found)


def _risen(pair: Pair, label: str, *, chosen: bool) -> Iterator[Rise]:
    train, test, steep = (Change(*pair.means(name)) for name in ("mse", "mse_test", "upper"))
    n = len(pair.after)
    if test.rose and not test.slight:
        cure = _CHOSEN if chosen else _KNOB.cure(train)
        yield Rise(label, "the test error", f"{test.before:.4g}", f"{test.after:.4g}", n, cure)
    if steep.rose and not steep.slight:
        cure = _LARGER_CANDIDATES if chosen else _FLATTER
        yield Rise(label, "the certified L", above(steep.before, 4), above(steep.after, 4), n, cure)
