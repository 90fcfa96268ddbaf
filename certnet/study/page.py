"""The page of a study: what was run, what came out, where it differs from the paper and why; all from the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from certnet.core.errors import OutputError
from certnet.core.files import write_atomic
from certnet.study.kinds.reports import Report, ReportTable, Rise
from certnet.study.kinds.statistics import failures, grouped
from certnet.study.load import kind_of
from certnet.study.progress import clock
from certnet.study.spec import Study, StudySpec
from certnet.study.tasks import Row

__all__ = ["PAGE", "grid", "markdown", "write_page"]

PAGE = "page.md"


def write_page(study: Study[StudySpec], rows: Sequence[Row], n_tasks: int, folder: Path) -> list[Path]:
    """Write ``page.md`` and its pictures (PNG and SVG) to the folder, replacing older ones.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    OutputError
        The folder cannot be written.
    """
    from certnet.plot import save_figure

    kind = kind_of(study)
    report, figures = kind.report(study, rows), kind.pictures(study, rows)
    target = folder / "pictures"
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {target}: {error.strerror}") from error
    written = [
        save_figure(figure, target / f"{_file_name(name)}{suffix}", force=True)
        for name, figure in figures.items()
        for suffix in (".png", ".svg")
    ]
    text = markdown(study, rows, n_tasks, report, [_file_name(name) for name in figures])
    return [write_atomic(folder / PAGE, text, force=True), *written]


def markdown(
    study: Study[StudySpec], rows: Sequence[Row], n_tasks: int, report: Report, pictures: Sequence[str]
) -> str:
    """The page's text; ``pictures`` are names of files in ``pictures/`` without suffix."""
    spec = study.spec
    parts = [f"# {spec.title or study.name}"]
    if spec.source:
        parts.append(spec.source)
    parts += ["## What was run", "\n".join(_what(study, rows, n_tasks))]
    if spec.choices:
        parts += ["## Choices", "What the source leaves open, and what was chosen here:", _bullets(spec.choices)]
    parts += [text for table in report.tables for text in (f"## {table.title}", grid(table), table.note) if text]
    if report.warnings:
        parts += ["## What rose", *_rises(report.warnings)]
    if report.checks:
        parts += ["## Checks", "\n".join(_checks(report))]
    if report.notes:
        parts += ["## Notes", *report.notes]
    if pictures:
        parts += ["## Pictures", *(f"![{name}](pictures/{name}.svg)" for name in pictures)]
    failed = failures(rows)
    if failed:
        parts += ["## Failures", _bullets([f"{row['task']}: {row['reason']}" for row in failed])]
    parts += ["## Study file", f"```toml\n{study.text.strip()}\n```"]
    if study.overrides:
        parts += ["With these keys in place of the file's:", "```toml\n" + "\n".join(study.overrides) + "\n```"]
    return "\n\n".join(parts) + "\n"


def _what(study: Study[StudySpec], rows: Sequence[Row], n_tasks: int) -> Iterator[str]:
    spec = study.spec
    small = ", reduced by `[quick]`" if study.quick else ""
    yield f"- study `{study.name}`{small}: {len(rows)} of {n_tasks} tasks, {len(failures(rows))} of them failed"
    data = f"data: {', '.join(spec.data_names)}; trials: {spec.trials}; " if spec.data_names else ""
    yield f"- {data}seed: {spec.seed}"
    if kind_of(study).attacked:
        attack = spec.attack
        radii = ", ".join(f"{epsilon:g}" for epsilon in attack.epsilons)
        how = f"{attack.steps} steps, {attack.restarts} starts"
        yield f"- attack: {attack.norm}, radii {radii}, {how}; standardised units"
    if rows:
        yield f"- computing time: {clock(sum(row['seconds'] for row in rows))} on one core at a time"
        for said in dict.fromkeys(_versions(row) for row in rows):
            yield f"- versions: {said}"


def _rises(found: Sequence[Rise]) -> Iterator[str]:
    """What to try, and below it where: a sentence and a list for each advice."""
    for head, same in grouped(found, lambda one: one.head).items():
        yield head
        yield _bullets([one.item for one in same])


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {number}" for name, number in row["versions"].items())


def _checks(report: Report) -> Iterator[str]:
    for check in report.checks:
        shown = "; ".join(check.violations[:5]) + ("; …" if len(check.violations) > 5 else "")
        yield f"- {check.statement}: **{check.verdict}**" + (f" ({shown})" if shown else "")


def grid(table: ReportTable) -> str:
    """The table in Markdown, its columns aligned so that it reads as text too."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in table.rows]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def _bullets(lines: Sequence[Any]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
