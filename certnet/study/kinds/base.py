"""What a kind of study is, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certnet.study.spec import Study, StudySpec
from certnet.study.tasks import Task

__all__ = ["Check", "Kind", "Outcome", "Report", "ReportTable", "Row"]

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task came to.

    Attributes
    ----------
    row : mapping
        Plain values (JSON; NaN and infinities as None), nested at will: ``{"mse": …, "adversarial_mse": {"0.1": …}}``.
    artifact : bytes, optional
        The content of an ``.npz`` file, for the tasks that need this one.
    failure : str
        Why the row does not count although it is complete; empty where it does.
    """

    row: Mapping[str, Any]
    artifact: bytes | None = None
    failure: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table of a page, its cells as text; the first row is the head. The note below explains its columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Check:
    """A statement about the rows: in how many cases it was looked at, and where it does not hold.

    A required one that is violated fails the study.
    """

    claim: str
    cases: int
    violations: tuple[str, ...] = ()
    required: bool = True

    @property
    def verdict(self) -> str:
        if self.violations:
            return f"does not hold in {len(self.violations)} of {self.cases} cases"
        return f"holds in all {self.cases} cases" if self.cases else "nothing to look at yet"


@dataclass(frozen=True)
class Report:
    """What the rows say: tables, checks, and paragraphs (Markdown)."""

    tables: tuple[ReportTable, ...]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


def nothing_to_check(study: Study) -> None:
    """Of kinds that need nothing beside their data sets."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of study.

    Attributes
    ----------
    name : str
        The value of ``kind`` in a study file.
    model : type of StudySpec
        The keys that such a file may have.
    tasks : callable
        ``tasks(study)``: all tasks, each after those that it needs.
    execute : callable
        ``execute(task, artifacts)``, run in a worker: from the task and the artifacts (bytes) of ``task.needs`` alone
        to its :class:`Outcome`. What it raises becomes a row with the reason.
    report : callable
        ``report(study, rows)`` from the rows there are, in the order of the tasks; rows may be missing or failed.
    pictures : callable
        ``pictures(study, rows)``: matplotlib figures by file name without suffix.
    attacked : bool
        Does the attack of the study file have an effect?
    check : callable
        ``check(study)`` raises, before any work, if this machine lacks what the study needs beside its data sets.
    """

    name: str
    model: type[StudySpec]
    tasks: Callable[[Study], list[Task]]
    execute: Callable[[Task, Sequence[bytes]], Outcome]
    report: Callable[[Study, Sequence[Row]], Report]
    pictures: Callable[[Study, Sequence[Row]], dict[str, Any]]
    attacked: bool = False
    check: Callable[[Study], None] = nothing_to_check
