"""Studies as the command line names them: options that commands share, and the study and folder that they ask for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certnet.cli.terminal import warn

if TYPE_CHECKING:
    from certnet.study import Store, Study
    from certnet.study.spec import StudySpec
    from certnet.study.tasks import Settings, Task

__all__ = ["Asked", "Jobs", "Name", "Names", "Out", "Quick", "Set"]

Name = Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="A built-in study, or a study file (TOML).")]
Names = Annotated[list[str], typer.Argument(metavar="NAME_OR_FILE…", help="Built-in studies, or study files (TOML).")]
Quick = Annotated[bool, typer.Option("--quick", help="The reduced version that the file declares in \\[quick].")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; by default out/NAME, with -quick added.")]
Jobs = Annotated[int, typer.Option("--n-jobs", "--jobs", help="Worker processes on this machine; -1 is one per core.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A key in place of the file's, as trials=3 or attack.norm=linf; may be repeated.",
        metavar="KEY=VALUE",
    ),
]


@dataclass(frozen=True)
class Asked:
    """A study and its folder, as the command line names them."""

    name: str
    quick: bool
    out: Path | None
    overrides: tuple[str, ...] = ()

    @cached_property
    def study(self) -> Study[StudySpec]:
        from certnet.study import load_study

        return load_study(self.name, quick=self.quick, overrides=self.overrides)

    @property
    def folder(self) -> Path:
        return self.out if self.out is not None else Path("out") / (self.study.name + ("-quick" if self.quick else ""))

    @property
    def typed(self) -> str:
        """The words that name it on the command line, again."""
        out = [] if self.out is None else ["--out", str(self.out)]
        over = [word for text in self.overrides for word in ("--set", text)]
        return shlex.join([self.name, *(["--quick"] if self.quick else []), *over, *out])

    @property
    def run_first(self) -> str:
        named = "" if self.out is not None else ", or name its --out"
        return f"run `certnet study run {self.typed}` first{named}"

    @property
    def tasks(self) -> Sequence[Task[Settings]]:
        from certnet.study.load import kind_of

        return kind_of(self.study).tasks(self.study)

    def store(self, *, writing: bool = False) -> Store:
        """The folder of a run that there is."""
        from certnet.study import Store

        store = Store.open(self.folder, self.study, writing=writing, advice=self.run_first)
        if store.changed and not writing:
            warn(
                f"{store.folder} was last run with other settings (different: {store.changed}): what is told are the "
                "rows of the present ones; --set names others"
            )
        return store
