"""Weights of ONNX models in one file that they share, in half precision where that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .whole_file import whole_file

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

WEIGHTS = "weights.bin"
_SMALLEST = 256  # bytes of a tensor that is worth a place in the file
_ALIGNMENT = 64  # bytes: runtimes may use a tensor where it lies


def write_models(models: Mapping[str, ModelProto], folder: Path) -> list[Path]:
    """Write each model under its name, and the weights of all of them as `weights.bin`; returns the paths.

    A tensor that several models have is written once. Float32 tensors whose values are all those of float16 are
    written as such, and the model converts them back when it is loaded: its results are the same.
    """
    paths = [folder / name for name in (*models, WEIGHTS)]
    with whole_file(paths[-1]) as stream:
        offsets: dict[bytes, int] = {}
        for model in models.values():
            _convert_constants(model)
            _halve(model)
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) >= _SMALLEST:
                    _move(tensor, stream, offsets)
    for path, model in zip(paths, models.values()):
        with whole_file(path) as stream:
            stream.write(model.SerializeToString())
    return paths


def _convert_constants(model: ModelProto) -> None:
    """Store constants in the type in which they are used: not every runtime converts all of them."""
    from onnx import helper, numpy_helper

    constants = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:
            values = numpy_helper.to_array(constants[node.input[0]])
            kind = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            name = node.output[0]
            node.CopyFrom(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values.astype(kind))))
            constants[name] = node.attribute[0].t  # which may be converted again
    used = {name for node in model.graph.node for name in node.input}
    nodes = [node for node in model.graph.node if node.op_type != "Constant" or node.output[0] in used]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _halve(model: ModelProto) -> None:
    """Store as float16 what loses nothing by it, and convert it where the graph begins."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))  # as raw bytes, however it was stored
        if values.dtype != np.float32 or values.nbytes < _SMALLEST:
            continue
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        if np.array_equal(halved.astype(np.float32), values):
            name = f"{tensor.name}.float16"
            casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(halved, name))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _move(tensor: TensorProto, stream: BinaryIO, offsets: dict[bytes, int]) -> None:
    """Move the values of a tensor into the file, unless they are there already."""
    from onnx import TensorProto

    values = tensor.raw_data
    if values not in offsets:
        stream.write(bytes(-stream.tell() % _ALIGNMENT))
        offsets[values] = stream.tell()
        stream.write(values)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offsets[values]), ("length", len(values))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
