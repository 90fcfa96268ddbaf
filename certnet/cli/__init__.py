"""The command line: reads files, calls the package, prints; exit codes in ``certnet --help``."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

import certnet
from certnet.cli.certify import certify_command
from certnet.cli.check import check_command
from certnet.cli.lifted import lifted_app
from certnet.cli.refine import refine_command
from certnet.cli.study import study_app
from certnet.cli.terminal import Interrupted, error_console, warn
from certnet.cli.tools import demo_command, doctor_command
from certnet.core.errors import CertificateError, CertnetError, CertnetWarning, SolverError

__all__ = ["app", "main"]

app = typer.Typer(
    name="certnet",
    help="Refine pretrained regressors of any depth and certify their Lipschitz constants.\n\n"
    "Exit codes: 0 success, 1 a certificate does not hold, 2 bad input or usage, 3 a solver failed or is missing, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _command in (
    ("certify", certify_command),
    ("refine", refine_command),
    ("check", check_command),
    ("demo", demo_command),
    ("doctor", doctor_command),
):
    app.command(_name)(_command)
app.add_typer(lifted_app, name="lifted")
app.add_typer(study_app, name="study")


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"certnet {certnet.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step to standard error.")] = False,
) -> None:
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def main() -> None:
    """Run the command line; certnet's errors become one line on standard error and an exit code."""
    warnings.simplefilter("default", CertnetWarning)
    warnings.showwarning = warn  # type: ignore[assignment]
    try:
        app()
    except Interrupted as error:
        error_console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()
        os._exit(130)  # the solver still runs in its thread, and would be waited for
    except CertnetError as error:
        error_console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(3 if isinstance(error, SolverError) else 1 if isinstance(error, CertificateError) else 2)
