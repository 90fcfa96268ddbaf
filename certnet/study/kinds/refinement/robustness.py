"""Adversarial error against the radius of the attack, as in Figure 1 of Y, with the certified curve above it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from certnet.study.kinds.base import Kind
from certnet.study.kinds.refinement.evaluation import curve_mean, median_error
from certnet.study.kinds.refinement.rises import what_rose
from certnet.study.kinds.refinement.spec import RefinementSpec, refinement_check
from certnet.study.kinds.refinement.starts import step_packages
from certnet.study.kinds.refinement.tasks import refinement_execute, refinement_tasks
from certnet.study.kinds.reports import Check, Column, Report, tabulated
from certnet.study.kinds.statistics import Group, finished, grouped, key_column, mean_column
from certnet.study.spec import Misplaced, Study
from certnet.study.tasks import Row

__all__ = [
    "ERRORS",
    "KIND",
    "Case",
    "RobustnessSpec",
    "case_pictures",
    "cases_of",
    "certificates_hold",
    "curves_below",
    "median_columns",
    "networks_of",
]


class RobustnessSpec(RefinementSpec):
    """A study file of the kind "robustness"; every method is applied to every start unless told otherwise."""

    kind: Literal["robustness"]
    leader: str = ""
    """The method whose lead the page looks for, with the cases in which the paper found it."""
    rivals: list[str] = Field(default_factory=list)
    """The methods beside which the paper has its leader, with the start; all, if none is named."""
    published_leads: list[list[str]] = Field(default_factory=list)
    """Pairs of a data set and a start; the paper's data sets need not all be among the study's."""

    @model_validator(mode="after")
    def _leader_exists(self) -> RobustnessSpec:
        if self.leader:
            Misplaced.check(("leader",), [self.leader], self.methods, "methods")
        Misplaced.check(("rivals",), self.rivals, self.methods, "methods")
        if any(len(case) != 2 for case in self.published_leads):
            raise Misplaced(("published_leads",), "takes pairs of a data set and a start")
        if self.published_leads and not self.leader:
            raise Misplaced(("published_leads",), "leader is missing: say which method's lead the cases are of")
        Misplaced.check(("published_leads",), (start for _, start in self.published_leads), self.starts.named, "starts")
        return self


@dataclass(frozen=True, eq=False)
class Case:
    """The networks from one start on one data set, by method; the start itself under ``""``."""

    data: str
    start: str
    methods: Mapping[str, Sequence[Row]]

    @cached_property
    def medians(self) -> dict[str, float]:
        """Y's criterion by method."""
        return {name: median_error(same) for name, same in self.methods.items()}

    def least(self, among: Iterable[str]) -> str | None:
        """The method of the least median; None where there is none of these."""
        return min((name for name in self.medians if name in among), key=lambda name: self.medians[name], default=None)

    def label(self, method: str) -> str:
        return f"{self.start}+{method}" if method else self.start

    def wins(self, first: str, second: str) -> tuple[int, int]:
        """In how many trials, and of how many that both have, the first method's median is below the second's."""
        one, two = ({row["trial"]: median_error([row]) for row in self.methods[name]} for name in (first, second))
        both = one.keys() & two.keys()
        return sum(one[trial] < two[trial] for trial in both), len(both)


def report(study: Study[RobustnessSpec], rows: Sequence[Row]) -> Report:
    """Median errors per data set and start, the best of each, and the check that certificates hold."""
    several = len(study.spec.weights) > 1
    cases = cases_of(rows, by_weight=several)
    tables = (
        tabulated("Median over radii of the adversarial test error (mean over trials)", median_columns(cases), cases),
        tabulated("Test errors, clean and at the largest radius (means over trials)", ERRORS, networks_of(cases)),
    )
    rose = what_rose(rows, by_weight=True, several=several)
    return Report(tables, (certificates_hold(rows),), tuple(_notes(cases, study.spec)), rose)


def certificates_hold(rows: Sequence[Row]) -> Check:
    """The check that no attack went further than a certificate allows."""
    statement = "certified errors lie above attacked ones at every radius in every trial"
    return Check(statement, sum("certified_mse" in row for row in rows), tuple(curves_below(rows)))


def curves_below(rows: Sequence[Row]) -> Iterator[str]:
    """Radii at which an attack went further than a certificate allows, recomputed from all rows, failed ones too."""
    for row in rows:
        certified = row.get("certified_mse", {})
        for epsilon, attacked in row.get("adversarial_mse", {}).items():
            if epsilon in certified and certified[epsilon] < attacked * (1.0 - 1e-9):
                yield f"{row['task']}, radius {epsilon}: certified {certified[epsilon]:.6g} < attacked {attacked:.6g}"


def cases_of(rows: Sequence[Row], *, by_weight: bool = False) -> list[Case]:
    """The cases of finished rows; ``by_weight`` tells those of different weights apart."""

    def data_of(row: Row) -> str:
        return f"{row['data']}, weight {row['weight']:g}" if by_weight else str(row["data"])

    groups = grouped(finished(rows), lambda row: (data_of(row), row["start"]))
    return [Case(data, start, grouped(same, lambda row: row["method"])) for (data, start), same in groups.items()]


def networks_of(cases: Sequence[Case]) -> list[Group]:
    """The rows of every network, by data set and label."""
    return [Group((case.data, case.label(name)), same) for case in cases for name, same in case.methods.items()]


def median_columns(cases: Sequence[Case]) -> list[Column[Case]]:
    """Y's criterion by method, and who has the least of a case."""

    def median_of(name: str) -> Column[Case]:
        return Column(name or "alone", lambda case: f"{case.medians[name]:.4g}" if name in case.medians else "")

    return [
        Column("data", lambda case: case.data),
        Column("start", lambda case: case.start),
        *(median_of(name) for name in dict.fromkeys(name for case in cases for name in case.methods)),
        Column("least", lambda case: case.label(case.least(case.medians) or "")),
    ]


def _largest(group: Group) -> str:
    """The largest radius."""
    return list(group.rows[0]["adversarial_mse"])[-1]


def _at_largest(head: str, name: str) -> Column[Group]:
    return Column(head, lambda group: f"{curve_mean(group.rows, name)[_largest(group)]:.4g}")


ERRORS: Final = (
    key_column("data", 0),
    key_column("network", 1),
    Column[Group]("trials", lambda group: str(len(group.rows))),
    mean_column("clean", "mse_test"),
    _at_largest("attacked", "adversarial_mse"),
    _at_largest("certified", "certified_mse"),
    mean_column("L at most", "upper"),
    Column[Group]("radius", _largest),
)


def _notes(cases: Sequence[Case], spec: RobustnessSpec) -> Iterator[str]:
    leads, lead_of = [], {"", spec.leader, *(spec.rivals or spec.methods)}
    for case in cases:
        leads.append((case.data, case.start, case.least(lead_of)))
        best = case.least(case.medians)
        if not best:
            said = "no method's median is below the start's"
        else:
            said = f"{case.label(best)} has the least median"
            if case.medians.get("", 0.0) > 0.0:
                said += f", {100.0 * (1.0 - case.medians[best] / case.medians['']):.1f} % below the start's"
        yield f"**{case.data}, from {case.start}**: {said}."
    if not spec.leader or not leads:
        return
    ours = {(data, start) for data, start, best in leads if best == spec.leader}
    paper = {(data, start) for data, start in spec.published_leads}
    both, known = ours & paper, {(data, start) for data, start, _ in leads}
    yield (
        f"Among {', '.join(sorted(filter(None, lead_of)))} and the start, the paper finds {spec.leader} ahead in "
        f"{len(paper & known)} of the {len(known)} cases here, we in {len(ours)}, both in {len(both)}: {_named(both)}. "
        f"Only in the paper: {_named((paper & known) - ours)}. Only here: {_named(ours - paper)}. The paper's text "
        "states neither its radii, nor its attack, nor how the starts were trained; our settings are listed as choices."
    )


def _named(cases: set[tuple[str, str]]) -> str:
    return "; ".join(f"{data} from {start}" for data, start in sorted(cases)) or "none"


def pictures(study: Study[RobustnessSpec], rows: Sequence[Row]) -> dict[str, Any]:
    """One picture per data set and start: attacked and certified errors, means over trials."""
    cases = cases_of(rows, by_weight=len(study.spec.weights) > 1)
    return case_pictures(cases, study.spec.attack.norm, "robustness")


def case_pictures(cases: Sequence[Case], norm: str, name: str) -> dict[str, Any]:
    """A picture of every case, by ``name``, data set and start."""
    from certnet.study.kinds.refinement.pictures import robustness_display

    return {
        f"{name}-{case.data}-{case.start}": robustness_display(
            {case.label(method): same for method, same in case.methods.items()}, norm
        ).figure_
        for case in cases
    }


KIND = Kind(
    "robustness",
    RobustnessSpec,
    refinement_tasks,
    refinement_execute,
    report,
    pictures,
    attacked=True,
    check=refinement_check,
    packages=lambda task: step_packages(task.settings.options),
)
