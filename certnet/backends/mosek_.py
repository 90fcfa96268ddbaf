"""MOSEK: its wheel installs without a licence, so presence and licence are asked separately."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["why_unusable"]


def why_unusable() -> str | None:
    """None if MOSEK is installed and a licence can be checked out, else the reason and what to do."""
    if find_spec("mosek") is None:
        return 'MOSEK is not installed (certnet[mosek]): pip install "mosek>=11", or use CLARABEL'
    import mosek

    try:
        with mosek.Env() as env:
            env.checkoutlicense(mosek.feature.pton)
    except mosek.Error as error:
        return f"MOSEK is installed but has no usable licence ({error}): get one from mosek.com, or use CLARABEL"
    return None
