"""What rose while a training objective fell: the test error, or the certified L, method by method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from certnet.core.digits import above
from certnet.study.kinds.statistics import finished, grouped
from certnet.study.tasks import Row

__all__ = ["Pair", "pairs_of", "what_rose"]

_RISE: Final = 1e-3  # relative, of means over trials: less is no finding
_FITTED: Final = (
    "the network fits its training data too closely: try a larger weight, or one that is chosen on validation data "
    '(kind = "validated")'
)
_FLAT: Final = (
    "the training error rose as well, so the network was made too flat: try a smaller weight, or one that is chosen on "
    'validation data (kind = "validated")'
)
_CHOSEN: Final = "its weight was chosen on validation data that say otherwise: more candidates or more trials may help"


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


def what_rose(rows: Sequence[Row], *, by_weight: bool, several: bool) -> tuple[str, ...]:
    """A sentence for every method whose mean test error or L is above that of its start, with what to try.

    Parameters
    ----------
    rows : sequence of Row
    by_weight : bool
        Was the weight given? Else it was chosen, by every network for itself.
    several : bool
        Are there several weights to be told apart?
    """
    found: list[str] = []
    for pair in pairs_of(rows, by_weight=by_weight):
        label = pair.label if several else f"{pair.data}: {pair.method} over {pair.start}"
        found += [f"{label}: {said}" for said in _risen(pair, chosen=not by_weight)]
    return tuple(found)


def _risen(pair: Pair, *, chosen: bool) -> Iterator[str]:
    over = f"(mean over {len(pair.after)} trials)" if len(pair.after) > 1 else "(one trial)"
    (train, trained), (test, tested), (steep, steeper) = (pair.means(name) for name in ("mse", "mse_test", "upper"))
    if tested > test * (1.0 + _RISE):
        cure = _CHOSEN if chosen else _FITTED if trained < train else _FLAT
        yield f"the test error rose from {test:.4g} to {tested:.4g} {over}; {cure}"
    if steeper > steep * (1.0 + _RISE):
        cure = "try a larger weight" if not chosen else "larger candidates of the weight keep it down"
        yield f"the certified L rose from {above(steep, 4)} to {above(steeper, 4)} {over}; {cure}"
