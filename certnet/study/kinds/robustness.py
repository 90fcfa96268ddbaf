"""Adversarial error against the radius of the attack, as in Figure 1 of Y, with the certified curve above it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, model_validator

from certnet.study.kinds.base import Check, Kind, Report, ReportTable, Row
from certnet.study.kinds.refinements import RefinementSpec, refinement_check, refinement_execute, refinement_tasks
from certnet.study.kinds.statistics import curve_mean, group_rows, median_error
from certnet.study.spec import Misplaced, Study

__all__ = ["KIND", "RobustnessSpec", "curves_below"]


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


def report(study: Study, rows: Sequence[Row]) -> Report:
    """Median errors per data set and start, the best of each, and the check that certificates hold."""
    spec = study.spec
    if not isinstance(spec, RobustnessSpec):
        raise TypeError(f"a RobustnessSpec is needed, got {type(spec).__name__}")
    groups = _groups(rows)
    claim = "certified errors lie above attacked ones at every radius in every trial"
    check = Check(claim, sum("certified_mse" in row for row in rows), tuple(curves_below(rows)))
    return Report((_medians(groups), _errors(groups)), (check,), tuple(_notes(groups, spec)))


def curves_below(rows: Sequence[Row]) -> Iterator[str]:
    """Radii at which an attack went further than a certificate allows, recomputed from all rows, failed ones too."""
    for row in rows:
        certified = row.get("certified_mse", {})
        for epsilon, attacked in row.get("adversarial_mse", {}).items():
            if epsilon in certified and certified[epsilon] < attacked * (1.0 - 1e-9):
                yield f"{row['task']}, radius {epsilon}: certified {certified[epsilon]:.6g} < attacked {attacked:.6g}"


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, list[Row]]]:
    """Finished rows by data set and start, then by method."""
    done = [row for row in rows if row["status"] == "done"]
    outer = group_rows(done, lambda row: (_data(row, rows), row["start"]))
    return {key: group_rows(same, lambda row: row["method"]) for key, same in outer.items()}


def _data(row: Row, rows: Sequence[Row]) -> str:
    several = len({one["weight"] for one in rows}) > 1
    return f"{row['data']}, weight {row['weight']:g}" if several else str(row["data"])


def _label(start: str, method: str) -> str:
    return f"{start}+{method}" if method else start


def _medians(groups: dict[tuple[str, str], dict[str, list[Row]]]) -> ReportTable:
    names = list(dict.fromkeys(method for methods in groups.values() for method in methods))
    body: list[tuple[str, ...]] = [("data", "start", *(name or "alone" for name in names), "least")]
    for (data, start), methods in groups.items():
        value = {name: median_error(same) for name, same in methods.items()}
        cells = [f"{value[name]:.4g}" if name in value else "" for name in names]
        body.append((data, start, *cells, _label(start, min(value, key=lambda name: value[name]))))
    return ReportTable("Median over radii of the adversarial test error (mean over trials)", tuple(body))


def _errors(groups: dict[tuple[str, str], dict[str, list[Row]]]) -> ReportTable:
    body: list[tuple[str, ...]] = [
        ("data", "network", "trials", "clean", "attacked", "certified", "L at most", "radius")
    ]
    for (data, start), methods in groups.items():
        for name, same in methods.items():
            attacked, certified = curve_mean(same, "adversarial_mse"), curve_mean(same, "certified_mse")
            largest = list(attacked)[-1]
            clean, upper = (fmean(row[column] for row in same) for column in ("mse_test", "upper"))
            numbers = (clean, attacked[largest], certified[largest], upper)
            body.append((data, _label(start, name), str(len(same)), *(f"{x:.4g}" for x in numbers), largest))
    return ReportTable("Test errors, clean and at the largest radius (means over trials)", tuple(body))


def _notes(groups: dict[tuple[str, str], dict[str, list[Row]]], spec: RobustnessSpec) -> Iterator[str]:
    leads, lead_of = [], {"", spec.leader, *(spec.rivals or spec.methods)}
    for (data, start), methods in groups.items():
        value = {name: median_error(same) for name, same in methods.items()}
        best = min(value, key=lambda name: value[name])
        compared = [name for name in value if name in lead_of]
        leads.append((data, start, min(compared, key=lambda name: value[name], default=None)))
        if best == "":
            said = "no method's median is below the start's"
        else:
            said = f"{_label(start, best)} has the least median"
            if value.get("", 0.0) > 0.0:
                said += f", {100.0 * (1.0 - value[best] / value['']):.1f} % below the start's"
        yield f"**{data}, from {start}**: {said}."
    if not spec.leader or not leads:
        return
    ours = {(data, start) for data, start, best in leads if best == spec.leader}
    paper = {(data, start) for data, start in spec.published_leads}
    both, known = ours & paper, {(data, start) for data, start, _ in leads}
    yield (
        f"Among {', '.join(sorted(filter(None, lead_of)))} and the start, the paper finds {spec.leader} ahead in "
        f"{len(paper & known)} of the {len(known)} cases here, we in {len(ours)}, both in {len(both)}: {_cases(both)}. "
        f"Only in the paper: {_cases((paper & known) - ours)}. Only here: {_cases(ours - paper)}. The paper's text "
        "states neither its radii, nor its attack, nor how the starts were trained; our settings are listed as choices."
    )


def _cases(cases: set[tuple[str, str]]) -> str:
    return "; ".join(f"{data} from {start}" for data, start in sorted(cases)) or "none"


def pictures(study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """One picture per data set and start: attacked and certified errors, means over trials."""
    from certnet.study.pictures import robustness_display

    norm = study.spec.attack.norm
    return {
        f"robustness-{data}-{start}": robustness_display(
            {_label(start, name): same for name, same in methods.items()}, norm
        ).figure_
        for (data, start), methods in _groups(rows).items()
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
)
