"""The keys of a study file of the kinds "objectives", "robustness" and "validated"."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from certnet.core.errors import InvalidInputError, SolverUnavailableError
from certnet.refinement.refinement import SOLVERS, require_solver
from certnet.study.kinds.devices import check_device
from certnet.study.kinds.refinement.methods import Method
from certnet.study.kinds.refinement.starts import Starts
from certnet.study.spec import Count, Fraction, Misplaced, Positive, Study, StudySpec

__all__ = ["RefinementSpec", "ValidatedSpec", "refinement_check"]


class RefinementSpec(StudySpec):
    """The keys of the kinds "objectives", "robustness" and "validated"."""

    hidden: Count = 100
    weights: Annotated[list[Positive], Field(min_length=1)] = Field(default=[0.01])
    starts: Starts
    methods: dict[str, Method] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _starts_exist(self) -> RefinementSpec:
        Misplaced.twice(("weights",), self.weights)
        for name, method in self.methods.items():
            if method.solver.upper() not in map(str.upper, SOLVERS):
                message = f"must be one of {', '.join(map(repr, SOLVERS))}, got {method.solver[:60]!r}"
                raise Misplaced(("methods", name, "solver"), message)
            Misplaced.check(("methods", name, "starts"), method.starts or (), self.starts.named, "starts")
            if name in self.starts.named:
                raise Misplaced(("methods", name), "has the name of a start")
        return self

    def applied_to(self, method: str) -> list[str]:
        """The starts of a method."""
        chosen = self.methods[method].starts
        return [name for name in self.starts.named if chosen is None or name in chosen]


class ValidatedSpec(RefinementSpec):
    """A study file of the kind "validated"; ``weights`` are the candidates.

    Attributes
    ----------
    validation_fraction : float
        Share of the training part that candidates are not trained on, drawn anew in every trial.
    leader : str
        The method whose cases the page counts.
    """

    kind: Literal["validated"]
    validation_fraction: Fraction = 0.25
    leader: str = ""

    @model_validator(mode="after")
    def _leader_exists(self) -> ValidatedSpec:
        if self.leader:
            Misplaced.check(("leader",), [self.leader], self.methods, "methods")
        return self


def refinement_check(study: Study[RefinementSpec]) -> None:
    """Refuse solvers and devices that cannot be used here.

    Raises
    ------
    InvalidInputError
    """
    spec = study.spec
    for name, start in (("sgd", spec.starts.sgd), ("pgd", spec.starts.pgd)):
        if start is not None:
            check_device(start.device, study, "starts", name, "device")
    for name, method in spec.methods.items():
        try:
            require_solver(method.solver)
        except SolverUnavailableError as error:
            raise InvalidInputError(f"{study.place('methods', name, 'solver')}: {error}") from error
