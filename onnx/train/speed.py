"""Step 9: the speed of the exported graphs beside a CLIP ViT-B/32 of the published shape, in one run.

    python speed.py --model ../tiny

Photos a second of both image graphs in turn (batches of 32, pixels ready), and the time of one text query from the text to its
row. The weights of the ViT-B/32 are random: they do not change what a product costs. Needs transformers.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

ROUNDS = 11
BATCH = 32
QUERY = "a dog runs across a meadow with a stick"


class VisionTower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = CLIPVisionModelWithProjection(CLIPVisionConfig()).eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).image_embeds


def open_graph(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def rate(session: onnxruntime.InferenceSession, size: int) -> float:
    pixels = np.random.default_rng(0).standard_normal((BATCH, 3, size, size), np.float32)
    started = time.perf_counter()
    session.run(None, {"pixel_values": pixels})
    return BATCH / (time.perf_counter() - started)


def query_time(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> float:
    started = time.perf_counter()
    encoding = tokenizer.encode(QUERY)
    ids, mask = np.array([encoding.ids]), np.array([encoding.attention_mask])
    session.run(None, {"input_ids": ids, "attention_mask": mask})
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vit-b-32.onnx"
        axes = {"pixel_values": {0: "batch"}}
        pixels = torch.zeros(1, 3, 224, 224)
        names = {"input_names": ["pixel_values"], "output_names": ["image_embeds"]}
        torch.onnx.export(VisionTower(), (pixels,), str(path), dynamic_axes=axes, opset_version=17, dynamo=False, **names)
        large = open_graph(path, arguments.threads)
        small = open_graph(arguments.model / "onnx" / "vision_model.onnx", arguments.threads)
        size = small.get_inputs()[0].shape[-1]
        rates = [(rate(small, size), rate(large, 224)) for _ in range(ROUNDS + 1)][1:]
    text = open_graph(arguments.model / "onnx" / "text_model.onnx", arguments.threads)
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    queries = sorted(query_time(text, tokenizer) for _ in range(50))
    ours, theirs = (sorted(column) for column in zip(*rates, strict=True))
    ratios = sorted(a / b for a, b in rates)
    print(f"photos a second: {ours[0]:.0f} to {ours[-1]:.0f}, ViT-B/32 {theirs[0]:.1f} to {theirs[-1]:.1f}")
    print(f"ratio: median {ratios[ROUNDS // 2]:.1f}, least {ratios[0]:.1f}")
    print(f"one text query: median {queries[25] * 1000:.1f} ms, slowest {queries[-1] * 1000:.1f} ms")


if __name__ == "__main__":
    main()
