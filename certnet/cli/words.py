"""Messages of the package in the words of the shell: options as they are typed there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from certnet.core.errors import CertnetError

__all__ = ["in_shell_words", "shell_words"]

_OPTIONS: Final = {
    "target_lipschitz": "--target-lipschitz",
    "max_mse": "--max-mse",
    "sample_weight": "--sample-weight",
    "monotonic_cst": "--monotone",
    "slope_limits": "--slope-limit",
    "huber_threshold": "--huber-threshold",
    "optimality_gap": "--optimality-gap",
    "time_limit": "--time-limit",
}
_WORDS: Final = (
    "weight|effort|cells|loss|penalty|method|solver|keep|checkpoint"  # options where something is said of them
)
_CHANGES: Final = (
    (r', method="joint" and patterns="all"', r' and method="joint"'),  # patterns are Python's alone
    (r"allow more time, n_jobs threads, or", "allow more time, or"),  # as are threads
    (r"\bby columns=", "by --drop"),
    (r"\b(" + "|".join(_OPTIONS) + r")\b", lambda found: _OPTIONS[found[1]]),
    (rf"\b({_WORDS})=\"(\w+)\"", r"--\1 \2"),
    (rf"(?<![\w-])({_WORDS})(?= must | needs | takes | is for | above |=)", r"--\1"),
    (r"(--[\w-]+)=(?=[\d.])", r"\1 "),
    (r"\buse effort\b", "use --effort"),
)


def in_shell_words(text: str) -> str:
    """The same message with every option as the shell spells it."""
    for pattern, words in _CHANGES:
        text = re.sub(pattern, words, text)
    return text


@contextmanager
def shell_words() -> Iterator[None]:
    """Errors of the package that leave the block say options as the shell spells them."""
    try:
        yield
    except CertnetError as error:
        error.args = (in_shell_words(str(error)), *error.args[1:])
        raise
