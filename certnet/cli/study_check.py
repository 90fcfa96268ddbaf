"""``certnet study check``: what a run would do, without doing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import typer

from certnet.cli.study_asked import Asked, Jobs, Name, Out, Quick, Set
from certnet.cli.terminal import Json, print_json, print_table, say
from certnet.core.errors import CertnetError, FileFormatError, OutputError

if TYPE_CHECKING:
    from certnet.study import Store
    from certnet.study.estimate import Foreseen
    from certnet.study.tasks import Row, Settings, Task

__all__ = ["check_command"]

_SHOWN: Final = 5


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
    if plan.problems or plan.missing:
        raise typer.Exit(2)
    if plan.failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Plan:
    """A study that is to be run."""

    asked: Asked

    @cached_property
    def problems(self) -> list[str]:
        """What a run would be refused for, or one that tries failed tasks again."""
        from certnet.study.kinds.splits import data_problems
        from certnet.study.load import kind_of
        from certnet.study.packages import missing_packages

        study = self.asked.study
        found = [*data_problems(study), *self._folder_problem, *missing_packages(self.tasks, self._not_done)]
        try:
            kind_of(study).check(study)
        except CertnetError as error:
            found.append(str(error))
        return found

    @cached_property
    def missing(self) -> dict[str, int]:
        """Image sets whose files are not there, and how many tasks without a good row are of them."""
        if self.asked.study.spec.kind != "lifted":
            return {}
        from certnet.study.kinds.lifted.images import available

        counts = Counter(task.group["data"] for task in self._not_done)
        return {name: count for name, count in counts.items() if not available(name)}

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
    def failed(self) -> list[Row]:
        """Rows of tasks that failed, which a run leaves as they are."""
        return [row for row in self.rows.values() if row["status"] != "done"]

    @cached_property
    def _not_done(self) -> list[Task[Settings]]:
        """Tasks without a row, or with a failed one."""
        done = {digest for digest, row in self.rows.items() if row["status"] == "done"}
        return [task for task in self.tasks if task.digest not in done]

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
            "missing_images": list(self.missing),
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
        for line in self._told(width):
            say(line)
        for line in self._told_of_failures():
            say(line)
        for name, count in self.missing.items():
            say(f"missing: {_where_to_get(name)}; {count} {'tasks' if count > 1 else 'task'} will fail without")
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
            yield "nothing is left to compute" + (" but what failed" if self.failed else "")
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

    def _told_of_failures(self) -> Iterator[str]:
        """The first ones with their reasons, and how to run them again."""
        if not self.failed:
            return
        for row in self.failed[:_SHOWN]:
            yield f"failed: {row['task']}: {row['reason']}"
        if len(self.failed) > _SHOWN:
            yield f"failed: and {len(self.failed) - _SHOWN} more"
        them = f"the {len(self.failed)} failed tasks" if len(self.failed) > 1 else "the failed task"
        first = ", once nothing is missing" if self.problems or self.missing else ""
        yield f"`certnet study resume {self.asked.typed} --retry-failed` runs {them} again{first}"


def _where_to_get(name: str) -> str:
    """What is said of an image set whose files are not there."""
    from certnet.study.kinds.lifted.images import require

    try:
        require(name)
    except CertnetError as error:
        return str(error)
    return name


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
