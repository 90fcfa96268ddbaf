"""Adversarial errors with every weight chosen on validation data: the comparison of :mod:`robustness`, made fairer.

A weight that is fixed for all flatters whom it happens to suit. Here every start and every method that has a weight
chooses its own, in every trial, from the same candidates and in the same way
(:mod:`certnet.study.kinds.refinement.choosing`), so that what is left is what they can do with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

from certnet.study.kinds.base import Kind
from certnet.study.kinds.refinement.choosing import validated_execute, validated_tasks
from certnet.study.kinds.refinement.rises import what_rose
from certnet.study.kinds.refinement.robustness import (
    ERRORS,
    Case,
    case_pictures,
    cases_of,
    certificates_hold,
    median_columns,
    networks_of,
)
from certnet.study.kinds.refinement.spec import ValidatedSpec, refinement_check
from certnet.study.kinds.refinement.starts import step_packages
from certnet.study.kinds.reports import Column, Report, tabulated
from certnet.study.kinds.statistics import Group, key_column
from certnet.study.spec import Study
from certnet.study.tasks import Row

__all__ = ["KIND"]


def report(study: Study[ValidatedSpec], rows: Sequence[Row]) -> Report:
    """Median errors per data set and start, errors and weights of all networks, and who has the least median."""
    cases = cases_of(rows)
    networks = networks_of(cases)
    tables = (
        tabulated("Median over radii of the adversarial test error (mean over trials)", median_columns(cases), cases),
        tabulated("Test errors, clean and at the largest radius (means over trials)", ERRORS, networks),
        tabulated("Weights that were chosen (median, least and largest over trials)", _CHOSEN, networks),
    )
    rose = what_rose(rows, by_weight=False, several=False)
    return Report(tables, (certificates_hold(rows),), tuple(_notes(cases, study.spec)), rose)


def _weights(group: Group) -> str:
    """Where the candidates do not differ, there was nothing to choose."""
    if not any(len(row["validation"]) > 1 for row in group.rows):
        return "none"
    chosen = [row["weight"] for row in group.rows]
    return f"{median(chosen):.3g} ({min(chosen):.3g} to {max(chosen):.3g})"


_CHOSEN: Final = (
    key_column("data", 0),
    key_column("network", 1),
    Column[Group]("weight", _weights),
)


def _notes(cases: Sequence[Case], spec: ValidatedSpec) -> Iterator[str]:
    if not spec.leader or not cases:
        return
    ahead = [case for case in cases if case.least(case.medians) == spec.leader]
    yield (
        f"**{spec.leader} has the least median in {len(ahead)} of the {len(cases)} cases** (among "
        f"{', '.join(spec.methods)} and the start alone)."
    )
    for case in cases:
        yield f"**{case.data}, from {case.start}**: {_standing(case, spec.leader)}."


def _standing(case: Case, leader: str) -> str:
    """How the leader and the best of the others compare."""
    others = [name for name in case.medians if name != leader]
    if leader not in case.medians or not others:
        return f"nothing to compare {leader} with yet"
    rival = str(case.least(others))
    ours, theirs = case.medians[leader], case.medians[rival]
    difference = 100.0 * (ours / theirs - 1.0) if theirs > 0.0 else 0.0
    word = f"{abs(difference):.1f} % {'above' if ours > theirs else 'below'} the next, {case.label(rival)}"
    trials = case.wins(leader, rival)
    return f"{leader} is {word}; below it in {trials[0]} of {trials[1]} trials"


def pictures(study: Study[ValidatedSpec], rows: Sequence[Row]) -> dict[str, Any]:
    """As of the kind "robustness"."""
    return case_pictures(cases_of(rows), study.spec.attack.norm, "validated")


KIND = Kind(
    "validated",
    ValidatedSpec,
    validated_tasks,
    validated_execute,
    report,
    pictures,
    attacked=True,
    check=refinement_check,
    packages=lambda task: step_packages(task.settings.options),
)
