"""Where PyTorch computes: a device that a study file names is looked for before any work."""

from __future__ import annotations

from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.study.spec import Study, StudySpec

__all__ = ["check_device"]


def check_device(name: str, study: Study[StudySpec], *path: str) -> None:
    """Refuse a device that PyTorch does not have here; ``path`` is where the study file names it.

    Raises
    ------
    InvalidInputError
    """
    if name == "cpu":  # which is always there; PyTorch is slow to load
        return
    from certnet.backends.torch_ import torch_device

    try:
        torch_device(name)
    except MissingDependencyError:
        return  # told with the tasks that need it
    except InvalidInputError as error:
        raise InvalidInputError(f"{study.place(*path)}: {error}") from error
