"""What a task hands on to those that need it: arrays as the content of an ``.npz`` file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

__all__ = ["packed", "unpacked"]


def packed(**arrays: Any) -> bytes:
    """The file's content."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """The arrays by name."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
