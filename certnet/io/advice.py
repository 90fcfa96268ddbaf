"""What to do with files that certnet does not read, one sentence for every suffix that people try."""

from __future__ import annotations

from typing import Final

__all__ = ["ADVICE", "advice_for"]

_PICKLE: Final = (
    "is a pickle, and unpickling runs whatever code the file holds: convert it where it was made, "
    'with certnet.from_sklearn(model).save("model.npz"), and name that file'
)
# not read although .keras is: on a damaged file the HDF5 library may not end, and only an archive has checksums
_HDF5: Final = (
    'is HDF5, as Keras 2 wrote models: save it where it was made, with model.save("model.keras") or '
    'model.export("model.onnx", format="onnx"), and name that file'
)
_TENSORFLOW: Final = (
    "is a TensorFlow model: convert it by python -m tf2onnx.convert --saved-model FOLDER --output model.onnx, and name "
    "that file"
)
_LITE: Final = "is a TensorFlow Lite model: convert it by python -m tf2onnx.convert --tflite FILE --output model.onnx"
_CORE: Final = "is a Core ML model: export the model that it was made from to ONNX, and name that file"
_OPENVINO: Final = (
    "is an OpenVINO model, or weights without one: export the model that it was made from to ONNX, and name that file"
)
_BIN: Final = (
    "holds bare weights or a pickle of them: save them as safetensors (model.save_pretrained(..., "
    "safe_serialization=True)) or the model as ONNX, and name that file"
)
_PMML: Final = (
    'is PMML: certnet.from_sklearn(pipeline).save("model.npz") converts the scikit-learn model it was made from'
)
_PADDLE: Final = "is a PaddlePaddle model: convert it by paddle2onnx, and name the .onnx file"
_FLAX: Final = (
    "holds the parameters of a JAX model without the model: save them as numpy.savez(path, W1=..., b1=..., W2=...) and "
    "give the activation"
)
_GGUF: Final = (
    "is a language model, whose attention has no finite Lipschitz constant: certnet reads feed-forward networks"
)
_ENGINE: Final = "is compiled for one device: name the .onnx file that it was made from"
_ARCHIVE: Final = "is an archive: unpack it, and name the model file in it"
_TABLE: Final = "is a table or text, and a model is needed here; data are named by --data where a command takes them"
_JSON: Final = (
    "is JSON: a certificate is named before the model, `certnet check CERTIFICATE MODEL`; a model goes to .npz or .onnx"
)
_DOCUMENT: Final = "is a document: name the model file, .npz, .onnx or .pt say"
_SCRIPT: Final = 'is a program: run it, and save its model by certnet.from_torch(model).save("model.npz")'
_IMAGE: Final = "is a picture: name the model file, .npz, .onnx or .pt say"
_NPY: Final = (
    "holds one array, and a network has several: save them together, numpy.savez(path, W1=..., b1=..., W2=..., b2=...)"
)
_R: Final = "is of R: write the matrices and biases as .mat or .onnx, and name that file"
_BOOST: Final = "is a model of trees, which jump and have no Lipschitz constant: certnet reads feed-forward networks"

ADVICE: Final[dict[str, str]] = {
    **dict.fromkeys((".h5", ".hdf5"), _HDF5),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill", ".skops", ".cloudpickle"), _PICKLE),
    **dict.fromkeys((".pb", ".pbtxt", ".savedmodel", ".meta", ".index"), _TENSORFLOW),
    ".tflite": _LITE,
    **dict.fromkeys((".mlmodel", ".mlpackage"), _CORE),
    ".xml": _OPENVINO,
    ".bin": _BIN,
    ".pmml": _PMML,
    **dict.fromkeys((".pdparams", ".pdmodel", ".pdiparams"), _PADDLE),
    **dict.fromkeys((".msgpack", ".flax"), _FLAX),
    **dict.fromkeys((".gguf", ".ggml"), _GGUF),
    **dict.fromkeys((".engine", ".trt", ".plan", ".mar", ".ptl", ".rknn", ".dlc", ".om"), _ENGINE),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys((".csv", ".tsv", ".txt", ".parquet", ".xlsx", ".xls", ".arff", ".feather"), _TABLE),
    **dict.fromkeys((".json", ".yaml", ".yml", ".toml"), _JSON),
    **dict.fromkeys((".doc", ".docx", ".pdf", ".md", ".html", ".pptx", ".odt"), _DOCUMENT),
    **dict.fromkeys((".py", ".ipynb", ".m", ".r"), _SCRIPT),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".svg"), _IMAGE),
    ".npy": _NPY,
    **dict.fromkeys((".rds", ".rdata"), _R),
    **dict.fromkeys((".ubj", ".cbm", ".lgb"), _BOOST),
}
"""Known suffixes, each with the sentence behind the file's name."""


def advice_for(suffix: str) -> str:
    """The sentence for a suffix that is not read; the known ones for one that nobody knows."""
    return ADVICE.get(
        suffix,
        f"has the suffix {suffix!r}: certnet reads .npz (written by a network's save, or a list of matrices), .onnx, "
        ".pt, .pth or .ckpt (a PyTorch state dict), .safetensors, .keras, .nnet and .mat",
    )
