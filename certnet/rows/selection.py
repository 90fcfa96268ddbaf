"""Which columns of a table with names are inputs, targets and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certnet.core.errors import InvalidInputError

__all__ = ["Selection", "Wanted", "as_names"]


@dataclass(frozen=True)
class Wanted:
    """What a user says of the columns of a table.

    Attributes
    ----------
    n_inputs, n_outputs : int
        Of the network.
    names : tuple of str
        Of the network's inputs, where it has them.
    columns : tuple of str
        Of the inputs, in the network's order; empty where the user does not say.
    targets : tuple of str
        Empty where y is given beside the table.
    weight : str or None
    """

    n_inputs: int
    n_outputs: int
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    weight: str | None = None

    @property
    def named(self) -> bool:
        """Does the user name any column?"""
        return bool(self.columns or self.targets or self.weight is not None)


@dataclass(frozen=True)
class Selection:
    """Names of the columns that are read: inputs in the network's order, targets, weight."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    weight: str | None

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.inputs, *self.targets, *(() if self.weight is None else (self.weight,)))

    @classmethod
    def of(cls, available: Sequence[str], wanted: Wanted, table: str) -> Selection:
        """Inputs are the columns that the user names, or those of the network's names, or all others in their order.

        Parameters
        ----------
        available : sequence of str
            The table's columns.
        wanted : Wanted
        table : str
            What the table is called in messages.

        Raises
        ------
        InvalidInputError
            A column is missing or there twice, or has two parts to play; another number of them than the network has.
        """
        beside = (*wanted.targets, *(() if wanted.weight is None else (wanted.weight,)))
        inputs = wanted.columns or wanted.names or tuple(name for name in available if name not in set(beside))
        for name in (*inputs, *beside):
            found = available.count(name)
            if found != 1:
                what = "no column" if not found else "two columns"
                advice = "; name the inputs, in the network's order, by columns=" if inputs is wanted.names else ""
                raise InvalidInputError(f"{table} has {what} {name!r}: it has {_some(available)}{advice}")
        twice = [name for name in set(inputs) if inputs.count(name) + beside.count(name) > 1]
        twice += [name for name in set(beside) if beside.count(name) > 1]
        if twice:
            raise InvalidInputError(
                f"column {min(twice)!r} is named twice: inputs, targets and weights are columns of their own"
            )
        if len(inputs) != wanted.n_inputs:
            raise InvalidInputError(
                f"{table} has {len(inputs)} columns for inputs ({_some(inputs)}), the network has {wanted.n_inputs} "
                "inputs: name them, in the network's order, by columns="
            )
        if wanted.targets and len(wanted.targets) != wanted.n_outputs:
            raise InvalidInputError(
                f"{len(wanted.targets)} target column(s) are named, the network has {wanted.n_outputs} output(s)"
            )
        return cls(inputs, wanted.targets, wanted.weight)


def as_names(value: object) -> tuple[str, ...] | None:
    """One name or several as a tuple; None where ``value`` is something else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
