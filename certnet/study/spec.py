"""What every study states: data sets, trials, seed, attack, limits. Each kind of study adds its own keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from certnet.core.errors import FileFormatError
from certnet.core.spelling import did_you_mean
from certnet.study.overrides import given_as
from certnet.study.toml_lines import Path as KeyPath
from certnet.study.toml_lines import key_lines, placed

__all__ = [
    "Attack",
    "Count",
    "Device",
    "Fraction",
    "Misplaced",
    "NonNegative",
    "Part",
    "Positive",
    "Published",
    "Study",
    "StudySpec",
    "Table",
    "canonical",
    "increases",
]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


def _name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}", value) is None:
        raise ValueError(
            "must begin with a letter or digit and hold at most 60 letters, digits, spaces and . _ + -, "
            f"got {value[:60]!r}"
        )
    return value


def _device(value: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", value) is None:
        raise ValueError(f"must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {value[:60]!r}")
    return value


Name = Annotated[str, AfterValidator(_name)]
Device = Annotated[str, AfterValidator(_device)]


def increases(values: Sequence[float]) -> bool:
    """Is every number above the one before it?"""
    return all(a < b for a, b in pairwise(values))


class Misplaced(ValueError):
    """What is wrong under one key although each key is right by itself; raised by the validators of models.

    Attributes
    ----------
    path : tuple of str and int
        The keys, and numbers of entries, that lead to it from the top of the file.
    """

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path = path

    @classmethod
    def check(cls, path: KeyPath, names: Iterable[str], known: Collection[str], what: str) -> None:
        """Raise if one of the names under ``path`` is none of ``known``."""
        missing = [name for name in dict.fromkeys(names) if name not in known]
        if missing:
            said = f"speaks of {', '.join(map(repr, missing))}, which is not among the {what} ({', '.join(known)})"
            raise cls(path, said + did_you_mean(missing[0], known))

    @classmethod
    def twice(cls, path: KeyPath, values: Sequence[Any]) -> None:
        """Raise if the list under ``path`` holds a value twice."""
        repeated = [repr(value) for value in dict.fromkeys(values) if values.count(value) > 1]
        if repeated:
            raise cls(path, f"holds {', '.join(repeated)} more than once")


class Part(BaseModel):
    """A table of a study file: unknown keys and wrong types are refused, nothing is converted or changed later."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)


class Table(Part):
    """A user's own CSV file with a header.

    Attributes
    ----------
    name : str
        Of the data set, in rows and pictures.
    csv : str
        Path, relative to the study file.
    target : str
        Column to predict.
    inputs : list of str, optional
        Columns to predict from; by default all others.
    test_fraction : float
        Share of the rows that are held out, drawn anew for every trial.
    test_column : str, optional
        Instead of that: a column of 0 and 1 (1 is held out), which is no input; the same for all trials.
    categorical : list of str
        Columns of categories, ``"colour"`` or ``"colour=red,green,blue"``: an input of 0 and 1 for every category.
    """

    name: Name
    csv: str
    target: str
    inputs: list[str] | None = None
    test_fraction: Fraction = 0.1
    test_column: str | None = None
    categorical: list[str] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without columns of categories as before there were any: rows are named by this."""
        plain: dict[str, Any] = handler(self)
        if not self.categorical:
            plain.pop("categorical", None)
        return plain


class Attack(Part):
    """Projected gradient attack on the held-out samples, in standardised units."""

    norm: Literal["l2", "linf"] = "l2"
    epsilons: Annotated[list[NonNegative], Field(min_length=1)] = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
    steps: Count = 20
    restarts: Count = 3

    @model_validator(mode="after")
    def _increasing(self) -> Attack:
        if not increases(self.epsilons):
            raise ValueError("epsilons must increase")
        return self


class Published(Part):
    """Improvements in per cent that a paper prints, of the least, the largest and the mean objective over trials."""

    min: float
    max: float
    avg: float


class StudySpec(Part):
    """The keys that all kinds of study share."""

    PROSE: ClassVar[frozenset[str]] = frozenset({"title", "source", "choices", "published", "expected"})
    """Keys that change what is said about the rows and not the rows."""

    kind: str
    title: str = ""
    source: str = ""
    choices: list[str] = Field(default_factory=list)
    datasets: list[str] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    acknowledge_ethics: bool = False
    trials: Annotated[int, Field(ge=1, le=1000)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    time_limit: Positive | None = None
    attack: Attack = Attack()

    @property
    def data_names(self) -> list[str]:
        """Of all data sets, built-in ones first."""
        return [*self.datasets, *(table.name for table in self.tables)]

    @model_validator(mode="after")
    def _some_data(self) -> StudySpec:
        names = self.data_names
        if not names:
            raise ValueError("no data: name a built-in set in datasets, or a CSV file in [[tables]]")
        for i, table in enumerate(self.tables):
            if names.index(table.name) < len(self.datasets) + i:
                raise Misplaced(("tables", i, "name"), f"two data sets have the name {table.name!r}: rename one")
        Misplaced.twice(("datasets",), self.datasets)
        return self

    @model_validator(mode="after")
    def _tables_fit(self) -> StudySpec:
        for i, table in enumerate(self.tables):
            Misplaced.twice(("tables", i, "inputs"), table.inputs or ())
            if table.test_column is not None and "test_fraction" in table.model_fields_set:
                message = "does not go with test_column, which says what is held out: remove one of the two"
                raise Misplaced(("tables", i, "test_fraction"), message)
        return self


SpecT_co = TypeVar("SpecT_co", bound=StudySpec, covariant=True)


@dataclass(frozen=True, eq=False)
class Study(Generic[SpecT_co]):
    """A checked study file.

    Attributes
    ----------
    name : str
        Of the built-in study, or of the file without its suffix.
    spec : StudySpec
        Of the model of its kind, with ``[quick]`` merged in where ``quick``.
    folder : Path
        What paths in the file are relative to.
    text : str
        The file.
    quick : bool
    source : str
        How to speak of the file.
    builtin : bool
        Did certnet bring it along?
    overrides : tuple of str
        Keys that were given beside the file, ``"trials=3"``.
    """

    name: str
    spec: SpecT_co
    folder: Path
    text: str = field(repr=False)
    quick: bool = False
    source: str = ""
    builtin: bool = False
    overrides: tuple[str, ...] = ()

    def place(self, *path: str | int) -> str:
        """Where the key of a path stands, for messages: file, line and dotted key."""
        given = given_as(self.overrides, path)
        if given is not None:
            return given
        lines = key_lines(self.text)
        if self.quick and any(("quick", *path[:length]) in lines for length in range(1, len(path) + 1)):
            path = ("quick", *path)
        return f"{self.source or self.name}, {placed(lines, path)}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that rows depend on, as plain values; a user's tables by the digest of their content."""
        plain = self.spec.model_dump(mode="json", exclude=set(self.spec.PROSE))
        for i, table in enumerate(plain["tables"]):
            try:
                table["sha256"] = hashlib.sha256((self.folder / table["csv"]).read_bytes()).hexdigest()
            except OSError as error:
                raise FileFormatError(
                    f"{self.place('tables', i, 'csv')}: {self.folder / table['csv']} cannot be read "
                    f"({error.strerror}): the path of a table is relative to the study file"
                ) from error
        return plain

    @cached_property
    def digest(self) -> str:
        """SHA-256 of :attr:`settings`, in hexadecimal."""
        return hashlib.sha256(canonical(self.settings).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
