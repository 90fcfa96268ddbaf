"""Objectives before and after refinement, as in Table 1 of Y: improvements in per cent beside the published ones.

Y's columns Min, Max and Avg cannot be the least, largest and mean improvement of a trial: for servo, samp-ℓ2 has 16.10,
14.42 and 14.00. They fit the improvements of the least, the largest and the mean objective over the trials, which is
what is compared here; the improvements trial by trial stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from certnet.study.kinds.base import Kind
from certnet.study.kinds.refinement.rises import what_rose
from certnet.study.kinds.refinement.spec import RefinementSpec, refinement_check
from certnet.study.kinds.refinement.starts import step_packages
from certnet.study.kinds.refinement.tasks import refinement_execute, refinement_tasks
from certnet.study.kinds.reports import Check, Column, Report, tabulated
from certnet.study.kinds.statistics import finished, grouped, key_column, mean_column, named_groups
from certnet.study.spec import Misplaced, Part, Published, Study
from certnet.study.tasks import Row

__all__ = ["KIND", "Expected", "ObjectivesSpec", "Summary", "improvement", "summaries"]

_SAME = 1e-6  # relative: what two solvers may differ by
_IMPROVEMENTS = (
    "`least`, `largest` and `mean` are of the improvements trial by trial; `of min`, `of max` and `of avg` are the "
    "improvements of the least, the largest and the mean objective over the trials. The objective is one of training: "
    "`test error` and `L at most` are means over the same trials, of the start and of what the method made of it, and "
    "either may rise."
)
_LEVELS = (
    "`J l2` is `MSE + λ (‖W‖² + ‖b‖² + ‖V‖²)` and `J Lipschitz` is `MSE + λ L²`, both on the training part and with L "
    "as certified (`L at most`); `seconds` are of the training or the refinement alone."
)


class Expected(Part):
    """Statements about methods that the page checks.

    Attributes
    ----------
    never_worse : list of str
        At most the start's objective, in every trial. Violations fail the study, as those of ``at_most``.
    at_most : list of pairs
        The first one's objective is at most the second's, from the same start and in every trial.
    faster : list of pairs
        The first takes fewer seconds on average, on every data set (looked at, not required).
    worse : list of pairs
        The first one's mean objective is above the second's, on every data set (looked at, not required).
    """

    never_worse: list[str] = Field(default_factory=list)
    at_most: list[list[str]] = Field(default_factory=list)
    faster: list[list[str]] = Field(default_factory=list)
    worse: list[list[str]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _pairs(self) -> Expected:
        for name in ("at_most", "faster", "worse"):
            if any(len(pair) != 2 for pair in getattr(self, name)):
                raise ValueError(f"{name} takes pairs of methods")
        return self


class ObjectivesSpec(RefinementSpec):
    """A study file of the kind "objectives"."""

    kind: Literal["objectives"]
    expected: Expected = Expected()
    published: dict[str, dict[str, Published]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _methods_exist(self) -> ObjectivesSpec:
        Misplaced.check(("expected", "never_worse"), self.expected.never_worse, self.methods, "methods")
        for key in ("at_most", "faster", "worse"):
            names = [name for pair in getattr(self.expected, key) for name in pair]
            Misplaced.check(("expected", key), names, self.methods, "methods")
        Misplaced.check(("published",), self.published, self.methods, "methods")
        return self


@dataclass(frozen=True)
class Summary:
    """A method on a data set, over trials; improvements in per cent of the start's objective.

    ``test`` and ``upper`` are mean test errors and certified bounds, of the start and of the method.
    """

    data: str
    weight: float
    start: str
    method: str
    improvements: tuple[float, ...]
    of_least: float
    of_largest: float
    of_mean: float
    objective_start: float
    objective: float
    seconds: float
    test: tuple[float, float]
    upper: tuple[float, float]


def improvement(before: float, after: float) -> float:
    """``100 (before − after) / before``, in per cent of the objective before."""
    return 100.0 * (before - after) / before if before > 0.0 else 0.0


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One summary per data set, weight, start and method, from the trials in which both finished."""
    pairs = [
        (methods[""], row)
        for methods in _by_start(rows).values()
        if "" in methods
        for name, row in methods.items()
        if name
    ]
    groups = grouped(pairs, lambda pair: tuple(pair[1][key] for key in ("data", "weight", "start", "method")))
    return [_summary(key, found) for key, found in groups.items()]


def _by_start(rows: Sequence[Row]) -> dict[tuple[Any, ...], dict[str, Row]]:
    """Finished rows by what they share with their start, then by method; the start itself under ``""``."""
    groups = grouped(finished(rows), lambda row: tuple(row[name] for name in ("data", "trial", "weight", "start")))
    return {key: {row["method"]: row for row in same} for key, same in groups.items()}


def _summary(key: tuple[Any, ...], pairs: Sequence[tuple[Row, Row]]) -> Summary:
    after = [row["objective"] for _, row in pairs]
    before = [start[f"objective_{row['penalty']}"] for start, row in pairs]
    data, weight, start, method = key
    return Summary(
        data,
        weight,
        start,
        method,
        improvements=tuple(improvement(b, a) for b, a in zip(before, after)),
        of_least=improvement(min(before), min(after)),
        of_largest=improvement(max(before), max(after)),
        of_mean=improvement(fmean(before), fmean(after)),
        objective_start=fmean(before),
        objective=fmean(after),
        seconds=fmean(row["method_seconds"] for _, row in pairs),
        test=_both(pairs, "mse_test"),
        upper=_both(pairs, "upper"),
    )


def _both(pairs: Sequence[tuple[Row, Row]], name: str) -> tuple[float, float]:
    return fmean(start[name] for start, _ in pairs), fmean(row[name] for _, row in pairs)


def report(study: Study[ObjectivesSpec], rows: Sequence[Row]) -> Report:
    """Table 1 of Y with our numbers, the checks, and where the two differ."""
    spec, found = study.spec, summaries(rows)
    tables = (
        tabulated("Improvement of the objective over the start", _improvements(spec), found, _IMPROVEMENTS),
        tabulated("Means over trials", _MEANS, named_groups(finished(rows), "data", "start", "method"), _LEVELS),
    )
    rose = what_rose(rows, by_weight=True, several=len(spec.weights) > 1)
    return Report(tables, tuple(_checks(found, rows, spec)), tuple(_differences(found, spec)), rose)


_MEANS: Final = (
    key_column("data", 0),
    key_column("start", 1),
    key_column("method", 2, empty="(start)"),
    mean_column("J l2", "objective_l2"),
    mean_column("J Lipschitz", "objective_lipschitz"),
    mean_column("test MSE", "mse_test"),
    mean_column("L at most", "upper"),
    mean_column("seconds", "method_seconds"),
)


def _improvements(spec: ObjectivesSpec) -> list[Column[Summary]]:
    columns: list[Column[Summary]] = [
        Column("data", lambda one: one.data if len(spec.weights) == 1 else f"{one.data}, weight {one.weight:g}"),
        Column("method", lambda one: one.method),
        Column("over", lambda one: one.start),
        Column("trials", lambda one: str(len(one.improvements))),
        Column("least", lambda one: _signed(min(one.improvements))),
        Column("largest", lambda one: _signed(max(one.improvements))),
        Column("mean", lambda one: _signed(fmean(one.improvements))),
        Column("of min", lambda one: _signed(one.of_least)),
        Column("of max", lambda one: _signed(one.of_largest)),
        Column("of avg", lambda one: _signed(one.of_mean)),
        Column("test error", lambda one: _change(one.test)),
        Column("L at most", lambda one: _change(one.upper)),
    ]
    if spec.published:
        columns += [
            _printed("published min", spec, lambda paper: paper.min),
            _printed("max", spec, lambda paper: paper.max),
            _printed("avg", spec, lambda paper: paper.avg),
        ]
    return columns


def _printed(head: str, spec: ObjectivesSpec, figure: Callable[[Published], float]) -> Column[Summary]:
    def cell(one: Summary) -> str:
        paper = _published(one, spec)
        return "" if paper is None else _signed(figure(paper))

    return Column(head, cell)


def _change(both: tuple[float, float]) -> str:
    return f"{both[0]:.4g} → {both[1]:.4g}"


def _signed(value: float) -> str:
    """Per cent with a sign and two digits."""
    return f"{value:+.2f} %"


def _published(one: Summary, spec: ObjectivesSpec) -> Published | None:
    return spec.published.get(one.method, {}).get(one.data)


# --------------------------------------------------------------------------------------------------------------- checks


def _checks(found: Sequence[Summary], rows: Sequence[Row], spec: ObjectivesSpec) -> Iterator[Check]:
    groups = _by_start(rows)

    def at_most(statement: str, first: str, second: str) -> Check:
        return Check.of(statement, _at_most(groups, first, second, f"objective_{spec.methods[first].penalty}"))

    def below(statement: str, less: str, more: str, figure: Callable[[Summary], float]) -> Check:
        return Check.of(statement, _below(found, less, more, figure), required=False)

    for name in spec.expected.never_worse:
        yield at_most(f"{name} is never worse than its start", name, "")
    for first, second in spec.expected.at_most:
        yield at_most(f"{first} is at most {second} in every trial", first, second)
    for first, second in spec.expected.faster:
        yield below(f"{first} takes less time than {second}, on average", first, second, lambda one: one.seconds)
    for first, second in spec.expected.worse:
        yield below(f"{first} is worse than {second}, on average", second, first, lambda one: one.objective)


def _at_most(groups: dict[tuple[Any, ...], dict[str, Row]], first: str, second: str, objective: str) -> Iterator[str]:
    """Trials: the first's objective above the second's? ``second`` may be the start."""
    for (data, trial, _, start), methods in groups.items():
        if first in methods and second in methods:
            a, b = methods[first][objective], methods[second][objective]
            yield f"{data}, trial {trial}, from {start}: {a:.6g} > {b:.6g}" if a > b * (1.0 + _SAME) else ""


def _below(found: Sequence[Summary], less: str, more: str, figure: Callable[[Summary], float]) -> Iterator[str]:
    """Data sets: a figure of the method ``less`` not below that of ``more``?"""
    twins = {(one.data, one.weight, one.start): one for one in found if one.method == more}
    for one in found:
        twin = twins.get((one.data, one.weight, one.start))
        if one.method == less and twin is not None:
            a, b = figure(one), figure(twin)
            yield f"{one.data}: {less} {a:.4g}, {more} {b:.4g}" if a >= b else ""


# ------------------------------------------------------------------------------------------------- where ours differs


def _differences(found: Sequence[Summary], spec: ObjectivesSpec) -> Iterator[str]:
    """Sentences about every average beside a published one, and what the two depend on."""
    compared = [(one, paper) for one in found if (paper := _published(one, spec)) is not None]
    for one, paper in compared:
        yield (
            f"**{one.method} over {one.start} on {one.data}**: {_signed(one.of_mean)} here, {_signed(paper.avg)} "
            f"published ({_points(one.of_mean - paper.avg)}). The mean objective goes from "
            f"{one.objective_start:.4g} to {one.objective:.4g}{_best(one, found)}."
        )
    if compared:
        yield (
            "Why they differ: an improvement is relative to the start, and the paper states neither how its starts "
            "were trained nor how the data were split and scaled. A start that is trained for longer leaves less to "
            "gain, so a smaller number here means a better start as much as a weaker method. Our settings are listed "
            "as choices."
        )


def _points(difference: float) -> str:
    return f"{abs(difference):.1f} points {'more' if difference >= 0.0 else 'less'}"


def _best(one: Summary, found: Sequence[Summary]) -> str:
    """The best method from the same start, where it is another."""
    same = [other for other in found if (other.data, other.weight, other.start) == (one.data, one.weight, one.start)]
    rivals = [
        other for other in same if abs(other.objective_start - one.objective_start) <= _SAME * one.objective_start
    ]
    best = min(rivals, key=lambda other: other.objective)
    return "" if best.method == one.method else f"; {best.method} reaches {best.objective:.4g}"


def pictures(study: Study[ObjectivesSpec], rows: Sequence[Row]) -> dict[str, Any]:
    """Improvements by method, one picture per data set."""
    from certnet.study.kinds.refinement.pictures import ImprovementDisplay

    drawn = {}
    for data, same in grouped(summaries(rows), lambda one: one.data).items():
        lines = {f"{one.method} over {one.start}": one.improvements for one in same}
        drawn[f"improvement-{data}"] = ImprovementDisplay.from_improvements(lines, title=data).figure_
    return drawn


KIND = Kind(
    "objectives",
    ObjectivesSpec,
    refinement_tasks,
    refinement_execute,
    report,
    pictures,
    attacked=True,
    check=refinement_check,
    packages=lambda task: step_packages(task.settings.options),
)
