"""Objectives before and after refinement, as in Table 1 of Y: improvements in per cent beside the published ones.

Y's columns Min, Max and Avg cannot be the least, largest and mean improvement of a trial: for servo, samp-ℓ2 has 16.10,
14.42 and 14.00. They fit the improvements of the least, the largest and the mean objective over the trials, which is
what is compared here; the improvements trial by trial stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, model_validator

from certnet.study.kinds.base import Check, Kind, Report, ReportTable, Row
from certnet.study.kinds.refinements import RefinementSpec, refinement_check, refinement_execute, refinement_tasks
from certnet.study.kinds.statistics import by_start, group_rows, improvement, signed
from certnet.study.spec import Misplaced, Part, Published, Study

__all__ = ["KIND", "Expected", "ObjectivesSpec", "Summary", "summaries"]

_SAME = 1e-6  # relative: what two solvers may differ by
_IMPROVEMENTS = (
    "`least`, `largest` and `mean` are of the improvements trial by trial; `of min`, `of max` and `of avg` are the "
    "improvements of the least, the largest and the mean objective over the trials."
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
    """A method on a data set, over trials; improvements in per cent of the start's objective."""

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


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One summary per data set, weight, start and method, from the trials in which both finished."""
    pairs = [
        (methods[""], row)
        for methods in by_start(rows).values()
        if "" in methods
        for name, row in methods.items()
        if name
    ]
    groups: dict[Any, list[tuple[Row, Row]]] = {}
    for before, after in pairs:
        groups.setdefault(tuple(after[key] for key in ("data", "weight", "start", "method")), []).append(
            (before, after)
        )
    return [_summary(key, found) for key, found in groups.items()]


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
    )


def report(study: Study, rows: Sequence[Row]) -> Report:
    """Table 1 of Y with our numbers, the checks, and where the two differ."""
    spec = study.spec
    if not isinstance(spec, ObjectivesSpec):
        raise TypeError(f"an ObjectivesSpec is needed, got {type(spec).__name__}")
    found = summaries(rows)
    tables = [_improvements(found, spec), _levels(found, rows)]
    return Report(tuple(tables), tuple(_checks(found, rows, spec)), tuple(_differences(found, spec)))


def _improvements(found: Sequence[Summary], spec: ObjectivesSpec) -> ReportTable:
    head: tuple[str, ...] = (
        "data",
        "method",
        "over",
        "trials",
        "least",
        "largest",
        "mean",
        "of min",
        "of max",
        "of avg",
    )
    if spec.published:
        head = (*head, "published min", "max", "avg")
    body = [head]
    for one in found:
        least, largest, mean = min(one.improvements), max(one.improvements), fmean(one.improvements)
        numbers = (least, largest, mean, one.of_least, one.of_largest, one.of_mean)
        row = (_name(one, spec), one.method, one.start, str(len(one.improvements)), *map(signed, numbers))
        body.append((*row, *_printed(one, spec)) if spec.published else row)
    return ReportTable("Improvement of the objective over the start", tuple(body), _IMPROVEMENTS)


def _printed(one: Summary, spec: ObjectivesSpec) -> tuple[str, ...]:
    paper = _published(one, spec)
    return ("", "", "") if paper is None else tuple(map(signed, (paper.min, paper.max, paper.avg)))


def _levels(found: Sequence[Summary], rows: Sequence[Row]) -> ReportTable:
    names = ("objective_l2", "objective_lipschitz", "mse_test", "upper", "method_seconds")
    body: list[tuple[str, ...]] = [
        ("data", "start", "method", "J l2", "J Lipschitz", "test MSE", "L at most", "seconds")
    ]
    done = [row for row in rows if row["status"] == "done"]
    for (data, start, method), same in group_rows(done, lambda row: (row["data"], row["start"], row["method"])).items():
        mean = [fmean(row[name] for row in same) for name in names]
        body.append((data, start, method or "(start)", *(f"{value:.4g}" for value in mean)))
    return ReportTable("Means over trials", tuple(body), _LEVELS)


def _name(one: Summary, spec: ObjectivesSpec) -> str:
    return one.data if len(spec.weights) == 1 else f"{one.data}, weight {one.weight:g}"


def _published(one: Summary, spec: ObjectivesSpec) -> Published | None:
    return spec.published.get(one.method, {}).get(one.data)


# --------------------------------------------------------------------------------------------------------------- checks


def _checks(found: Sequence[Summary], rows: Sequence[Row], spec: ObjectivesSpec) -> Iterator[Check]:
    groups = by_start(rows)
    for name in spec.expected.never_worse:
        yield _at_most(f"{name} is never worse than its start", groups, name, "", spec)
    for first, second in spec.expected.at_most:
        yield _at_most(f"{first} is at most {second} in every trial", groups, first, second, spec)
    for first, second in spec.expected.faster:
        yield _compared(f"{first} takes less time than {second}, on average", found, first, second, "seconds")
    for first, second in spec.expected.worse:
        yield _compared(f"{first} is worse than {second}, on average", found, second, first, "objective")


def _at_most(
    claim: str, groups: dict[tuple[Any, ...], dict[str, Row]], first: str, second: str, spec: ObjectivesSpec
) -> Check:
    """Trials in which the first's objective is above the second's; ``second`` may be the start."""
    column, cases, violations = f"objective_{spec.methods[first].penalty}", 0, []
    for (data, trial, _, start), methods in groups.items():
        if first in methods and second in methods:
            cases += 1
            a, b = methods[first][column], methods[second][column]
            if a > b * (1.0 + _SAME):
                violations.append(f"{data}, trial {trial}, from {start}: {a:.6g} > {b:.6g}")
    return Check(claim, cases, tuple(violations))


def _compared(claim: str, found: Sequence[Summary], less: str, more: str, name: str) -> Check:
    """Data sets on which a figure of the method ``less`` is not below that of ``more``."""
    cases, violations = 0, []
    twins = {(one.data, one.weight, one.start): one for one in found if one.method == more}
    for one in found:
        twin = twins.get((one.data, one.weight, one.start))
        if one.method == less and twin is not None:
            cases += 1
            a, b = getattr(one, name), getattr(twin, name)
            if a >= b:
                violations.append(f"{one.data}: {less} {a:.4g}, {more} {b:.4g}")
    return Check(claim, cases, tuple(violations), required=False)


# ------------------------------------------------------------------------------------------------- where ours differs


def _differences(found: Sequence[Summary], spec: ObjectivesSpec) -> Iterator[str]:
    """Sentences about every average beside a published one, and what the two depend on."""
    compared = [(one, paper) for one in found if (paper := _published(one, spec)) is not None]
    for one, paper in compared:
        yield (
            f"**{one.method} over {one.start} on {one.data}**: {signed(one.of_mean)} here, {signed(paper.avg)} "
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


def pictures(study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Improvements by method, one picture per data set."""
    from certnet.study.pictures import ImprovementDisplay

    drawn = {}
    for data, same in group_rows(summaries(rows), lambda one: one.data).items():
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
)
