"""Commands whose refusals speak of options as they are typed, and name the nearest word that one takes.

In their help a flag, which takes no value, shows none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from certnet.cli.terminal import STOPPED, Interrupted
from certnet.cli.words import shell_words
from certnet.core.spelling import did_you_mean

__all__ = ["Command", "Group"]

_NONE_OF: Final = re.compile(r"'(?P<given>[^']*)' is not one of (?P<words>'.*')")


class Command(TyperCommand):
    """As typer's, which says what an option takes, and not what may have been meant."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _shown(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        with shell_words():
            return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _said(error.message)
            raise


class Group(TyperGroup):
    """As typer's, which shows flags as if they took a value, and says nothing of Ctrl-C."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _shown(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(STOPPED) from error


def _shown(params: Sequence[Any]) -> list[Any]:
    """The same parameters; what a flag takes is nothing."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag and param.metavar is None:
            param.metavar = ""
    return list(params)


def _said(message: str) -> str:
    """The message without words of Python, and with the nearest word."""
    plain = message.replace("Value error, ", "").replace("Input should be", "must be")
    found = _NONE_OF.search(plain)
    if found is None:
        return plain
    words = re.findall(r"'([^']*)'", found["words"])
    return plain.rstrip(".") + did_you_mean(found["given"], words)
