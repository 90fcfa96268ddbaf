"""Lifted networks in files, as the commands of ``certnet lifted`` take them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from numpy.typing import NDArray

from certnet.cli.samples import Source
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs

if TYPE_CHECKING:
    from certnet.lifted import LiftedNetwork
    from certnet.lifted.learn.scaling import Scaling

__all__ = ["Model", "Net", "read_model"]

Net = Annotated[Path, typer.Argument(help="Lifted network: an .npz of `lifted train`, LiftedNetwork or an estimator.")]


@dataclass(frozen=True, eq=False)
class Model:
    """A network from a file; of an estimator's file also its scaling and what it predicts.

    ``kind`` is the class of the estimator, None of a network alone: that classifies if it has several outputs.
    """

    network: LiftedNetwork
    scaling: Scaling | None = None
    classes: NDArray[Any] | None = None
    by_energy: bool = False
    kind: str | None = None

    @property
    def classifies(self) -> bool:
        """Is the largest output what it predicts?"""
        return self.kind in (None, "LiftedClassifier") and self.network.n_outputs > 1 and not self.by_energy

    def inputs(self, X: Any, source: Source | None = None) -> Float:
        """Samples as the network takes them; ``source`` is where they are from, for advice."""
        try:
            rows = as_inputs(X, self.network.n_inputs)
        except InvalidInputError as error:
            if source is None or not source.is_table:
                raise
            raise InvalidInputError(
                f"{error}; of {source.data}, name the column to predict by --target, others to leave out by --drop"
            ) from error
        return rows if self.scaling is None else self.scaling.inputs(rows)

    def outputs(self, z: Float) -> Float:
        """Outputs in the units of the targets."""
        scaled = self.scaling is not None and self.scaling.target_scale.size
        return self.scaling.outputs(z) if scaled else z  # type: ignore[union-attr]

    def require_classes(self) -> None:
        """Refuse what has no radius: its predictions are not the largest outputs."""
        if self.by_energy:
            raise InvalidInputError(
                "this classifier predicts by class energies, which this command does not compute: use "
                "LiftedClassifier.load(...) from Python"
            )
        if not self.classifies:
            what = self.kind or "network with one output"
            raise InvalidInputError(
                f"radii are of a classifier's predictions, and this is a {what}: leave out --data to bound its slope"
            )


def read_model(path: Path) -> Model:
    """The network of a file, whoever wrote it."""
    from certnet.lifted import LiftedNetwork
    from certnet.lifted.learn.stored import load_estimator
    from certnet.networks.arrays import read_arrays

    if not read_arrays(path, lambda file, source: "estimator" in file):
        return Model(LiftedNetwork.load(path))
    stored = load_estimator(path)
    by_energy = stored.params.get("objective") == "class_conditional"
    return Model(stored.network, stored.scaling, stored.extra.get("classes_"), by_energy, stored.kind)
