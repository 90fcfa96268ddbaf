"""Why certnet does not read an ONNX operator, one sentence each."""

from __future__ import annotations

from typing import Final

__all__ = ["REASONS", "reason"]

_CONVOLUTION: Final = "of convolutions Conv is read, on signals and images: upsample the image, and convolve it"
_POOLING: Final = "of pooling the average and the maximum are read, whose slopes have bounds"
_RECURRENT: Final = "it is recurrent, and certnet reads feed-forward networks"
_NORMALISED: Final = (
    "it divides every sample by its own deviation, which is no affine map and has no bounded slope; train with "
    "BatchNormalization, which is affine in inference, or cut the normalisation off"
)
_TREES: Final = "trees are piecewise constant: where they jump no Lipschitz constant exists"
_KERNEL: Final = "it is a kernel machine, not a network of layers"
_QUANTISED: Final = "the model is quantised, and rounding has no Lipschitz constant: export the float model"
_SELECTED: Final = "it gives indices or classes, which jump: export the model with its logits or values as the output"
_CHOSEN: Final = "it takes entries where data say, and jumps"
_REDUCED: Final = "of reductions sums, means and maxima over axes of a sample are read"
_ATTENTION: Final = "attention multiplies data with data: its slope is not bounded over all inputs"
_CONTROL: Final = "control flow is not read: export the model in evaluation mode, for one path"
_CASES: Final = "a choice by cases may jump, and is no activation that certnet knows"
_PERIODIC: Final = "it is no activation that certnet knows a slope interval of"

REASONS: Final[dict[str, str]] = {
    **dict.fromkeys(("ConvTranspose", "ConvInteger", "DeformConv"), _CONVOLUTION),
    **dict.fromkeys(("LpPool", "GlobalLpPool", "MaxUnpool", "MaxRoiPool", "RoiAlign"), _POOLING),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "Scan"), _RECURRENT),
    **dict.fromkeys(
        (
            "LayerNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "RMSNormalization",
            "MeanVarianceNormalization",
            "LpNormalization",
            "LRN",
            "Normalizer",
        ),
        _NORMALISED,
    ),
    **dict.fromkeys(("TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble"), _TREES),
    **dict.fromkeys(("SVMRegressor", "SVMClassifier"), _KERNEL),
    **dict.fromkeys(
        (
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearMatMul",
            "MatMulInteger",
            "QGemm",
            "Round",
            "Floor",
            "Ceil",
        ),
        _QUANTISED,
    ),
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "TopK", "Hardmax", "LabelEncoder", "ArrayFeatureExtractor", "ZipMap", "Sign"), _SELECTED
    ),
    **dict.fromkeys(("GatherElements", "GatherND", "GridSample", "NonMaxSuppression"), _CHOSEN),
    **dict.fromkeys(("ReduceMin", "ReduceL2", "ReduceL1", "ReduceSumSquare", "ReduceProd", "CumSum"), _REDUCED),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "Einsum"), _ATTENTION),
    **dict.fromkeys(("If", "Loop"), _CONTROL),
    **dict.fromkeys(("Less", "LessOrEqual", "GreaterOrEqual", "Greater", "Equal", "Where", "And", "Or", "Not"), _CASES),
    **dict.fromkeys(("Sin", "Cos", "ThresholdedRelu", "Shrink", "Sinh", "Cosh"), _PERIODIC),
    "OneHotEncoder": "its inputs are categories: export the network behind the encoder",
    "LinearRegressor": "it is a linear model, whose Lipschitz constant is the norm of its matrix",
    "LinearClassifier": "it is a linear model, whose Lipschitz constant is the norm of its matrix",
    "FeatureVectorizer": "it joins several inputs, and certnet reads models with one",
}


def reason(operator: str) -> str:
    """ ": why it is refused", or nothing."""
    return f": {REASONS[operator]}" if operator in REASONS else ""
