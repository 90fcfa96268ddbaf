"""The UCI sets: gzipped tables without header, the target last, beside ten 0/1 columns of test masks."""

from __future__ import annotations

import gzip
import io
import os

import numpy as np

from certnet.core.validation import Float
from certnet.data.fetch import fetch_file
from certnet.data.registry import DatasetInfo
from certnet.data.samples import Samples

__all__ = ["read_uci"]


def read_uci(
    info: DatasetInfo,
    split: int,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = True,
    base_url: str | None = None,
) -> Samples:
    """The rows of ``info`` in the units of the file (centred), with the test part of ``split``.

    Raises
    ------
    DatasetError
        See :func:`certnet.data.fetch.fetch_file`.
    """
    table, mask = (
        _parse(fetch_file(file, data_home=data_home, download=download, base_url=base_url)) for file in info.files
    )
    return Samples(table[:, :-1], table[:, -1], mask[:, split] == 1)


def _parse(content: bytes) -> Float:
    return np.loadtxt(io.BytesIO(gzip.decompress(content)), delimiter=",", ndmin=2)
