"""A refinement as the command line tells it: what was asked of slopes, what rose, text and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from certnet.certification import Certificate, certify, meaning
from certnet.claims.region import ALL, Region
from certnet.cli.asked import Asked
from certnet.cli.regions import plain_region, say_region
from certnet.cli.tables import squared_error
from certnet.cli.terminal import finite_or_none, print_table, say, say_compiling, warn
from certnet.core.digits import above, below
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement.rises import Change, Knob
from certnet.rows import Rows

if TYPE_CHECKING:
    from certnet.refinement import RefineResult

__all__ = ["Done", "Limits", "Told"]


@dataclass(frozen=True)
class Limits:
    """On the slopes along inputs, by their index."""

    signs: dict[int, int]
    ends: dict[int, tuple[float, float]]

    def options(self) -> dict[str, Any]:
        return {"monotonic_cst": self.signs or None, "slope_limits": self.ends or None}

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self.signs, *self.ends}))


@dataclass(frozen=True, eq=False)
class Done:
    """A refinement; its network and certificate in the model's own units.

    ``everywhere`` is of all inputs, where ``certificate`` is of a region.
    """

    record: RefineResult
    network: ShallowNetwork | FeedForward
    certificate: Certificate
    everywhere: Certificate | None = None

    @classmethod
    def of(
        cls, record: RefineResult, network: Network, certificate: Certificate, everywhere: Certificate | None = None
    ) -> Self:
        """With a network of layers, which files are of."""
        return cls(record, cast("ShallowNetwork | FeedForward", network), certificate, everywhere)


@dataclass(frozen=True, eq=False)
class Told:
    """A refinement as it is told."""

    before: ShallowNetwork | FeedForward
    rows: Rows
    held_out: Rows | None
    asked: Asked
    limits: Limits
    done: Done
    region: Region = ALL
    names: Sequence[str] = ()

    @cached_property
    def errors(self) -> tuple[float, float]:
        """On the table, before and after, in the model's own units."""
        return squared_error(self.before, self.rows), squared_error(self.done.network, self.rows)

    @cached_property
    def validation(self) -> tuple[float, float] | None:
        """On held-out rows."""
        rows = self.held_out
        return None if rows is None else (squared_error(self.before, rows), squared_error(self.done.network, rows))

    @cached_property
    def upper_before(self) -> float:
        """The certified constant of the model, in the region if there is one."""
        if self.asked.standardise:
            return certify(self.before, region=self.region).upper
        return self.done.record.certificate_before.upper

    @property
    def notes(self) -> list[str]:
        """Sentences on what rose although the objective did not, and on a network that nothing is left of."""
        found, record = [], self.done.record
        before, after = record.certificate_before.upper, record.certificate.upper
        if after == 0.0 < before and self.asked.target_lipschitz != 0.0:
            units = "; it is in standardised units, in which the target has variance 1" if self._in_units else ""
            found.append(f"the refined network is constant: {self._knob.closer} lets it follow the data{units}")
        if record.improved and Change(before, after).rose:
            units = " in standardised units" if self.asked.standardise else ""
            found.append(f"the certified L rose from {above(before, 4)} to {above(after, 4)}{units}: {self._why}")
        held_out = None if self.validation is None else Change(*self.validation)
        if record.improved and held_out is not None and held_out.rose:
            found.append(
                f"the error on held-out rows rose {held_out} while the training objective fell; "
                f"{self._knob.advice(Change(*self.errors), held_out)}"
            )
        return found

    @property
    def _in_units(self) -> bool:
        return self.asked.standardise and self.asked.max_mse is not None

    @property
    def _knob(self) -> Knob:
        return Knob.of(self.done.record.goal, shell=True)

    @property
    def _why(self) -> str:
        """L may rise."""
        if self.asked.target_lipschitz is not None:
            return f"--target-lipschitz allows it, and the fit gained; {self._knob.flatter} keeps it down"
        if self.asked.max_mse is not None:
            return f"the model's error was above --max-mse; {self._knob.flatter} keeps it down"
        return "the fit gained more than the weight charges; a larger --weight, or --target-lipschitz, keeps it down"

    @cached_property
    def slopes(self) -> dict[str, tuple[float, float]]:
        """Proved for all inputs, of those that something was asked of."""
        chosen = list(self.limits)
        if not chosen:
            return {}
        proof = SlopeIntervals.of(self.done.network)
        return {self.rows.names[i]: (float(proof.lower[0, i]), float(proof.upper[0, i])) for i in chosen}

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        record, claim = self.done.record, self.done.certificate
        return {
            "improved": record.improved,
            "status": record.status.name,
            "advice": record.status.advice,
            "effort": self.asked.told_effort,
            "weight": self.asked.charge,
            "objective_units": "standardised" if self.asked.standardise else self.before.units,
            "objective_before": finite_or_none(record.objective_before),
            "objective_after": finite_or_none(record.objective_after),
            "units": self.done.network.units,
            "lipschitz_upper_before": self.upper_before,
            "lipschitz_upper_after": claim.upper,
            "lipschitz_lower_after": claim.lower,
            "lipschitz_upper_everywhere": None if self.done.everywhere is None else self.done.everywhere.upper,
            "region": plain_region(self.region, "l2"),
            "duality_gap": finite_or_none(record.gap),
            "floor": None if record.floor is None else record.floor.value,
            "mse_before": self.errors[0],
            "mse_after": self.errors[1],
            "validation": self.validation and dict(zip(("mse_before", "mse_after"), self.validation)),
            "slopes": self.slopes,
            "notes": self.notes,
            "widths": list(self.done.network.widths),
            "seconds": record.trace[-1].seconds,
            "compile_seconds": self._compiling(),
        }

    def print(self) -> None:
        """As text."""
        record = self.done.record
        rows: list[tuple[str, ...]] = [("stage", "objective", "train error", "L at most", "kept", "s")]
        for row in record.trace:
            upper = "" if row.upper != row.upper else above(row.upper, 5)
            kept = "yes" if row.accepted else "no"
            rows.append((row.stage, f"{row.objective:.6g}", f"{row.mse:.6g}", upper, kept, f"{row.seconds:.1f}"))
        print_table(rows)
        say_compiling(self._compiling())
        if self.asked.standardise:
            say("the table is in units standardised by the data; network and certificate are in the model's own")
        say(f"{record.status.name}: {record.status.advice}{self._gap()}")
        if record.floor is not None:
            say(
                f"no function, of any width or depth, has an objective below {below(record.floor.value)}: "
                f"{above(record.optimality_gap, 3)} less"
            )
        if not record.improved:
            say("not improved: the network that is written is the input")
        say(f"mean squared error on the training rows {self.errors[0]:.4g} -> {self.errors[1]:.4g}")
        if self.validation is not None:
            say(f"mean squared error on held-out rows {self.validation[0]:.4g} -> {self.validation[1]:.4g}")
        else:
            say("the error on new data may have risen all the same: --validation tells it on a table of held-out rows")
        say(f"certified L at most {above(self.upper_before, 5)} -> {above(self.done.certificate.upper, 5)}")
        for name, (low, high) in self.slopes.items():
            say(
                f"the slope along {name!r} is proved to lie between {below(low, 4)} and {above(high, 4)} for all inputs"
            )
        for note in self.notes:
            warn(note)
        say(meaning(self.done.certificate))
        say_region(self.region, "l2", self.names)
        if self.done.everywhere is not None:
            say(f"for all inputs L is at most {above(self.done.everywhere.upper, 5)}")

    @staticmethod
    def _compiling() -> float:
        from certnet.kernels.compilation import compile_seconds  # here, as numba, which a refinement has loaded by now

        return compile_seconds()

    def _gap(self) -> str:
        gap = self.done.record.gap
        if gap != gap:
            return ""
        of = " of the last two layers in their cell" if self.before.depth > 1 else ""
        return f" (duality gap {gap:.1e}{of})"
