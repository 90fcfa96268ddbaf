"""The name that may have been meant, for refusals of one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that is most like a name, whatever its case; None where none is like it."""
    from difflib import get_close_matches  # here: it is for refusals alone

    lowered: dict[str, str] = {}
    for one in known:
        lowered.setdefault(one.strip().lower(), one)
    found = get_close_matches(name.strip().lower(), lowered, n=1)
    return lowered[found[0]] if found else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``"; did you mean 'weight'?"``, or nothing, as where the name is no text: the end of a message."""
    found = nearest(name, known) if isinstance(name, str) else None
    return "" if found is None or found == name else f"; did you mean {found!r}?"
