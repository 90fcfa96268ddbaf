"""Named data sets, split and standardised."""

from __future__ import annotations

import operator
import os
import warnings

from certnet.core.errors import CertnetWarning, DatasetError, InvalidInputError
from certnet.data.bundled import diabetes
from certnet.data.dataset import Dataset
from certnet.data.registry import DATASETS, DatasetInfo, dataset_info
from certnet.data.samples import N_SPLITS, Samples
from certnet.data.scaling import Scaling
from certnet.data.synthetic import rastrigin_split
from certnet.data.uci import read_uci

__all__ = ["list_datasets", "load_dataset"]


def list_datasets() -> tuple[str, ...]:
    """The names that :func:`load_dataset` knows."""
    return DATASETS


def load_dataset(
    name: str,
    *,
    split: int = 0,
    standardise: bool = True,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = True,
    base_url: str | None = None,
    acknowledge_ethics: bool = False,
) -> Dataset:
    """One of ten splits (90 % training, 10 % test) of a named data set.

    Parameters
    ----------
    name : str
        One of :func:`list_datasets`. ``diabetes`` and ``rastrigin`` need no files.
    split : int
        0 to 9. Every row is in the test part of exactly one split (``rastrigin``: every split is a fresh sample).
    standardise : bool
        Shift and scale inputs and target by the mean and standard deviation of the training part, else leave them in
        raw units.
    data_home : path, optional
        Folder that holds ``uci/<name>/``; looked in before ``$CERTNET_DATA_HOME`` and the cache
        (``$XDG_CACHE_HOME/certnet`` or ``~/.cache/certnet``). Nothing is ever written to the first two.
    download : bool
        Whether a file that is in none of them may be downloaded into the cache. Its sha256 is checked first.
    base_url : str, optional
        Where to download from, in place of ``$CERTNET_DATA_URL`` or the upstream repository.
    acknowledge_ethics : bool
        Needed for ``housing``, an ethically problematic set that is kept to reproduce published experiments.

    Raises
    ------
    DatasetError
        Unknown name, files that cannot be found, downloaded or trusted, a set that needs an acknowledgement.
    InvalidInputError
        ``split`` is not an integer from 0 to 9.

    Warns
    -----
    CertnetWarning
        The set is ethically problematic.

    Examples
    --------
    >>> data = load_dataset("diabetes", split=3)
    >>> data.X_train.shape, data.X_test.shape, data.units
    ((398, 10), (44, 10), 'standardised')
    """
    info = dataset_info(name)
    split = _checked_split(split)
    _check_concern(info, acknowledge_ethics)
    if info.name == "diabetes":
        samples = diabetes(split)
    elif info.name == "rastrigin":
        samples = rastrigin_split(split)
    else:
        samples = read_uci(info, split, data_home=data_home, download=download, base_url=base_url)
    return _dataset(info, split, samples, standardise)


def _checked_split(split: int) -> int:
    try:
        number = operator.index(split)
    except TypeError as error:
        raise InvalidInputError(f"split must be an integer from 0 to {N_SPLITS - 1}, got {split!r}") from error
    if isinstance(split, bool) or not 0 <= number < N_SPLITS:
        raise InvalidInputError(f"split must be an integer from 0 to {N_SPLITS - 1}, got {split!r}")
    return number


def _check_concern(info: DatasetInfo, acknowledged: bool) -> None:
    if not info.concern:
        return
    if not acknowledged:
        raise DatasetError(
            f"{info.name} is ethically problematic: {info.concern}. Use another set; to reproduce a published "
            "experiment, pass acknowledge_ethics=True"
        )
    warnings.warn(f"{info.name} is ethically problematic: {info.concern}", CertnetWarning, stacklevel=3)


def _dataset(info: DatasetInfo, split: int, samples: Samples, standardise: bool) -> Dataset:
    X, y, is_test = samples
    train = ~is_test
    scaling = Scaling.fit(X[train], y[train]) if standardise else Scaling.identity(info.n_inputs)
    return Dataset(
        name=info.name,
        X_train=scaling.transform(X[train]),
        y_train=scaling.transform_target(y[train]),
        X_test=scaling.transform(X[is_test]),
        y_test=scaling.transform_target(y[is_test]),
        feature_names=info.feature_names,
        target_name=info.target_name,
        scaling=scaling,
        units="standardised" if standardise else "raw",
        split=split,
        source=info.source,
        licence=info.licence,
        notes=info.notes,
    )
