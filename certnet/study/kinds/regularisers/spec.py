"""Study files of the kind "regularisers"."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from certnet.study.kinds.devices import check_device
from certnet.study.spec import (
    Count,
    Device,
    Fraction,
    Misplaced,
    NonNegative,
    Part,
    Positive,
    Study,
    StudySpec,
    increases,
)

__all__ = ["Expected", "Formulation", "RegularisersSpec", "regulariser_check"]

Criterion = Literal["clean", "noisy"]


class Formulation(Part):
    """What is added to the mean squared error, or what the weights are held to: a class of :mod:`certnet.train`.

    Attributes
    ----------
    regularizer : str
    values : list of float
        Weights λ of a penalty, limits of a constraint. One is taken as it is; of several, one is chosen on validation
        data.
    """

    regularizer: Literal["none", "per-layer", "coupled", "max-norm", "coupled-bound"]
    values: list[Positive] = Field(default_factory=list)

    @model_validator(mode="after")
    def _values_fit(self) -> Formulation:
        if self.regularizer == "none" and self.values:
            raise ValueError('regularizer = "none" takes no values')
        if self.regularizer != "none" and not self.values:
            raise ValueError("values is missing: give one, or several to choose from")
        if not increases(self.values):
            raise ValueError("values must increase")
        return self


class Expected(Part):
    """Statements of a paper about formulations, which the page looks at and does not require.

    Attributes
    ----------
    noise : list of pairs
        The first one's mean absolute error on test data is below the second's, at every noise level.
    training : list of pairs
        The same of the training data, without noise.
    """

    noise: list[list[str]] = Field(default_factory=list)
    training: list[list[str]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _pairs(self) -> Expected:
        if any(len(pair) != 2 for pair in [*self.noise, *self.training]):
            raise ValueError("noise and training take pairs of formulations")
        return self


class RegularisersSpec(StudySpec):
    """A study file of the kind "regularisers"; defaults are the settings of C, section 3, where he states them.

    Attributes
    ----------
    on_acknowledgement : list of str
        Data sets that are added to ``datasets`` where ``acknowledge_ethics = true``.
    test_fraction : float
        Share of a built-in set that is held out, drawn anew for every trial (tables have their own).
    validation_fraction : float
        Share of the training part that the search over ``values`` does not train on.
    noise : list of float
        Levels η, from 0 upwards: ``x̃ = x + η (x_max − x_min) u``, u uniform on [0, 1] in every input.
    noise_draws : int
        Draws of u over which errors are means.
    criteria : list of {"clean", "noisy"}
        How a value is chosen: by the least mean absolute error on the validation data without noise, or by its mean
        over the noise levels. Each gives a network.
    published : mapping
        By data set and formulation: the norms of the hidden layers and the product that a paper prints.
    """

    kind: Literal["regularisers"]
    formulations: Annotated[dict[str, Formulation], Field(min_length=1)]
    on_acknowledgement: list[str] = Field(default_factory=list)
    hidden: Annotated[list[Count], Field(min_length=1)] = Field(default=[20, 20, 20])
    epochs: Count = 200
    batch_size: Count = 50
    learning_rate: Positive = 1e-3
    device: Device = "cpu"
    test_fraction: Fraction = 0.2
    validation_fraction: Fraction = 0.2
    noise: Annotated[list[NonNegative], Field(min_length=1)] = Field(default=[0.0, 0.2, 0.4, 0.6])
    noise_draws: Count = 20
    criteria: Annotated[list[Criterion], Field(min_length=1)] = Field(default=["clean", "noisy"])
    expected: Expected = Expected()
    published: dict[str, dict[str, list[float]]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _add_acknowledged(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("acknowledge_ethics") is not True:
            return raw
        names, more = raw.get("datasets", []), raw.get("on_acknowledgement", [])
        if not isinstance(names, list) or not isinstance(more, list):
            return raw  # refused with its type a moment later
        return {**raw, "datasets": [*names, *(name for name in more if name not in names)]}

    @model_validator(mode="after")
    def _fits_together(self) -> RegularisersSpec:
        if self.noise[0] != 0.0 or not increases(self.noise):
            raise Misplaced(("noise",), f"must begin with 0 and increase, got {self.noise}")
        if len(set(self.criteria)) < len(self.criteria):
            raise Misplaced(("criteria",), f"names one twice, got {self.criteria}")
        if "attack" in self.model_fields_set:
            raise Misplaced(("attack",), "does not belong here: this kind of study perturbs by noise (key noise)")
        if "time_limit" in self.model_fields_set:
            raise Misplaced(("time_limit",), "does not belong here: trainings end after their epochs")
        return self

    @model_validator(mode="after")
    def _formulations_exist(self) -> RegularisersSpec:
        for key in ("noise", "training"):
            names = [name for pair in getattr(self.expected, key) for name in pair]
            Misplaced.check(("expected", key), names, self.formulations, "formulations")
        for data, printed in self.published.items():
            Misplaced.check(("published", data), printed, self.formulations, "formulations")
        return self


def regulariser_check(study: Study[RegularisersSpec]) -> None:
    """Refuse a device that cannot be used here."""
    check_device(study.spec.device, study, "device")
