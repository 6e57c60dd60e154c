"""Writes graphs with a fault that `diptych verify` must find without a record, and one without: tests/data/faults/.

    golden-venv/bin/python onnx/golden/faults.py

Each is a bundle of an image tower alone: means of squares of 4 x 4 pixels, times weights, with one step more that is the
fault.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bundles_transformers
from tokenizers_small import write_json

FOLDER = Path(__file__).resolve().parents[2] / "tests/data/faults"
SIDE, SQUARE, WIDTH = 32, 4, 16

# From `rows` to `image_embeds`.
FAULTS = {
    "none": [helper.make_node("Identity", ["rows"], ["image_embeds"])],
    # None either, but a step in 64 bits, which devices leave to the processor.
    "double": [
        helper.make_node("Cast", ["rows"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "turn"], ["turned"]),
        helper.make_node("Cast", ["turned"], ["image_embeds"], to=TensorProto.FLOAT),
    ],
    # A row depends on those beside it.
    "batch": [
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["mean", "tenth"], ["part"]),
        helper.make_node("Add", ["rows", "part"], ["image_embeds"]),
    ],
    # A row is another at every run.
    "chance": [
        helper.make_node("RandomNormalLike", ["rows"], ["noise"], scale=0.3),
        helper.make_node("Add", ["rows", "noise"], ["image_embeds"]),
    ],
    # A picture that is a little different has a row that is quite different.
    "scramble": [
        helper.make_node("Mul", ["rows", "thousand"], ["large"]),
        helper.make_node("Sin", ["large"], ["image_embeds"]),
    ],
}


def graph(fault: list) -> onnx.ModelProto:
    values = (SIDE // SQUARE) ** 2 * 3
    weights = np.random.default_rng(0).standard_normal((values, WIDTH)).astype(np.float32)
    constants = {"weights": weights, "tenth": np.float32(0.1), "thousand": np.float32(1000)}
    constants["turn"] = np.roll(np.eye(WIDTH), 1, axis=0)
    nodes = [
        helper.make_node(
            "AveragePool", ["pixel_values"], ["squares"], kernel_shape=[SQUARE] * 2, strides=[SQUARE] * 2
        ),
        helper.make_node("Flatten", ["squares"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["rows"]),
        *fault,
    ]
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "faulty",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch_size", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch_size", WIDTH])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    for name, fault in FAULTS.items():
        folder = FOLDER / name
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        onnx.save(graph(fault), folder / "onnx/vision_model.onnx")
        bundles_transformers.image_processor(folder, {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE})
        write_json(folder / "config.json", {"model_type": "clip"})


if __name__ == "__main__":
    main()
