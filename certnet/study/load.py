"""Study files: found by name or path, read, and checked against the model of their kind, all errors at once."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import path_of
from certnet.core.spelling import did_you_mean
from certnet.study.kinds import KINDS, Kind
from certnet.study.overrides import given_as, merged, overridden
from certnet.study.spec import Misplaced, Study, StudySpec
from certnet.study.toml_lines import Path as KeyPath
from certnet.study.toml_lines import key_lines, placed, repeated_key

__all__ = ["builtin_studies", "kind_of", "load_study"]

_FEW: Final = 8  # keys that are listed where none is like the one that was written

Problem = tuple[KeyPath, str]  # where, and what is wrong there

_PLAIN = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "finite_number": "must be a finite number",
    "int_from_float": "should be a valid integer",
    "list_type": "must be a list",
    "model_type": "must be a table",
    "string_type": "must be a text in quotes",
}
"""In the words of a TOML file what pydantic says in those of Python."""

_BUILTIN = resources.files("certnet.study") / "builtin"


def builtin_studies() -> tuple[str, ...]:
    """Names of the studies that certnet brings along."""
    files = (entry.name for entry in _BUILTIN.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_study(name: str | Path, *, quick: bool = False, overrides: Sequence[str] = ()) -> Study[Any]:
    """A built-in study by name, or a study file (TOML) by path.

    Parameters
    ----------
    name : str or path
    quick : bool
        Merge the table ``[quick]`` over the rest: a smaller study of the same shape.
    overrides : sequence of str
        Keys that are merged over all that, as ``"trials=3"`` or ``"networks.wide.epochs=5"``, values as in TOML.

    Raises
    ------
    FileFormatError
        No such study or file, not TOML, an unknown key or a wrong type; every error with its line and dotted key.
    InvalidInputError
        ``quick`` for a file without ``[quick]``; an override that is none.
    """
    label, folder, text, source = _found(name)
    builtin = str(name) in builtin_studies()
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileFormatError(f"{source} is not a TOML file: {_broken(error, text)}") from error
    small = raw.pop("quick", None)
    raw = overridden(raw, overrides)
    kind = _kind(raw, source, text)
    spec, problems = _validated(kind, raw)
    chosen = spec
    if isinstance(small, dict):
        chosen, others = _validated(kind, overridden(merged(raw, small), overrides))
        problems += _of_quick(small, [one for one in others if not given_as(overrides, one[0])], problems)
    elif small is not None:
        problems.append((("quick",), "must be a table"))
    if problems or spec is None or chosen is None:
        said = (f"{given_as(overrides, path) or _placed(text, path)}: {message}" for path, message in problems)
        raise FileFormatError("\n  ".join([f"{source} is no valid study of the kind {kind.name!r}:", *said]))
    if quick and small is None:
        raise InvalidInputError(f"{source} has no table [quick]: add one with the keys that a quick run changes")
    return Study(label, chosen if quick else spec, folder, text, quick, source, builtin, tuple(overrides))


def kind_of(study: Study[StudySpec]) -> Kind[Any, Any]:
    """The kind of a study."""
    return KINDS[study.spec.kind]


def _found(name: str | Path) -> tuple[str, Path, str, str]:
    """Label, folder, text and how to speak of it."""
    known = builtin_studies()
    if str(name) in known:
        entry = _BUILTIN / f"{name}.toml"
        return str(name), Path(), entry.read_text(encoding="utf-8"), f"the built-in study {name}"
    path = path_of(name)
    try:
        return path.stem, path.parent, path.read_text(encoding="utf-8-sig"), str(path)  # editors may write a mark
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not a text file in UTF-8: {error.reason}") from error
    except OSError as error:
        raise FileFormatError(
            f"{str(name)!r} is neither a built-in study ({', '.join(known)}) nor a file that can be read "
            f"({error.strerror}){did_you_mean(str(name), known)}"
        ) from error


def _kind(raw: dict[str, Any], source: str, text: str) -> Kind[Any, Any]:
    name = raw.get("kind")
    if isinstance(name, str) and name in KINDS:
        return KINDS[name]
    said = "is missing" if name is None else f"is {name!r}"
    near = did_you_mean(name, KINDS) if isinstance(name, str) else ""
    where = f"{_placed(text, ('kind',))}: {said}: it must be one of {', '.join(map(repr, KINDS))}{near}"
    raise FileFormatError(f"{source} is no study:\n  {where}")


def _validated(kind: Kind[Any, Any], raw: dict[str, Any]) -> tuple[StudySpec | None, list[Problem]]:
    """The model, or all that is wrong.

    Keys are compared with each other only where each is right by itself, so the wrong ones are taken away and the rest
    is looked at again: for names that do not exist, not for what the cut itself may have broken.
    """
    problems: list[Problem] = []
    while True:
        try:
            spec = kind.model.model_validate(raw)
            return (None if problems else spec), problems
        except ValidationError as error:
            new = [_problem(one, kind) for one in error.errors() if not problems or _misplaced(one)]
        problems += new
        rest = _without(raw, [path for path, _ in new])
        if not new or rest is None:
            return None, problems
        raw = rest


def _of_quick(small: dict[str, Any], found: Sequence[Problem], known: Sequence[Problem]) -> list[Problem]:
    """Problems of the reduced study that are not those of the full one, at their place in ``[quick]``."""
    new = [one for one in found if one not in known or (one[0] and _has(small, one[0]))]
    return [(("quick", *path) if _has(small, path) else path, message) for path, message in new]


def _misplaced(error: Any) -> bool:
    return isinstance(error.get("ctx", {}).get("error"), Misplaced)


def _problem(error: Any, kind: Kind[Any, Any]) -> Problem:
    path = error["ctx"]["error"].path if _misplaced(error) else error["loc"]
    if error["type"] == "extra_forbidden":
        return path, f"unknown key{_meant(path, kind)}"
    return path, _said(error)


def _meant(path: KeyPath, kind: Kind[Any, Any]) -> str:
    """The nearest of the keys that there are in the place of one that there is not, or all of few."""
    known = sorted(_keys(kind.model, path[:-1]))
    near = did_you_mean(str(path[-1]), known)
    return near or (f": there are {', '.join(known)}" if 0 < len(known) <= _FEW else "")


def _keys(kind: Any, path: KeyPath) -> set[str]:
    """Keys of the tables that a path leads to, by the types of a model."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not path:
            return set(kind.model_fields)
        field = kind.model_fields.get(str(path[0]))
        return set() if field is None else _keys(field.annotation, path[1:])
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (dict, list):
        return _keys(inner[-1], path[1:]) if path else set()
    if origin is Annotated:
        return _keys(inner[0], path)
    return {key for one in inner for key in _keys(one, path)} if isinstance(origin, type) or inner else set()


def _without(raw: dict[str, Any], paths: Sequence[KeyPath]) -> dict[str, Any] | None:
    """A copy without these values, lists as a whole; None where one is a table or not there."""
    rest = copy.deepcopy(raw)
    gone: set[KeyPath] = set()
    for path in paths:
        if not any(path[: len(cut)] == cut for cut in gone):
            cut = _value_at(rest, path)
            if cut is None:
                return None
            gone.add(cut)
            table: Any = rest
            for key in cut[:-1]:
                table = table[key]
            del table[cut[-1]]
    return rest


def _value_at(table: Any, path: KeyPath) -> KeyPath | None:
    """The path of the first value that is no table on the way; None where there is none."""
    for depth, key in enumerate(path, 1):
        if not isinstance(table, dict) or key not in table:
            return None
        table = table[key]
        if not isinstance(table, dict):
            return path[:depth]
    return None


def _placed(text: str, path: KeyPath) -> str:
    return placed(key_lines(text), path)


def _broken(error: tomllib.TOMLDecodeError, text: str) -> str:
    """What the reader says; of a key that stands twice its name, which the reader does not say."""
    found = repeated_key(text) if str(error).startswith("Cannot ") else None
    if found is None:
        return str(error)
    path, first, second = found
    return f"line {second}: {'.'.join(map(str, path))}: stands there a second time, after line {first}: remove one"


def _said(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "too_short":
        least = error["ctx"]["min_length"]
        return f"at least {'one is' if least == 1 else f'{least} are'} needed"
    message = _PLAIN.get(error["type"], error["msg"].removeprefix("Input "))
    near = ""
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        near = did_you_mean(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    return f"{message}, got {_shown(error['input'])}{near}"


def _shown(value: Any) -> str:
    """A value about as it is written in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value[:60]) if isinstance(value, str) else str(value)[:60]


def _has(table: Any, path: KeyPath) -> bool:
    """Does the path lead to something in the table, or to an entry of a list in it?"""
    for part in path:
        if not isinstance(table, dict):
            return True  # an entry of a list that the table gives
        if part not in table:
            return False
        table = table[part]
    return True
