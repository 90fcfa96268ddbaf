"""What is going to be removed says so, works until then, and stays for as long as docs/stability.md promises."""

from __future__ import annotations

import warnings

import pytest

from certnet.core.deprecation import CertnetDeprecationWarning, deprecated
from certnet.core.errors import CertnetWarning


@deprecated(since="0.3", until="0.5", instead="certnet.certify")
def bound(x: float, *, tol: float = 1e-6) -> float:
    """A bound."""
    return x + tol


def test_a_call_warns_at_the_callers_line_and_works() -> None:
    with pytest.warns(
        CertnetDeprecationWarning, match=r"bound is deprecated since certnet 0\.3, to be removed in 0\.5"
    ) as w:
        assert bound(1.0, tol=0.5) == 1.5
    assert w[0].filename == __file__
    assert "certnet.certify" in str(w[0].message)


def test_the_warning_is_one_of_certnets_and_is_shown_by_default() -> None:
    assert issubclass(CertnetDeprecationWarning, CertnetWarning)
    assert not issubclass(CertnetDeprecationWarning, DeprecationWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CertnetWarning)
        assert bound(1.0, tol=0.0) == 1.0


def test_the_docstring_says_it_and_keeps_the_signature() -> None:
    assert bound.__name__ == "bound"
    assert bound.__doc__ is not None
    assert bound.__doc__.startswith("A bound.")
    assert "to be removed in 0.5: use certnet.certify" in bound.__doc__


@pytest.mark.parametrize(("since", "until"), [("0.3", "0.4"), ("0.3.1", "0.3.9"), ("1.2", "1.3.0")])
def test_nothing_goes_sooner_than_promised(since: str, until: str) -> None:
    with pytest.raises(ValueError, match="two minor versions"):
        deprecated(since=since, until=until, instead="x")


def test_a_major_version_may_come_between() -> None:
    deprecated(since="0.9", until="1.0", instead="x")
