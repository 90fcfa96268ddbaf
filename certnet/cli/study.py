"""``certnet study``: list, show, check, run, status, resume, collect, plot."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from certnet.cli.choices import WorkersOf
from certnet.cli.commands import Command, Group
from certnet.cli.study_asked import Asked, Jobs, Name, Names, Out, Quick, Set
from certnet.cli.study_check import check_command
from certnet.cli.terminal import Interrupted, Json, error_console, print_json, print_table, say, warn
from certnet.core.errors import CertnetError, FileFormatError, InvalidInputError

if TYPE_CHECKING:
    from certnet.study import Progress
    from certnet.study.tasks import Row

__all__ = ["study_app"]

study_app: typer.Typer = typer.Typer(
    cls=Group,
    help="Tables of experiments from a study file: the papers' own, or yours.\n\n"
    "Exit codes: 0 all rows done and all required checks hold, 1 a row failed or a check does not hold, 2 bad input, "
    "130 after Ctrl-C.",
    no_args_is_help=True,
)
study_app.command("check", cls=Command)(check_command)

Backend = Annotated[WorkersOf, typer.Option(help="loky: processes of this machine.", case_sensitive=False)]
Scheduler = Annotated[str | None, typer.Option(help="Address of the Dask scheduler: tcp://host:8786.")]
Shard = Annotated[str | None, typer.Option(help="i/n: the i-th of n parts of the tasks, for batch queues.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Run failed tasks again.")]
Wait = Annotated[float, typer.Option("--timeout", help="Seconds that a scheduler has to answer.")]

_SHOWN = 10
_LOG_EVERY = 30.0  # seconds between lines where nobody watches a bar


class Workers(NamedTuple):
    """Who computes, and what: options of :func:`certnet.study.run_study`."""

    n_jobs: int
    backend: str
    scheduler: str | None
    part: str | None
    retry_failed: bool
    timeout: float


@study_app.command("list", cls=Command)
def list_command(as_json: Json = False) -> None:
    """The studies that certnet brings along."""
    from certnet.study import builtin_studies, load_study

    studies = [load_study(name) for name in builtin_studies()]
    if as_json:
        print_json({study.name: {"kind": study.spec.kind, "title": study.spec.title} for study in studies})
        return
    rows = [(study.name, study.spec.kind, study.spec.title) for study in studies]
    print_table([("study", "kind", "what"), *rows], numbers=False)


@study_app.command("show", cls=Command)
def show_command(name: Name) -> None:
    """Print the study file, to copy and to change."""
    from certnet.study import load_study

    sys.stdout.write(load_study(name).text)


@study_app.command("run", cls=Command)
def run_command(
    names: Names,
    quick: Quick = False,
    overrides: Set = None,
    n_jobs: Jobs = 1,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    shard: Shard = None,
    out: Out = None,
    retry_failed: Retry = False,
    timeout: Wait = 10.0,
) -> None:
    """Compute the rows that the folder of a study does not have yet; of several studies in turn."""
    how = Workers(n_jobs, backend, scheduler, shard, retry_failed, timeout)
    _compute_all([Asked(one, quick, out, tuple(overrides or ())) for one in names], how)


@study_app.command("resume", cls=Command)
def resume_command(
    names: Names,
    quick: Quick = False,
    overrides: Set = None,
    n_jobs: Jobs = 1,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    shard: Shard = None,
    out: Out = None,
    retry_failed: Retry = False,
    timeout: Wait = 10.0,
) -> None:
    """Go on with a run that was ended; like run, but the folder must exist."""
    how = Workers(n_jobs, backend, scheduler, shard, retry_failed, timeout)
    several = [Asked(one, quick, out, tuple(overrides or ())) for one in names]
    _compute_all(several, how, begun=True)


@study_app.command("status", cls=Command)
def status_command(
    name: Name, quick: Quick = False, overrides: Set = None, out: Out = None, as_json: Json = False
) -> None:
    """How far a run is, whoever is at it."""
    from certnet.study import collect, progress_of

    asked = Asked(name, quick, out, tuple(overrides or ()))
    study, store, tasks = asked.study, asked.store(), asked.tasks
    progress = progress_of(store, tasks, damaged=_damaged)
    if as_json:
        counts = {name: getattr(progress, name) for name in ("done", "failed", "running", "left", "seconds_left")}
        print_json({"study": study.name, "total": progress.total, **counts})
        return
    say(f"{study.name} in {store.folder}: {progress}")
    _print_failed(_failed(collect(store, tasks, damaged=lambda _: None)))


@study_app.command("collect", cls=Command)
def collect_command(
    name: Name,
    quick: Quick = False,
    overrides: Set = None,
    out: Out = None,
    parquet: Annotated[
        bool | None, typer.Option("--parquet/--no-parquet", help="By default if pyarrow is installed.")
    ] = None,
) -> None:
    """Write all rows as one table: table.csv and table.parquet in the folder."""
    from certnet.core.files import write_atomic
    from certnet.study import collect, csv_text
    from certnet.study.parquet_ import can_write, parquet_bytes

    asked = Asked(name, quick, out, tuple(overrides or ()))
    store, tasks = asked.store(), asked.tasks
    rows = collect(store, tasks, damaged=_damaged)
    if not rows:
        raise InvalidInputError(f"{store.folder} has no rows yet: {asked.run_first}")
    written = [write_atomic(store.folder / "table.csv", csv_text(rows), force=True)]
    if parquet or (parquet is None and can_write()):
        written.append(write_atomic(store.folder / "table.parquet", parquet_bytes(rows), force=True))
    elif parquet is None:
        say('no Parquet file: it needs pyarrow (certnet[parquet]): pip install "pyarrow>=16"')
    say(f"{len(rows)} of {len(tasks)} rows in " + ", ".join(map(str, written)))


@study_app.command("plot", cls=Command)
def plot_command(name: Name, quick: Quick = False, overrides: Set = None, out: Out = None) -> None:
    """Write the study's page (page.md) with tables, checks and pictures."""
    from certnet.study import collect, write_page

    asked = Asked(name, quick, out, tuple(overrides or ()))
    store, tasks = asked.store(), asked.tasks
    rows = collect(store, tasks, damaged=_damaged)
    if not any(row["status"] == "done" for row in rows):
        raise InvalidInputError(f"{store.folder} has no finished rows yet: {asked.run_first}")
    written = write_page(asked.study, rows, len(tasks), store.folder)
    say(f"{written[0]} and {len(written) - 1} pictures")


def _damaged(error: FileFormatError) -> None:
    """Of a row that is left out."""
    warn(f"{error}; it is left out here, and `certnet study run` computes it again")


def _failed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["status"] != "done"]


def _print_failed(rows: list[Row]) -> None:
    for row in rows[:_SHOWN]:
        say(f"failed: {row['task']}: {row['reason']}")
    if len(rows) > _SHOWN:
        say(f"failed: and {len(rows) - _SHOWN} more")


def _compute_all(several: Sequence[Asked], how: Workers, *, begun: bool = False) -> None:
    """One study after the other; what is wrong with one does not keep the others from being run.

    Raises
    ------
    InvalidInputError
        Several studies, and one folder for all.
    """
    if len(several) > 1 and several[0].out is not None:
        raise InvalidInputError(
            "--out is the folder of one study, and several are named: leave it out, or run them singly"
        )
    if len(several) == 1:
        if not _compute(several[0], how, begun=begun):
            raise typer.Exit(1)
        return
    codes = [_code_of(asked, how, begun=begun) for asked in several]
    told = {0: "done", 1: "a row failed or a check does not hold", 2: "could not be run"}
    print_table(
        [("study", "came to"), *((asked.name, told[code]) for asked, code in zip(several, codes))], numbers=False
    )
    if any(codes):
        raise typer.Exit(max(codes))


def _code_of(asked: Asked, how: Workers, *, begun: bool) -> int:
    """Exit code of one of several studies, whose refusal is printed."""
    say(f"— {asked.name}")
    try:
        return 0 if _compute(asked, how, begun=begun) else 1
    except Interrupted:
        raise
    except CertnetError as error:
        error_console().print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2


def _compute(asked: Asked, how: Workers, *, begun: bool) -> bool:
    """Run a study and tell what it came to; did all rows and required checks hold? ``begun``: it must have been."""
    if begun:
        asked.store(writing=True)
    from certnet.study import collect, run_study
    from certnet.study.load import kind_of
    from certnet.study.page import grid

    study, folder, typed = asked.study, asked.folder, asked.typed
    with _watching(study.name) as watch:
        try:
            store = run_study(study, folder, watch=watch, tell=warn, **how._asdict())
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted: finished rows are kept in {folder}; go on with `certnet study resume {typed}`"
            ) from error
    kind, tasks = kind_of(study), asked.tasks
    rows = collect(store, tasks)
    report = kind.report(study, rows)
    for table in report.tables:
        say(f"{table.title}\n{grid(table)}\n" + (f"{table.note}\n" if table.note else ""))
    for check in report.checks:
        if not (check.cases or check.violations):
            continue
        say(f"{check.statement}: {check.verdict}")
        for violation in check.violations[:_SHOWN]:
            say(f"  {violation}")
    for warning in report.warnings[:_SHOWN]:
        warn(str(warning))
    if len(report.warnings) > _SHOWN:
        warn(f"{len(report.warnings) - _SHOWN} more such sentences are on the page")
    failed = _failed(rows)
    _print_failed(failed)
    if failed:
        say(f"`certnet study resume {typed} --retry-failed` tries the failed tasks again")
    then = f"`certnet study plot {typed}` writes the page, `collect` the table"
    say(f"{len(rows)} of {len(tasks)} rows in {folder}; {then}")
    return not failed and not any(check.required and check.violations for check in report.checks)


@contextmanager
def _watching(name: str) -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left on a terminal, a line now and then elsewhere; both move while tasks are in progress."""
    seen: list[tuple[Progress, float]] = []

    def now() -> str:
        progress, at = seen[-1]
        return str(progress.after(time.monotonic() - at))

    if error_console().is_terminal:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        class Said(TextColumn):
            def render(self, task: Any) -> Any:
                task.fields["said"] = now() if seen else ""
                return super().render(task)

        with Bars(
            TextColumn("{task.description}"), BarColumn(), Said("{task.fields[said]}"), console=error_console()
        ) as bars:
            bar = bars.add_task(name, total=None, said="")

            def draw(progress: Progress) -> None:
                seen[:] = [(progress, time.monotonic())]
                bars.update(bar, total=progress.total, completed=progress.done + progress.failed)

            yield draw
        return
    over = threading.Event()

    def line() -> None:
        error_console().print(f"{name}: {now()}", highlight=False, markup=False, soft_wrap=True)

    def tick() -> None:
        while not over.wait(_LOG_EVERY):
            line()

    def watch(progress: Progress) -> None:
        begins = not seen
        seen[:] = [(progress, time.monotonic())]
        if begins or progress.left == 0:
            line()
        if begins:
            ticking.start()

    ticking = threading.Thread(target=tick, daemon=True)
    try:
        yield watch
    finally:
        over.set()
