"""Keys of a study that are given beside its file, as ``trials=3`` or ``networks.wide.epochs=5``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from certnet.core.errors import InvalidInputError
from certnet.study.toml_lines import Path as KeyPath

__all__ = ["given_as", "merged", "overridden", "read_override"]

_WORD: Final = re.compile(r"[A-Za-z_][\w./+-]*")
_NO_WORDS: Final = frozenset({"true", "false", "inf", "nan"})


def read_override(text: str) -> dict[str, Any]:
    """``key=value`` as nested tables, the value as it is written in TOML; a bare word is a text.

    Shells take quotes away, so that ``attack.norm="linf"`` arrives without them.

    Raises
    ------
    InvalidInputError
    """
    key, equal, value = text.partition("=")
    if not equal or not key.strip() or not value.strip():
        raise InvalidInputError(f"--set {text!r}: KEY=VALUE is needed, such as trials=3 or attack.norm=linf")
    word = value.strip()
    if _WORD.fullmatch(word) and word not in _NO_WORDS:
        value = f'"{word}"'
    try:
        return tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(
            f"--set {text!r}: the value is read as TOML, as 3, 0.5, true, [1, 2] or 'text' in quotes ({error})"
        ) from error


def given_as(overrides: Sequence[str], path: KeyPath) -> str | None:
    """How the key of a path was given, where it was given beside the file."""
    for text in overrides:
        for given in _paths(read_override(text), ()):
            if path[: len(given)] == given:
                return f"--set {'.'.join(map(str, path))}"
    return None


def _paths(tables: Mapping[str, Any], above: KeyPath) -> list[KeyPath]:
    """The paths of all values in nested tables; numbers of entries as numbers."""
    found: list[KeyPath] = []
    for key, value in tables.items():
        path = (*above, int(key) if key.isdecimal() else key)
        found += _paths(value, path) if isinstance(value, dict) and value else [path]
    return found


def overridden(base: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``base`` with all of them merged over it, one after the other.

    Raises
    ------
    InvalidInputError
    """
    for text in overrides:
        base = merged(base, read_override(text))
    return base


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the entries of ``over``; tables are merged, everything else is replaced.

    An entry of a list of tables is named by its number: ``tables.0.csv``.

    Raises
    ------
    InvalidInputError
        There is no such entry.
    """
    whole = dict(base)
    for key, value in over.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            whole[key] = merged(old, value)
        elif isinstance(value, dict) and isinstance(old, list) and all(isinstance(one, dict) for one in old):
            whole[key] = _entries(key, old, value)
        else:
            whole[key] = value
    return whole


def _entries(key: str, old: Sequence[dict[str, Any]], over: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A list of tables with some of them merged."""
    for number, value in over.items():
        if number not in map(str, range(len(old))) or not isinstance(value, dict):
            raise InvalidInputError(
                f"{key} holds {len(old)} table(s), numbered from 0, and there is no {key}.{number} to change: "
                f"--set {key}.0.KEY=VALUE changes the first"
            )
    return [merged(one, over.get(str(i), {})) for i, one in enumerate(old)]
