"""``certnet certify --features``: intervals of the slopes along every input, as a table, a file and a picture."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from certnet.claims.region import Region
from certnet.cli.regions import say_region
from certnet.cli.terminal import interruptible, print_json, print_table, say, working
from certnet.core.digits import above, below
from certnet.core.errors import CertificateError, InvalidInputError, OutputError
from certnet.core.files import check_writable
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.slopes import SlopeIntervals

__all__ = ["Features", "refuse_others"]

_PICTURES: Final = (".png", ".svg")
_SHOWN: Final = 60  # rows that are printed


@dataclass(frozen=True)
class Features:
    """What is asked for, and where it goes.

    Attributes
    ----------
    options : dict
        Of :func:`certnet.certify_features`.
    out, plot : Path or None
        Files of the intervals and of the picture.
    force, as_json : bool
    """

    options: dict[str, Any]
    out: Path | None = None
    plot: Path | None = None
    force: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.plot is not None and self.plot.suffix.lower() not in _PICTURES:
            raise OutputError(f"{self.plot} has the suffix {self.plot.suffix!r}: pictures are {', '.join(_PICTURES)}")
        for path in (self.out, self.plot):
            if path is not None:
                check_writable(path, force=self.force)

    def certify(self, network: ShallowNetwork | FeedForward, region: Region, names: Sequence[str]) -> None:
        """Prove the intervals, check them, and tell them.

        Raises
        ------
        CertificateError
            They cannot be proved, or not be proved again.
        """
        if names and not network.about.inputs:  # of the files of the region
            network = network.described(replace(network.about, inputs=tuple(names)))
        if self.plot is not None and network.n_outputs > 1 and self.options.get("output") is None:
            raise InvalidInputError(f"--plot shows one of {network.n_outputs} outputs: choose it by --output")
        from certnet.certification import certify_features  # here: certify without --features needs none of it

        stop = threading.Event()
        begin = time.perf_counter()
        with working(f"slopes of {network!r}"):
            held = interruptible(
                lambda: certify_features(network, region=region, should_stop=stop.is_set, **self.options), stop
            )
        seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        verdict = held.check(network)
        spent = time.perf_counter() - begin
        if not verdict:
            raise CertificateError(verdict.reason)
        if self.out is not None:
            held.save(self.out, force=self.force)
        if self.plot is not None:
            from certnet.plot import SlopesDisplay, save_figure  # matplotlib is for those who ask for a picture

            save_figure(SlopesDisplay.from_intervals(held).figure_, self.plot, force=self.force)
        if self.as_json:
            print_json(json.loads(held.to_json()))
            return
        _print(held)
        say(f"proved in {seconds:.3f} s, and again in {spent:.4f} s")
        for path, what in ((self.out, "intervals"), (self.plot, "picture")):
            if path is not None:
                say(f"{what} written to {path}")


def _print(held: SlopeIntervals) -> None:
    rows = held.table()
    several = len(held.output_names) > 1
    head = ("input", "at least", "at most", "proved")
    lines: list[tuple[str, ...]] = [("output", *head) if several else head]
    for row in rows[:_SHOWN]:
        cells = (row.name, below(row.lower, 5), above(row.upper, 5), row.verdict)
        lines.append((row.output, *cells) if several else cells)
    what = "" if several else f" of {held.output_names[0]}"
    say(f"slopes{what} along every input, the largest first ({held.units} units of both)")
    print_table(lines)
    if len(rows) > _SHOWN:
        say(f"… {len(rows)} rows in all; --out writes every interval")
    say_region(held.region, held.norm, held.input_names, slope=False)
    if not held.region.words:
        say("for all inputs")


def refuse_others(given: dict[str, bool]) -> None:
    """Options of certify that say nothing of slopes by feature.

    Raises
    ------
    InvalidInputError
    """
    wrong = [f"--{name}" for name, there in given.items() if there]
    if wrong:
        raise InvalidInputError(f"--features is of slopes input by input: leave out {', '.join(wrong)}")
