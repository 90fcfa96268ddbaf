"""What a kind of study is, and what its tasks give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from certnet.study.kinds.reports import Report
from certnet.study.spec import Study, StudySpec
from certnet.study.tasks import Row, Settings, Task

__all__ = ["Kind", "Outcome"]

SpecT = TypeVar("SpecT", bound=StudySpec)
SettingsT = TypeVar("SettingsT", bound=Settings)


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


def nothing_to_check(study: Study[StudySpec]) -> None:
    """Of kinds that need nothing beside their data sets."""


def no_packages(task: Task[Settings]) -> Sequence[str]:
    """Of kinds whose tasks need no optional package."""
    return ()


@dataclass(frozen=True, eq=False)
class Kind(Generic[SpecT, SettingsT]):
    """A kind of study, of the model of its files and the settings of its tasks.

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
        ``check(study)`` raises, before any work, if this machine lacks what the study needs beside its data sets and
        packages.
    packages : callable
        ``packages(task)``: optional packages that ``execute`` imports for it, by the names that they are imported by.
    """

    name: str
    model: type[SpecT]
    tasks: Callable[[Study[SpecT]], Sequence[Task[SettingsT]]]
    execute: Callable[[Task[SettingsT], Sequence[bytes]], Outcome]
    report: Callable[[Study[SpecT], Sequence[Row]], Report]
    pictures: Callable[[Study[SpecT], Sequence[Row]], dict[str, Any]]
    attacked: bool = False
    check: Callable[[Study[SpecT]], None] = nothing_to_check
    packages: Callable[[Task[SettingsT]], Sequence[str]] = no_packages
