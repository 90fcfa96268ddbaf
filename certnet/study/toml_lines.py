"""On which line of a TOML text a key stands: the standard library's reader does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["Path", "key_lines", "line_of", "placed", "repeated_key"]

Path = tuple[str | int, ...]

_PART = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_KEY: Final = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_PARTS: Final = re.compile(_PART)
_VALUE: Final = re.compile(  # strings and comments first, for they may hold anything
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}" + r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[{]|[\]}]|\n|.""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """Lines, from 1, of all keys and table headers of a valid TOML text.

    A path is what leads to the value in the parsed document, with the number of the entry for arrays of tables. Keys
    inside inline tables are not listed: they stand on the lines of the key that holds them.
    """
    lines: dict[Path, int] = {}
    for path, line, above in _statements(text):
        for length in range(above, len(path) + 1):
            lines.setdefault(path[:length], line)
    return lines


def repeated_key(text: str) -> tuple[Path, int, int] | None:
    """The first key or table that stands twice in a text, and both lines; None where there is none."""
    lines: dict[Path, int] = {}
    for path, line, _ in _statements(text):
        if path in lines:
            return path, lines[path], line
        lines[path] = line
    return None


def _statements(text: str) -> Iterator[tuple[Path, int, int]]:
    """The path of every key and header with its line, and how long the shortest path is that stands there."""
    counts: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while at < len(text):
        end = _end(text, at)
        line = text.count("\n", 0, at) + 1
        start = at + len(text[at:end]) - len(text[at:end].lstrip(" \t\r"))
        if text.startswith("[", start):
            double = text.startswith("[[", start)
            table = _located(_parts(text, start + 1 + double), counts, entry=double)
            yield table, line, len(table) - double
        elif (key := _KEY.match(text, start)) is not None:
            yield (*table, *_parts(text, start)), line, len(table) + 1
            end = _end(text, key.end())
        at = end


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a path, or of the nearest path above it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def placed(lines: dict[Path, int], path: Path) -> str:
    """A path in words: its line, where that is known, and its dotted key."""
    line = line_of(lines, path)
    dotted = ".".join(str(part) for part in path) or "the file"
    return dotted if line is None else f"line {line}: {dotted}"


def _end(text: str, at: int) -> int:
    """Where the next statement begins: after the line's end outside of strings and brackets."""
    depth = 0
    while at < len(text):
        token = _VALUE.match(text, at)
        if token is None:
            return len(text)
        at, word = token.end(), token.group()
        depth += (word in ("[", "{")) - (word in ("]", "}"))
        if word == "\n" and depth <= 0:
            return at
    return len(text)


def _parts(text: str, at: int) -> tuple[str, ...]:
    key = _KEY.match(text, at + len(text[at:]) - len(text[at:].lstrip(" \t")))
    return () if key is None else tuple(part.strip("\"'") for part in _PARTS.findall(key.group()))


def _located(parts: tuple[str, ...], counts: dict[Path, int], *, entry: bool) -> Path:
    """A header's path, with the number of the current entry after the name of every array of tables."""
    path: Path = ()
    for part in parts[: len(parts) - entry]:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path] - 1)
    if not entry:
        return path
    path = (*path, *parts[-1:])
    counts[path] = counts.get(path, 0) + 1
    return (*path, counts[path] - 1)
