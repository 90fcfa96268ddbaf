"""What is known of a network beside its numbers: where it was read from, and the names of its inputs and outputs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from certnet.core.errors import InvalidInputError

__all__ = ["NOTHING", "About", "about_from_json"]

_MAX_TEXT = 20_000
_MAX_NAMES = 1 << 20


@dataclass(frozen=True)
class About:
    """Words about a network; no part of its digest, and no proof rests on them.

    Attributes
    ----------
    read : str
        What was read, such as "6 → 64 → 64 → 1, relu, from 0.weight, 2.weight, 4.weight"; empty for a network that
        was given as arrays.
    inputs, outputs : tuple of str
        Names of the features and of the outputs, where the source has them; otherwise empty.
    remarks : tuple of str
        What a user should know of the reading, such as "softmax is left out: the network gives the logits".
    """

    read: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.read or self.inputs or self.outputs or self.remarks)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def fitting(self, n_inputs: int, n_outputs: int) -> About:
        """The same, with names only where there is one for each.

        Raises
        ------
        InvalidInputError
            A name occurs twice.
        """
        for kind, names in (("input", self.inputs), ("output", self.outputs)):
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise InvalidInputError(f"two {kind}s have the name {twice[:60]!r}: names must tell them apart")
        inputs = self.inputs if len(self.inputs) == n_inputs else ()
        outputs = self.outputs if len(self.outputs) == n_outputs else ()
        return About(self.read, inputs, outputs, self.remarks)


NOTHING = About()
"""Of a network that was given as arrays."""


def about_from_json(text: str) -> About:
    """What :meth:`About.to_json` wrote; from an untrusted file.

    Raises
    ------
    ValueError
        It is something else, or too long.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or set(data) != {"read", "inputs", "outputs", "remarks"}:
        raise ValueError("the words about the network are not those of certnet")
    lists = [data[name] for name in ("inputs", "outputs", "remarks")]
    if not all(isinstance(part, list) and len(part) <= _MAX_NAMES for part in lists):
        raise ValueError("the names of the network are no list, or too many")
    words = [data["read"], *(word for part in lists for word in part)]
    if not all(isinstance(word, str) and len(word) <= _MAX_TEXT for word in words):
        raise ValueError("the words about the network are no text, or too long")
    return About(data["read"], *(tuple(part) for part in lists))
