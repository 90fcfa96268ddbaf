"""Why certnet does not read an ONNX operator, one sentence each."""

from __future__ import annotations

from typing import Final

__all__ = ["REASONS", "reason"]

_CONVOLUTION: Final = "it is a convolution, and certnet reads dense layers"
_POOLING: Final = "it pools over positions, and certnet reads dense layers"
_RECURRENT: Final = "it is recurrent, and certnet reads feed-forward networks"
_NORMALISED: Final = (
    "it divides every sample by its own deviation, which is no affine map and has no bounded slope; train with "
    "BatchNormalization, which is affine in inference, or cut the normalisation off"
)
_TREES: Final = "trees are piecewise constant: where they jump no Lipschitz constant exists"
_KERNEL: Final = "it is a kernel machine, not a network of layers"
_QUANTISED: Final = "the model is quantised, and rounding has no Lipschitz constant: export the float model"
_SELECTED: Final = "it gives indices or classes, which jump: export the model with its logits or values as the output"
_JOINED: Final = "it joins branches, and certnet reads chains of layers"
_SPLIT: Final = "it splits the features into branches, and certnet reads chains of layers: certify each part by itself"
_REDUCED: Final = "it sums or averages over features, as normalisations and pooling do; only dense layers mix features"
_ATTENTION: Final = "attention multiplies data with data: its slope is not bounded over all inputs"
_CONTROL: Final = "control flow is not read: export the model in evaluation mode, for one path"
_CASES: Final = "a choice by cases may jump, and is no activation that certnet knows"
_PERIODIC: Final = "it is no activation that certnet knows a slope interval of"

REASONS: Final[dict[str, str]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "DeformConv"), _CONVOLUTION),
    **dict.fromkeys(
        ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "LpPool", "GlobalLpPool", "MaxUnpool"),
        _POOLING,
    ),
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
    **dict.fromkeys(("Concat", "Sum", "Mean", "FeatureVectorizer"), _JOINED),
    **dict.fromkeys(("Split", "Slice", "Gather", "GatherElements", "GatherND"), _SPLIT),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1", "ReduceSumSquare", "CumSum"),
        _REDUCED,
    ),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "Einsum"), _ATTENTION),
    **dict.fromkeys(("If", "Loop"), _CONTROL),
    **dict.fromkeys(("Less", "LessOrEqual", "GreaterOrEqual", "Greater", "Equal", "Where", "And", "Or", "Not"), _CASES),
    **dict.fromkeys(("Sin", "Cos", "ThresholdedRelu", "Shrink", "Sinh", "Cosh"), _PERIODIC),
    "OneHotEncoder": "its inputs are categories: export the network behind the encoder",
    "LinearRegressor": "it is a linear model, whose Lipschitz constant is the norm of its matrix",
    "LinearClassifier": "it is a linear model, whose Lipschitz constant is the norm of its matrix",
    "Unsqueeze": "it adds a dimension to the data: samples are rows, [N, d]",
    "Transpose": "it moves features between samples or dimensions: flatten the samples first",
    "Pad": "it pads the data: certnet reads dense layers",
    "Resize": "it resamples images: certnet reads dense layers",
}


def reason(operator: str) -> str:
    """ ": why it is refused", or nothing."""
    return f": {REASONS[operator]}" if operator in REASONS else ""
