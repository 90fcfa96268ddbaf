"""Certified Lipschitz bounds of ``x ↦ z_L*(x)``: from a lifted network to its certificate and certified radii."""

from typing import Final

from certnet.claims.certificate import Certificate
from certnet.claims.families import LIFTED
from certnet.lifted.bounds.bracket import METHODS, lipschitz_bound, lipschitz_bounds
from certnet.lifted.bounds.radius import Guarantee, certified_radius
from certnet.proofs.lifted_slope import slope_below

__all__ = [
    "LIFTED_SCHEMA",
    "METHODS",
    "Guarantee",
    "LiftedCertificate",
    "certified_radius",
    "lipschitz_bound",
    "lipschitz_bounds",
    "slope_below",
]

LIFTED_SCHEMA: Final = LIFTED.schema
"""Schema of the files of such certificates."""

LiftedCertificate = Certificate
"""A certificate of a lifted network is a :class:`~certnet.claims.certificate.Certificate` like any other."""
