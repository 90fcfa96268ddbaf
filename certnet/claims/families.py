"""Families of networks that certificates speak of: what identifies a network, and how its certificates are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from certnet.claims import sealed
from certnet.networks.energy import LiftedEnergy, require_lifted
from certnet.networks.feedforward import FeedForward, require_network
from certnet.networks.network import Network

__all__ = ["FAMILIES", "FEED_FORWARD", "LIFTED", "Family", "Identity", "identity"]

_OWN_UNITS: Final = "the network's own"


@dataclass(frozen=True)
class Identity:
    """What a certificate remembers of its network.

    Attributes
    ----------
    family : str
    digest : str
    others : tuple of str
        Digests of the same function as a network of another type, which serve as well.
    shape : tuple of int
    units : str
    slopes : tuple of pairs of float
        Of the activation of every hidden layer; empty for lifted networks.
    """

    family: str
    digest: str
    others: tuple[str, ...]
    shape: tuple[int, ...]
    units: str
    slopes: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes
    ----------
    name : str
    schema : str
        Of the files of its certificates.
    first, rest : tuple of str
        The fields of such a file, in their order.
    title : str
        Of the certificate in its representation.
    output_name : str
        How a sentence calls what moves.
    require : callable
        Returns its argument, if that is a network of the family; otherwise an InvalidInputError says how to get one.
    identify : callable
        The :class:`Identity` of a network of the family.
    load : callable
        Reads a network of the family from the ``.npz`` file that its ``save`` wrote.
    least_widths : int
        Of inputs, hidden layers and outputs.
    own : callable
        From the content of a file to the fields that the certificates of this family alone write.
    """

    name: str
    schema: str
    first: tuple[str, ...]
    rest: tuple[str, ...]
    title: str
    output_name: str
    require: Callable[[object], Any]
    identify: Callable[[Any], Identity]
    load: Callable[[str | os.PathLike[str]], Network | LiftedEnergy]
    least_widths: int
    own: Callable[[Mapping[str, Any]], dict[str, Any]]

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.first, *self.rest)


def _of_layers(network: Network) -> Identity:
    """One hidden ReLU layer goes by the digest of its :class:`~certnet.networks.shallow.ShallowNetwork` first."""
    others: tuple[str, ...] = ()
    digest = network.digest
    if isinstance(network, FeedForward) and network.relu_only:
        digest, others = network.shallow().digest, (digest,)
    return Identity(FEED_FORWARD.name, digest, others, network.widths, network.units, network.slopes)


def _of_energy(net: LiftedEnergy) -> Identity:
    return Identity(LIFTED.name, net.digest, (), net.widths, _OWN_UNITS)


def _fields_of_layers(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "norm": sealed.text(data, "norm"),
        "units": sealed.text(data, "units"),
        "slopes": sealed.slopes(data),
        "around": None if data["around"] is None else sealed.numbers(data, "around"),
        "radius": None if data["radius"] is None else sealed.number(data, "radius"),
    }


def _fields_of_energies(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"units": _OWN_UNITS, "slopes": (), "activations": sealed.numbers(data, "activations")}


_DERIVED: Final = ("schema", "upper", "upper_decimal", "upper_rational")
_PROVENANCE: Final = ("cheaper", "created", "seconds", "versions")

FEED_FORWARD: Final = Family(
    "feed-forward",
    "certnet-certificate-1",
    (*_DERIVED, "lower", "rho", "norm", "output", "units", "kind"),
    (*("multipliers", "witness", "gap", "digest", "shape", "method", "slopes", "around", "radius"), *_PROVENANCE),
    "Certificate",
    "the prediction",
    require_network,
    _of_layers,
    FeedForward.load,
    3,
    _fields_of_layers,
)
LIFTED: Final = Family(
    "lifted",
    "certnet-lifted-certificate-1",
    (*_DERIVED, "lower", "output", "kind"),
    (*("multipliers", "witness", "activations", "digest", "shape", "method", "gap"), *_PROVENANCE),
    "LiftedCertificate",
    "the network's output",
    require_lifted,
    _of_energy,
    LiftedEnergy.load,
    2,
    _fields_of_energies,
)
FAMILIES: Final = {family.name: family for family in (FEED_FORWARD, LIFTED)}


def identity(network: Network | LiftedEnergy) -> Identity:
    """The identity of a network of either family."""
    return _of_energy(network) if isinstance(network, LiftedEnergy) else _of_layers(network)
