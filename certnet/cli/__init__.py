"""The command line: reads files, calls the package, prints; exit codes in ``certnet --help``."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.main import get_command, get_group

import certnet
from certnet.cli.commands import Command, Group
from certnet.cli.terminal import Interrupted, error_console, warn
from certnet.core.errors import (
    CertificateError,
    CertnetError,
    CertnetWarning,
    InvalidInputError,
    OutputError,
    SolverError,
)
from certnet.core.spelling import did_you_mean

__all__ = ["app", "main"]

# where the commands live, and the line that --help has of each: a module is loaded when its command runs
_COMMANDS: Final = {
    "certify": (
        "certify:certify_command",
        "Bracket the Lipschitz constant of MODEL: a proved upper bound, a proved lower one.",
    ),
    "refine": (
        "refine:refine_command",
        "Refine MODEL, of any depth, on a table: never worse on its training objective, with a certificate.",
    ),
    "check": (
        "check:check_command",
        "Check CERTIFICATE, or slope intervals, against MODEL from the data: exit 0 if it holds, 1 if not, and why.",
    ),
    "demo": (
        "tools:demo_command",
        "Train, certify, refine, certify, check and attack on scikit-learn's diabetes data; write a report.",
    ),
    "doctor": (
        "tools:doctor_command",
        "Which solvers and optional packages are installed and usable, and why not.",
    ),
    "lifted": (
        "lifted:lifted_app",
        "Lifted networks: activations that minimise a convex energy, with certified Lipschitz bounds.",
    ),
    "study": (
        "study:study_app",
        "Tables of experiments from a study file: the papers' own, or yours.",
    ),
}


_COMPLETION: Final = ("--install-completion", "--show-completion")
_SHELLS: Final = ("bash", "zsh", "fish", "powershell", "pwsh")


class _Commands(Group):
    """Commands that --help lists by their line alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        asked = next((arg for arg in args if arg in _COMPLETION), None)
        if asked is None:
            return super().parse_args(ctx, args)
        shell = next((arg for arg in args[args.index(asked) + 1 :][:1] if not arg.startswith("-")), None)
        if shell is not None and shell not in _SHELLS:
            raise InvalidInputError(
                f"{asked} is for {', '.join(_SHELLS)}, without a word for the shell that it is typed in, got {shell!r}"
                f"{did_you_mean(shell, _SHELLS)}"
            )
        try:
            if shell is None:
                return super().parse_args(ctx, args)
            for param in self.params:  # typer's own callback knows the shells, its option takes none of them
                if asked in param.opts and param.callback is not None:
                    with ctx:
                        param.callback(ctx, param, shell)
        except OSError as error:
            what = f"{error.filename or 'the file of the shell'}: {error.strerror}"
            raise OutputError(
                f"completion was not installed ({what}): certnet --show-completion prints the script, for a file that "
                "your shell reads"
            ) from error
        except typer.Exit as error:
            if not error.exit_code:
                raise
            # its 1 would say that a certificate does not hold
            raise InvalidInputError(f"which shell this is cannot be told: name it, {asked} bash") from error
        return []

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else _loaded(name), rest


def _loaded(name: str) -> Any:
    module, attribute = _COMMANDS[name][0].split(":")
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return get_group(found)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, cls=Command)(found)
    return get_command(alone)


app: typer.Typer = typer.Typer(
    name="certnet",
    cls=_Commands,
    help="Refine pretrained regressors of any depth and certify their Lipschitz constants.\n\n"
    "Exit codes: 0 success, 1 a certificate does not hold, 2 bad input or usage, 3 a solver left nothing or is "
    "missing, or no network is within the limits, 70 an error of certnet's own, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _name, _home in _COMMANDS.items():
    app.command(_name, help=_home[1])(lambda: None)


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
        error_console().print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()
        os._exit(130)  # the solver still runs in its thread, and would be waited for
    except CertnetError as error:
        error_console().print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(3 if isinstance(error, SolverError) else 1 if isinstance(error, CertificateError) else 2)
    except Exception:  # noqa: BLE001 - Python would exit with 1, which says that a certificate does not hold
        traceback.print_exc()
        error_console().print("this is an error of certnet: please report it", style="red", highlight=False)
        sys.exit(70)
