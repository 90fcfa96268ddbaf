"""The keys of a study of lifted networks: networks to train, what to measure of them, and the papers' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from certnet.core.errors import DatasetError
from certnet.study.kinds.lifted.images import require, resolved, whole_of
from certnet.study.spec import Count, Misplaced, NonNegative, Part, Positive, Study, StudySpec

__all__ = ["IMAGES", "Components", "LiftedSpec", "Measure", "Recipe", "TrainedNetwork", "lifted_check"]

Name = Literal[
    "mnist", "kmnist", "fashion_mnist", "cifar10", "cifar10-grey", "cifar10_part", "cifar10_part-grey", "digits"
]

IMAGES: tuple[str, ...] = get_args(Name)
"""Image sets that a study may name; "…-grey" is CIFAR-10 with one channel, "cifar10_part" the part that stands in where
the whole is not there, "digits" scikit-learn's 8 x 8."""

Images = Annotated[list[Name], Field(min_length=1)]
Measure = Literal["certificate", "energies", "filters", "forward", "gradient", "passes"]

_OF_OUTPUTS: frozenset[str] = frozenset({"certificate", "forward", "gradient", "passes"})
_LATER: frozenset[str] = frozenset({"labels", "labelled_share", "margin", "unsupervised_weight"})


class Shown(Part):
    """Where a network appears: its image sets, and the table of the page."""

    images: Images
    table: Literal["supervised", "linearity", "unsupervised", ""] = ""


class Recipe(Part):
    """All that a training depends on beside the images and the first weights; see :class:`TrainedNetwork`."""

    hidden: list[Count] = Field(default_factory=list)
    classifies: bool = True
    units: Literal["relu", "hard_sigmoid", "linear"] = "relu"
    beta: NonNegative | list[NonNegative] = 1.0
    gamma: Positive = 0.125
    objective: Literal[
        "contrastive",
        "lifted",
        "unsupervised",
        "semi_supervised",
        "class_conditional",
        "back-propagation",
        "rr-layers",
        "linear-regression",
    ] = "contrastive"
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.05
    rate_scale: Literal["backpropagation", "energy"] = "backpropagation"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    batch_size: Count = 10
    epochs: Count = 100
    weight_decay: NonNegative = 0.0
    passes: Count | None = None
    margin: Positive | None = None
    labels: Count | None = None
    unsupervised_weight: NonNegative | None = None
    labelled_share: Positive | None = None

    @model_serializer(mode="wrap")
    def _told_where_they_are_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys that came later are written where they are given: rows without them keep their digests."""
        plain: dict[str, Any] = handler(self)
        return {key: value for key, value in plain.items() if key not in _LATER or value is not None}


class TrainedNetwork(Recipe, Shown):  # in this order keys, and what is wrong with them, are told as the page lists them
    """A network and how it is trained, on each of its image sets.

    Attributes
    ----------
    images : list of str
    table : str
        Which table of the page shows it: "supervised", "linearity", "unsupervised", or none.
    hidden : list of int
        Widths of the hidden layers; none for linear regression.
    classifies : bool
        Whether a linear output with one unit per class follows.
    units : {"relu", "hard_sigmoid", "linear"}
    beta : float or list of float
        One number serves the hidden layers; the output's is 0 then.
    objective : str
        "contrastive", "lifted", "unsupervised", "semi_supervised"; "class_conditional", which predicts the class of
        least energy; "back-propagation" of the feed-forward twin, "rr-layers" of feed-forward regression/reconstruction
        layers (margin loss), "linear-regression".
    margin : float, optional
        Of the margin loss of "rr-layers": see :func:`certnet.lifted.rr_training_.train_rr`.
    labels : int, optional
        So many training images, the same number of every class as far as they go, keep their labels. The others are
        unlabelled for "semi_supervised", and left out for "contrastive".
    unsupervised_weight, labelled_share : float, optional
        Of "semi_supervised": see :class:`certnet.lifted.learn.Objective` and :class:`certnet.lifted.learn.Training`.
    rate_scale : {"backpropagation", "energy"}
        See :class:`certnet.lifted.learn.Training`.
    start : str, optional
        The network whose weights training starts from; by default normal weights, the same for equal shapes.
    weight_scale : float
        Factor of the first weights of :func:`certnet.lifted.learn.initial_network`, where there is no start.
    measures : list of str
        What is computed of the trained network beside accuracies and linear fractions.
    """

    start: str | None = None
    weight_scale: Positive = 1.0
    measures: list[Measure] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fit_together(self) -> TrainedNetwork:
        feed_forward = {"back-propagation": {"filters"}, "rr-layers": {"certificate"}, "linear-regression": set[str]()}
        fits = feed_forward.get(self.objective)
        if (self.objective == "linear-regression") != (not self.hidden):
            raise ValueError("linear regression has no hidden layers, every other objective has some")
        if fits is not None and set(self.measures) - fits:
            only = f"only {', '.join(fits)} fits" if fits else "none fits"
            raise ValueError(f"{self.objective} gives no lifted network: of the measures {only}")
        if self.labels is not None and self.objective not in ("contrastive", "semi_supervised"):
            raise ValueError(f"labels is for contrastive and semi_supervised networks, not for {self.objective}")
        of = {"labelled_share": "semi_supervised", "unsupervised_weight": "semi_supervised", "margin": "rr-layers"}
        for key, objective in of.items():
            if getattr(self, key) is not None and self.objective != objective:
                raise ValueError(f"{key} is for {objective}, and has no effect for {self.objective}")
        if self.objective == "rr-layers" and isinstance(self.beta, list):
            raise ValueError("rr-layers have one beta: a number")
        if self.objective == "class_conditional" and set(self.measures) & _OF_OUTPUTS:
            raise ValueError(
                "class_conditional predicts by energies: its outputs have no certificate, pass or gradient"
            )
        if not self.classifies and self.objective != "unsupervised":
            raise ValueError("a network without outputs is trained by the unsupervised objective")
        if not self.classifies and set(self.measures) & _OF_OUTPUTS:
            raise ValueError(f"{', '.join(sorted(_OF_OUTPUTS))} need outputs for the classes")
        if self.start is not None and self.weight_scale != 1.0:
            raise ValueError("weight_scale is for weights that are drawn, and start gives them")
        return self

    def recipe(self, max_epochs: int | None) -> Recipe:
        """How it is trained, in at most so many epochs."""
        said = {name: getattr(self, name) for name in Recipe.model_fields}
        return Recipe(**said | {"epochs": min(self.epochs, max_epochs or self.epochs)})


class Components(Part):
    """One linear layer without biases, unsupervised, against the leading eigenvectors of the scatter matrix.

    Attributes
    ----------
    n_components : list of int
        Widths of the layer.
    """

    images: Images
    n_components: Annotated[list[Count], Field(min_length=1)] = Field(default=[8, 16, 32])
    max_iterations: Count = 5000


class LiftedSpec(StudySpec):
    """A study file of the kind "lifted".

    Attributes
    ----------
    networks : dict of TrainedNetwork
        By name; a start comes before what starts from it.
    components : Components, optional
    max_train, max_test, max_epochs : int, optional
        Limits for all networks: samples are drawn at random.
    fallback : {"digits"}, optional
        The set that stands in where the files of an image set are not there.
    gammas : list of float
        For the measure "gradient".
    gradient_samples : int
    published : dict
        Numbers of the papers by network, then image set, then column.
    expected : dict
        Least test accuracy in per cent by network, then image set; looked at where no limit is set.
    remarks : list of str
        What the page says at its end about differences from the papers.
    """

    kind: Literal["lifted"]
    networks: Annotated[dict[str, TrainedNetwork], Field(min_length=1)]
    components: Components | None = None
    max_train: Count | None = None
    max_test: Count | None = None
    max_epochs: Count | None = None
    fallback: Literal["digits"] | None = None
    gammas: Annotated[list[Positive], Field(min_length=2)] = Field(
        default=[1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001]
    )
    gradient_samples: Count = 200
    published: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    expected: dict[str, dict[str, NonNegative]] = Field(default_factory=dict)
    remarks: list[str] = Field(default_factory=list)

    PROSE: ClassVar[frozenset[str]] = StudySpec.PROSE | {"remarks"}
    FOREIGN: ClassVar[tuple[str, ...]] = ("datasets", "tables", "attack", "time_limit")
    """Keys of other studies, which would have no effect here."""

    def paper(self, network: str, data: str) -> dict[str, Any]:
        """What is published of a network on an image set, or on the whole set of which ours is a part."""
        printed = self.published.get(network, {})
        return printed.get(data) or printed.get(whole_of(data), {})

    @model_validator(mode="after")
    def _some_data(self) -> LiftedSpec:
        """In place of the base's: every network names its images."""
        for name in self.FOREIGN:
            if name in self.model_fields_set:
                raise Misplaced((name,), "has no effect in a study of lifted networks: networks name their images")
        return self

    @model_validator(mode="after")
    def _starts_exist(self) -> LiftedSpec:
        before: list[str] = []
        for name, network in self.networks.items():
            if network.start is not None:
                self._check_start(name, network, before)
            before.append(name)
        for key in ("published", "expected"):
            Misplaced.check((key,), getattr(self, key), self.networks, "networks")
        return self

    def _check_start(self, name: str, network: TrainedNetwork, before: list[str]) -> None:
        if network.start not in before:
            raise Misplaced(("networks", name, "start"), f"is {network.start!r}, which is no network before it")
        start = self.networks[network.start]
        same = ("hidden", "classifies", "units", "beta", "gamma")
        different = [key for key in same if getattr(start, key) != getattr(network, key)]
        if different or not set(network.images) <= set(start.images):
            # not Misplaced: where a wrong key was cut away, its default may differ, which is no error of its own
            raise ValueError(f"networks.{name} and its start differ in {', '.join(different) or 'images'}")


def lifted_check(study: Study[LiftedSpec]) -> None:
    """Refuse image sets whose files are not there and for which nothing stands in.

    Not of a built-in study: its rows say what is missing, and those of the sets that are there are worth having.

    Raises
    ------
    DatasetError
        The message says where to get the files.
    """
    if study.builtin:
        return
    spec = study.spec
    named: dict[tuple[str, ...], Sequence[str]] = {
        ("networks", name, "images"): network.images for name, network in spec.networks.items()
    }
    if spec.components is not None:
        named["components", "images"] = spec.components.images
    for path, images in named.items():
        for name in resolved(images, spec.fallback):
            try:
                require(name)
            except DatasetError as error:
                raise DatasetError(f"{study.place(*path)}: {error}") from error
