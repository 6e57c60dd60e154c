"""Step 7: write the two towers as ONNX graphs with small weights, and check them against PyTorch.

    python export.py --halves HALVES --checkpoint CHECKPOINTS --out ../tiny

Batch norms are folded into the convolutions. Then each weight of a convolution or linear layer is stored as int8 with one
f32 scale per output channel (symmetric), the word table with one scale per word; what is small stays f32. In the graph an
int8 weight is brought back by a Cast and a Mul, which ONNX Runtime computes once, when the session starts. (It does not fold
DequantizeLinear: 1.17 computes it in every run, 1.32 turns it into MatMulNBits.) A word's row is brought back after it was
looked up. The PyTorch towers get the same rounded weights, and the graphs' rows must equal theirs within 1e-5.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import photos
from halves import CONTEXT_LENGTH, PhotoBackbone, SentenceEncoder, load_sentence_encoder
from heads import EMBEDDING_WIDTH, Heads
from tuned import load_trained

OPSET = 17
IR_VERSION = 8
TOLERANCE = 1e-5
SMALLEST_QUANTISED = 4096


class ImageTower(nn.Module):
    def __init__(self, backbone: PhotoBackbone, heads: Heads):
        super().__init__()
        self.backbone, self.head = backbone, heads.image

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(*self.backbone.tail(self.backbone.trunk(pixel_values)))


class TextTower(nn.Module):
    def __init__(self, encoder: SentenceEncoder, heads: Heads):
        super().__init__()
        self.encoder, self.head = encoder, heads.text

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.encoder(input_ids, attention_mask))


def quantise(weight: Tensor, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 values and their f32 scales, one for each index of `axis`."""
    values = weight.detach().numpy()
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = (np.abs(values).max(axis=others, keepdims=True) / 127.0).astype(np.float32)
    scales[scales == 0] = 1.0
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales


def round_weights(tower: nn.Module) -> None:
    """Give the PyTorch tower the weights that the graph will have."""
    for module in tower.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)) and module.weight.numel() >= SMALLEST_QUANTISED:
            integers, scales = quantise(module.weight, 0)
            module.weight.data = torch.from_numpy(integers.astype(np.float32) * scales)


def to_graph(tower: nn.Module, inputs: dict[str, Tensor], output: str, dynamic: dict, path: Path) -> onnx.ModelProto:
    torch.onnx.export(
        tower,
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes=dynamic,
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(path)
    model.ir_version = IR_VERSION
    return model


def initialisers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def output_axis(node: onnx.NodeProto, rank: int) -> int:
    """Which axis of a node's weight counts the output channels (or the words)."""
    if node.op_type == "MatMul":
        return rank - 1
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return 0


def restore_after_lookup(node: onnx.NodeProto, integers: str, scales: str) -> list[onnx.NodeProto]:
    """Gather int8 rows and their scales, and multiply."""
    rows, row_scales, cast = f"{node.output[0]}_int8", f"{node.output[0]}_scale", f"{node.output[0]}_f32"
    return [
        helper.make_node("Gather", [integers, node.input[1]], [rows], axis=0),
        helper.make_node("Gather", [scales, node.input[1]], [row_scales], axis=0),
        helper.make_node("Cast", [rows], [cast], to=TensorProto.FLOAT),
        helper.make_node("Mul", [cast, row_scales], list(node.output), name=node.name),
    ]


def restore_weight(name: str, integers: str, scales: str) -> list[onnx.NodeProto]:
    """An int8 weight as f32, under its old name."""
    return [
        helper.make_node("Cast", [integers], [f"{name}_cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_cast", scales], [name]),
    ]


def store_as_int8(model: onnx.ModelProto) -> None:
    """Replace the large f32 weights of a graph by int8 values and scales."""
    weights = initialisers(model)
    nodes, replaced, prelude = [], set(), []
    for node in model.graph.node:
        position = 0 if node.op_type == "Gather" else 1
        name = node.input[position] if len(node.input) > position else ""
        quantised = node.op_type in ("Conv", "Gemm", "MatMul", "Gather") and name in weights
        tensor = weights.get(name)
        if not quantised or tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_QUANTISED:
            nodes.append(node)
            continue
        integers, scales = f"{name}_int8", f"{name}_scale"
        if name not in replaced:
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            stored, factors = quantise(values, output_axis(node, values.ndim))
            pair = [numpy_helper.from_array(stored, integers), numpy_helper.from_array(factors, scales)]
            model.graph.initializer.extend(pair)
            if node.op_type != "Gather":
                prelude.extend(restore_weight(name, integers, scales))
            replaced.add(name)
        nodes.extend(restore_after_lookup(node, integers, scales) if node.op_type == "Gather" else [node])
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in replaced]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*prelude, *nodes])


def finish(model: onnx.ModelProto, path: Path) -> None:
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    domains = {entry.domain for entry in model.opset_import}
    assert domains == {""}, domains
    onnx.save(model, path)


def run_graph(path: Path, inputs: dict[str, Tensor]) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])


def check(name: str, path: Path, tower: nn.Module, inputs: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        difference = float((run_graph(path, inputs) - tower.eval()(*inputs.values())).abs().max())
    print(f"{name}: the graph's rows equal PyTorch's within {difference:.1e}")
    assert difference < TOLERANCE


def check_padding(path: Path) -> None:
    """A text alone must give the row that it gives padded in a batch."""
    generator = torch.Generator().manual_seed(0)
    alone = torch.randint(1000, 20000, (1, 9), generator=generator)
    padded = torch.zeros(3, CONTEXT_LENGTH, dtype=torch.int64)
    padded[1, :9] = alone[0]
    padded[[0, 2]] = torch.randint(1000, 20000, (2, CONTEXT_LENGTH), generator=generator)
    mask = torch.ones_like(padded)
    mask[1, 9:] = 0
    single = run_graph(path, {"input_ids": alone, "attention_mask": torch.ones_like(alone)})
    batch = run_graph(path, {"input_ids": padded, "attention_mask": mask})
    difference = float((single[0] - batch[1]).abs().max())
    print(f"a text alone equals the same text padded in a batch within {difference:.1e}")
    assert difference < TOLERANCE


def load_towers(halves: Path, state: dict) -> tuple[ImageTower, TextTower]:
    """The trained towers; the tail's weights go back into the image half as convolutions."""
    backbone, tail, heads = load_trained(halves, state)
    tail.store(backbone)
    heads.requires_grad_(False)
    return ImageTower(backbone, heads).eval(), TextTower(load_sentence_encoder(halves), heads).eval()


def export_towers(arguments: argparse.Namespace, image: ImageTower, text: TextTower) -> None:
    size, folder = photos.IMAGE_SIZE, arguments.out / "onnx"
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.full_precision:
        round_weights(image)
        round_weights(text)

    pixels = {"pixel_values": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))}
    tokens = {"input_ids": torch.randint(1000, 20000, (2, 12)), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}
    text_axes = {name: {0: "batch", 1: "sequence"} for name in tokens} | {"text_embeds": {0: "batch"}}
    image_axes = {"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}}
    for name, tower, inputs, output, axes in [
        ("vision_model", image, pixels, "image_embeds", image_axes),
        ("text_model", text, tokens, "text_embeds", text_axes),
    ]:
        path = folder / f"{name}.onnx"
        model = to_graph(tower, inputs, output, axes, path)
        if not arguments.full_precision:
            store_as_int8(model)
        finish(model, path)
        check(name, path, tower, inputs)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    check_padding(folder / "text_model.onnx")


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_settings(out: Path, calibration: dict[str, float], blocks: int) -> None:
    size = photos.IMAGE_SIZE
    mean, deviation = photos.PIXEL_MEAN / 255, photos.PIXEL_DEVIATION / 255
    text_config = {"hidden_size": 384, "max_position_embeddings": CONTEXT_LENGTH, "num_hidden_layers": 6, "vocab_size": 30522}
    config = {
        "model_type": "diptych",
        "projection_dim": EMBEDDING_WIDTH,
        "text_config": text_config,
        "vision_config": {"image_size": size, "backbone": "efficientnet-lite2", "num_hidden_layers": blocks},
    }
    preprocessor = {
        "crop_size": {"height": size, "width": size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [mean] * 3,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": [deviation] * 3,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": size},
    }
    write_json(out / "config.json", config)
    write_json(out / "preprocessor_config.json", preprocessor)
    settings = {
        "logit_scale": calibration["calibrated_scale"],
        "activation": "softmax",
        "none_below": calibration["none_below"],
    }
    write_json(out / "diptych.json", settings)


def write_tokenizer(halves: Path, out: Path) -> None:
    """MiniLM's tokenizer files with the context length of this model, and no fixed padding."""
    source = next((halves / "minilm").rglob("tokenizer.json")).parent
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": CONTEXT_LENGTH, "strategy": "LongestFirst", "stride": 0}
    tokenizer["padding"] = None
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings.pop("name_or_path", None)
    write_json(out / "tokenizer_config.json", settings | {"model_max_length": CONTEXT_LENGTH})
    write_json(out / "special_tokens_map.json", json.loads((source / "special_tokens_map.json").read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halves", type=Path, required=True, help="folder written by fetch.py")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder written by train.py")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder")
    parser.add_argument("--full-precision", action="store_true", help="f32 weights, to measure what the rounding costs")
    arguments = parser.parse_args()

    state = torch.load(arguments.checkpoint / "last.pt")
    export_towers(arguments, *load_towers(arguments.halves, state))
    calibration = json.loads((arguments.checkpoint / "calibration.json").read_text())
    write_settings(arguments.out, calibration, state["blocks"])
    write_tokenizer(arguments.halves, arguments.out)


if __name__ == "__main__":
    main()
