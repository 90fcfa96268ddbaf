"""Certified Lipschitz bounds of ``x ↦ z_L*(x)``: search, verification, and the certificate that carries them."""

from __future__ import annotations

from certnet.lifted.bounds.bracket import METHODS, lipschitz_bound, lipschitz_bounds
from certnet.lifted.bounds.certificate import LIFTED_SCHEMA, LiftedCertificate
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
