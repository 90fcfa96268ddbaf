"""``certnet study check``: what a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer

from certnet.cli.study_asked import Asked, Jobs, Name, Out, Quick, Set
from certnet.cli.terminal import Json, print_json, print_table, say
from certnet.core.errors import CertnetError, FileFormatError, OutputError

if TYPE_CHECKING:
    from certnet.study import Store
    from certnet.study.estimate import Foreseen
    from certnet.study.tasks import Row, Settings, Task

__all__ = ["check_command"]


def check_command(
    name: Name,
    quick: Quick = False,
    overrides: Set = None,
    n_jobs: Jobs = 1,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """A dry run: is the file valid, what are its tasks, what is there, what is missing, how long will the rest take?"""
    from certnet.study.pools import worker_count

    plan = Plan(Asked(name, quick, out, tuple(overrides or ())))
    width = worker_count(n_jobs)
    if as_json:
        print_json(plan.plain(width))
    else:
        plan.say(width)
    if plan.problems:
        raise typer.Exit(2)


@dataclass(frozen=True)
class Plan:
    """A study that is to be run."""

    asked: Asked

    @cached_property
    def problems(self) -> list[str]:
        """What a run would be refused for."""
        from certnet.study.kinds.splits import data_problems
        from certnet.study.load import kind_of

        study = self.asked.study
        found = [*data_problems(study), *self._folder_problem]
        try:
            kind_of(study).check(study)
        except CertnetError as error:
            found.append(str(error))
        return found

    @cached_property
    def missing(self) -> list[str]:
        """Image sets whose files are not there, and whose rows will say so."""
        if self.asked.study.spec.kind != "lifted":
            return []
        from certnet.study.kinds.lifted.images import available

        names = dict.fromkeys(task.group["data"] for task in self.tasks)
        return [name for name in names if not available(name)]

    @cached_property
    def tasks(self) -> Sequence[Task[Settings]]:
        """None, where they depend on a table that cannot be read."""
        try:
            return self.asked.tasks
        except FileFormatError:
            return ()

    @cached_property
    def _store(self) -> Store | None:
        from certnet.study import Store

        try:
            return Store.open(self.asked.folder, self.asked.study)
        except (OutputError, FileFormatError):
            return None

    @cached_property
    def _folder_problem(self) -> list[str]:
        """A folder that is of something else."""
        from certnet.study import Store

        if not (self.asked.folder / "study.json").exists() or not self.tasks:
            return []
        try:
            Store.open(self.asked.folder, self.asked.study, writing=True)
        except (OutputError, FileFormatError) as error:
            return [str(error)]
        return []

    @cached_property
    def rows(self) -> dict[str, Row]:
        """Of the folder, by digest."""
        from certnet.study import collect

        if self._store is None:
            return {}
        return {
            row["digest"]: row for row in collect(self._store, self.tasks, damaged=lambda _: None) if "digest" in row
        }

    @cached_property
    def samples(self) -> dict[str, int]:
        """Training samples of the data sets that can be read."""
        from certnet.study.kinds.splits import split_of

        study, found = self.asked.study, {}
        for name in study.spec.data_names:
            try:
                found[name] = len(split_of(study, name, 0).load(study.folder).y_train)
            except CertnetError:
                continue
        return found

    @cached_property
    def foreseen(self) -> Foreseen:
        from certnet.study.estimate import foresee

        left = [task for task in self.tasks if task.digest not in self.rows]
        finished = [(task, self.rows[task.digest]) for task in self.tasks if task.digest in self.rows]
        return foresee(left, finished, self.samples)

    def counts(self) -> dict[str, dict[str, int]]:
        """Tasks by their part of the study: how many, and of how many there are rows, good and failed."""
        found: dict[str, dict[str, int]] = {}
        for task in self.tasks:
            part = found.setdefault(_part(task), dict.fromkeys(("tasks", "done", "failed", "left"), 0))
            row = self.rows.get(task.digest)
            part["tasks"] += 1
            part["left" if row is None else "done" if row["status"] == "done" else "failed"] += 1
        return found

    def plain(self, width: int) -> dict[str, Any]:
        """As JSON."""
        spec, seen = self.asked.study.spec, self.foreseen
        return {
            "study": self.asked.study.name,
            "kind": spec.kind,
            "folder": str(self.asked.folder),
            "parts": self.counts(),
            "samples": self.samples,
            "problems": self.problems,
            "missing_images": self.missing,
            "seconds_on_one_core": seen.seconds,
            "seconds": None if seen.seconds is None else seen.seconds / width,
            "tasks_timed_by_rows": seen.measured,
            "memory_mb_per_worker": seen.memory,
            "memory_measured": seen.memory_measured,
        }

    def say(self, width: int) -> None:
        """As text."""
        study = self.asked.study
        small = ", reduced by [quick]" if study.quick else ""
        say(f"{study.source or study.name} is a valid study of the kind {study.spec.kind!r}{small}")
        for key in study.overrides:
            say(f"with {key}")
        if self.tasks:
            _print_counts(self.counts())
        if self.samples:
            say("training samples: " + ", ".join(f"{name} {n}" for name, n in self.samples.items()))
        if self.missing:
            say(
                f"the files of {', '.join(self.missing)} are not there: their rows will fail, and say where to get them"
            )
        for line in self._told(width):
            say(line)
        for problem in self.problems:
            say(f"cannot be run: {problem}")
        if not self.problems and self.foreseen.left:
            say(f"`certnet study run {self.asked.typed}` computes what is left")

    def _told(self, width: int) -> Iterator[str]:
        """Rows, time and memory."""
        if not self.tasks:
            return
        from certnet.study.progress import clock

        folder, seen = self.asked.folder, self.foreseen
        there = f"{len(self.rows)} of {len(self.tasks)} tasks have rows in {folder}"
        if self._store is not None and self._store.changed:
            there += f" (last run with other settings, different: {self._store.changed})"
        yield there
        if not seen.left:
            yield "nothing is left to compute"
            return
        if seen.seconds is None:
            yield "how long the rest takes is not known before a first row of every part"
        else:
            alone = clock(seen.seconds)
            shared = "" if width == 1 else f", {clock(seen.seconds / width)} with {width} processes"
            yield f"the rest takes about {alone} on one core{shared} ({_basis(seen)})"
        how = "as in rows that are there" if seen.memory_measured else "a rule of thumb"
        workers = "one process" if width == 1 else f"each of {width} processes"
        yield f"about {seen.memory:.0f} MB for {workers} ({how})"


def _basis(seen: Foreseen) -> str:
    if seen.measured == seen.left:
        return "as rows like them took"
    rule = "a rule of thumb, right within a factor of about three"
    return rule if not seen.measured else f"{seen.measured} of {seen.left} tasks as rows like them took, else {rule}"


def _part(task: Task[Settings]) -> str:
    """What a task does, in the words of its kind."""
    plain = task.settings.plain()
    return str(task.group.get("part") or plain.get("part") or task.kind)


def _print_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    rows: list[tuple[str, ...]] = [("part", "tasks", "done", "failed", "left")]
    rows += [(part, *(str(found[key]) for key in rows[0][1:])) for part, found in counts.items()]
    if len(counts) > 1:
        rows.append(("all", *(str(sum(found[key] for found in counts.values())) for key in rows[0][1:])))
    print_table(rows)
