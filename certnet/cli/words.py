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
    "n_jobs": "--n-jobs",
    "batch_norm_eps": "--batch-norm-eps",
    "max_epochs": "--epochs",
    "batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "weight_decay": "--weight-decay",
    "pretrain_epochs": "--pretrain",
    "hidden_layer_sizes": "--layers",
    "n_threads": "--threads",
    "random_state": "--seed",
    "max_passes": "--passes",
}
"""Names that no other word is spelt as."""

_WORDS: Final = (
    "weight|effort|cells|loss|penalty|method|solver|keep|checkpoint|norm|output|form|device|exact|tol|key|radius|"
    "standardise|pairs|passes|threads|objective|optimizer|schedule|units|beta|gamma|prune"
)
"""Those that are words as well: options where something is said of them."""

_LISTS: Final = {"activations": "--activation", "activation": "--activation", "layers": "--layer"}
"""Given once for each entry in a shell."""

_OF_A_STUDY: Final = re.compile(r"\bline \d+: [\w.+-]+: |--set [\w.+-]+: |no valid study|is no study")

_CHANGES: Final = (
    (r"\S+ or, in a shell, (?=--)", ""),
    (r', method="joint" and patterns="all"', r' and method="joint"'),  # patterns are Python's alone
    (r"allow more time, n_jobs threads, or", "allow more time, or"),  # as are threads
    (r"\bby columns=", "by --drop"),
    (r"\bexact=True needs dense", "--exact needs dense"),
    (r"\bpasses=None\b", "no --passes"),
    (r"(?<![\w.-])(activations?|layers)=\[?\.\.\.\]?", lambda found: _LISTS[found[1]]),
    (r"(?<![\w.-])(activations?|layers)=(['\"])([\w.-]+)\2", lambda found: f"{_LISTS[found[1]]} {found[3]}"),
    (r"(?<![\w.-])(activations?|layers)=\[([^\]]*)\]", lambda found: _each(_LISTS[found[1]], found[2])),
    (r"(?<![\w.-])(" + "|".join(_OPTIONS) + r")\b(\[\d+\])?", lambda found: _OPTIONS[found[1]]),
    (rf"(?<![\w.-])({_WORDS})=True\b", r"--\1"),
    (rf"(?<![\w.-])({_WORDS})=(['\"])([\w.:-]+)\2", r"--\1 \3"),
    (rf"(?<![\w.-])({_WORDS})(?= must | needs | takes | is for | above |=)", r"--\1"),
    (r"(--[\w-]+)=(?=[\d.])", r"\1 "),
    (r"(--[\w-]+)=(?=…)", r"\1 "),
    (r"\buse effort\b", "use --effort"),
)


def _each(option: str, entries: str) -> str:
    """``'a', 'b'`` as ``--layer a --layer b``."""
    return " ".join(f"{option} {entry.strip()}" for entry in entries.replace("'", "").split(","))


def in_shell_words(text: str) -> str:
    """The same message with every option as the shell spells it; one about a study file speaks of that file's keys."""
    if _OF_A_STUDY.search(text):
        return text
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
