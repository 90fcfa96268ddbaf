"""Kinds of proof and of witness by name: those who prove register here, certificates find what they carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from certnet.claims.claim import Claim
from certnet.claims.verdict import Verdict
from certnet.core.validation import Float

__all__ = [
    "Kind",
    "Multipliers",
    "Proof",
    "Unknown",
    "Witness",
    "frozen",
    "known_kinds",
    "layout_of",
    "nothing_of",
    "proof_of",
    "read_only",
    "register",
    "register_witness",
    "witness_of",
]

Multipliers = Float | tuple[Any, ...]
"""The numbers of a proof as a certificate holds them: a vector, several, or the nodes of a tree."""


class Proof(Protocol):
    """Why ``L ≤ bound``."""

    def check(self, claim: Claim, bound: object) -> Verdict:
        """Does the proof show the claim with this bound?"""
        ...


class Witness(Protocol):
    """Why ``L ≥ bound``: an input at which the network is at least so steep."""

    @classmethod
    def of(cls, point: Float, activations: Float | None) -> Witness: ...

    def check(self, claim: Claim, bound: object) -> Verdict: ...


class Kind(Protocol):
    """A class of proofs, as the registry knows it."""

    @property
    def LAYOUT(self) -> str:
        """How its numbers stand in a file: "vector", "vectors" or "nodes"."""
        ...

    def __call__(self, multipliers: Any) -> Proof:
        """The proof of these numbers."""
        ...


def nothing_of(kind: object) -> str:
    """The sentence of numbers that are of no use for a claim."""
    return f"multipliers of the kind {kind!r} prove nothing of this claim"


class Unknown:
    """What a certificate carries whose kind nobody has registered: it proves nothing."""

    def __init__(self, kind: object) -> None:
        self._kind = kind

    def check(self, claim: Claim, bound: object) -> Verdict:
        return Verdict(False, claim.refusal() or nothing_of(self._kind))


K = TypeVar("K", bound=Kind)
W = TypeVar("W", bound=type[Any])
_KINDS: Final[dict[tuple[str, str, str], Kind]] = {}
_WITNESSES: Final[dict[str, type[Witness]]] = {}


def register(family: str, kind: str, norm: str = "l2") -> Callable[[K], K]:
    """Class decorator: proofs of this kind, of a family of networks and a norm of the inputs, are of this class."""

    def entered(cls: K) -> K:
        _KINDS[family, kind, norm] = cls
        return cls

    return entered


def register_witness(family: str) -> Callable[[W], W]:
    """Class decorator: witnesses of lower bounds of a family of networks are of this class."""

    def entered(cls: W) -> W:
        _WITNESSES[family] = cls
        return cls

    return entered


def witness_of(family: str) -> type[Witness]:
    """The class that was registered."""
    return _WITNESSES[family]


def layout_of(family: str, kind: str, norm: str) -> str:
    """How the numbers of a kind stand in a file; those of a kind that is not known are vectors."""
    found = _KINDS.get((family, kind, norm)) or _KINDS.get((family, kind, "l2"))
    return "vectors" if found is None else found.LAYOUT


def proof_of(family: str, kind: Any, norm: Any, multipliers: Multipliers) -> Proof:
    """The proof of these numbers; one that proves nothing where the kind is not known, or they are of another form."""
    found = _KINDS.get((family, kind, norm)) if isinstance(kind, str) and isinstance(norm, str) else None
    if found is None or isinstance(multipliers, tuple) != (found.LAYOUT != "vector"):
        return Unknown(kind)
    return found(multipliers)


def known_kinds(family: str) -> tuple[str, ...]:
    """Names of the kinds of proof of a family of networks, in the order of their registration."""
    return tuple(dict.fromkeys(kind for of, kind, _ in _KINDS if of == family))


def frozen(multipliers: Any) -> Multipliers:
    """The numbers of a proof made read-only: vectors as arrays of float64, nodes of a tree as they are."""
    if isinstance(multipliers, tuple):
        return tuple(part if _is_node(part) else read_only(part) for part in multipliers)
    if isinstance(multipliers, list) and multipliers and _is_node(multipliers[0]):
        return tuple(multipliers)
    return read_only(multipliers)


def _is_node(part: object) -> bool:
    return isinstance(part, list | tuple) and len(part) > 0 and isinstance(part[0], str)


def read_only(values: Any) -> Float:
    """A copy as a read-only array of float64."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array
