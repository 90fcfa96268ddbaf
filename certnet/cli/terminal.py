"""What the commands share: reading options, printing, and work that Ctrl-C can stop."""

from __future__ import annotations

import functools
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from certnet.cli.choices import SolverName
from certnet.core.errors import CertnetError

if TYPE_CHECKING:
    from rich.console import Console

    from certnet.networks.feedforward import FeedForward
    from certnet.networks.shallow import ShallowNetwork

__all__ = [
    "STOPPED",
    "Activation",
    "Force",
    "Interrupted",
    "Json",
    "Layer",
    "Model",
    "Solver",
    "error_console",
    "finite_or_none",
    "interruptible",
    "print_json",
    "print_table",
    "read_network",
    "say",
    "say_compiling",
    "undisturbed",
    "warn",
    "working",
]

_PATIENCE = 20.0  # seconds that interrupted work has to hand over what it has
_BLINK = 0.01  # seconds in which a Ctrl-C may be lost to a solver that begins; the next one is heard
_NOTICED = 1.0  # seconds
STOPPED = "interrupted: files are complete or absent"

T = TypeVar("T")
Model = Annotated[
    Path,
    typer.Argument(
        help="Network: .npz, .onnx, .pt/.pth/.ckpt (torch state dict), .safetensors, .keras, .nnet or .mat."
    ),
]
Activation = Annotated[
    list[str] | None,
    typer.Option(help="Activation of a MODEL that is a list of matrices; given once for all layers, or once for each."),
]
Layer = Annotated[
    list[str] | None, typer.Option(help="Name of a layer in such a MODEL; repeated, in the order of their use.")
]
Key = Annotated[str | None, typer.Option(help="Of a checkpoint with several state dicts: under which key it is.")]
BatchNormEps = Annotated[
    float | None, typer.Option(help="eps of a state dict's BatchNorm, which the file does not hold: PyTorch's is 1e-5.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Solver = Annotated[
    SolverName,
    typer.Option(help="auto and CERTNET are certnet's own; `certnet doctor` tells the others.", case_sensitive=False),
]


@functools.cache
def error_console() -> Console:
    """Standard error, in colours where it is a terminal; rich is loaded for those who need it."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def working(stage: str) -> Iterator[Any]:
    """A spinner with the stage's name, on the terminal only."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    with error_console().status(stage) as status:
        yield lambda text: status.update(text)


def read_network(
    model: Path,
    activation: list[str] | None,
    layer: list[str] | None,
    key: str | None,
    batch_norm_eps: float | None,
    *,
    quiet: bool = False,
) -> ShallowNetwork | FeedForward:
    """The network in a file; unless ``quiet`` (as for JSON), what was read is printed first."""
    from certnet.io import load_model

    one = activation[0] if activation is not None and len(activation) == 1 else activation
    network = load_model(model, activation=one or None, layers=layer or None, key=key, batch_norm_eps=batch_norm_eps)
    if network.about.read and not quiet:
        say(f"read {network.about.read}")
        for remark in network.about.remarks:
            say(f"  {remark}")
    return network


class Interrupted(CertnetError):
    """Ctrl-C while a solver runs in its thread."""


def interruptible(work: Callable[[], T], stop: threading.Event | None = None, lost: str = STOPPED) -> T:
    """``work()`` in a thread, so that Ctrl-C is heard while a compiled solver runs.

    With ``stop``, which the work heeds, it is set first, and what the work then gives is returned if it comes soon;
    ``lost`` is what is said where nothing does, or a second Ctrl-C does not wait for it.

    Raises
    ------
    Interrupted
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure.append(error)
        finally:
            done.set()

    # an event, because an interrupted Thread.join takes a running thread for a finished one
    done = threading.Event()
    handler = signal.getsignal(signal.SIGINT)
    try:
        threading.Thread(target=run, daemon=True).start()
        while not done.wait(_BLINK):
            # SCS takes Ctrl-C for itself when it begins, and heeds it only between iterations, which may take minutes
            signal.signal(signal.SIGINT, handler)
    except KeyboardInterrupt as error:
        if stop is not None:
            stop.set()
            with suppress(KeyboardInterrupt):
                done.wait(_PATIENCE)
        if not outcome:
            raise Interrupted(lost) from error
    if failure:
        if isinstance(failure[0], KeyboardInterrupt):  # heard by the solver
            raise Interrupted(lost) from failure[0]
        raise failure[0]
    return outcome[0]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: for files that belong together, and take no time to write."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


def print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def say_compiling(seconds: float) -> None:
    """Print what compiled kernels took beside the work, where it is noticed; JSON tells it always."""
    if seconds >= _NOTICED:
        say(f"compiled kernels were made or loaded in {seconds:.1f} s more")


def print_table(rows: list[tuple[str, ...]], *, numbers: bool = True) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    head, *body = rows
    grid = Table(*head)
    for column in grid.columns[1:]:
        column.justify = "right" if numbers else "left"
    for row in body:
        grid.add_row(*map(escape, row))
    Console().print(grid)


def finite_or_none(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def warn(message: Warning | str, *_: object, **__: object) -> None:
    error_console().print(f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True)
