"""Step 5: what the tuned blocks and the transformer make of every photo, for the last stage of the training.

    python tuned.py --halves HALVES --features FEATURES --checkpoint TAIL

For each NAME-VIEW-trunk.npy a NAME-VIEW-tuned.npy (f16): the pooled features, 1280 wide, and the transformer's output, 384 wide. It
always writes all of them, for they depend on the checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halves import PhotoBackbone
from heads import Heads
from tail import Tail, load_tail

BATCH = 256


def load_trained(halves: Path, state: dict) -> tuple[PhotoBackbone, Tail, Heads]:
    """The image half as it was published, its tuned tail, and the heads, of a checkpoint of the second stage or the last."""
    backbone, tail = load_tail(halves)
    heads = Heads(state["blocks"])
    for name, module in [("tail", tail), ("heads", heads)]:
        weights = {key.removeprefix(f"{name}."): value for key, value in state["average"].items() if key.startswith(f"{name}.")}
        module.load_state_dict(weights)
    return backbone, tail.eval(), heads.eval()


@torch.inference_mode()
def features(trunk: Tensor, tail: Tail, heads: Heads) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        pooled, grid = tail(trunk)
        transformed = heads.image.transformer(pooled, grid)
    return torch.cat([pooled.float(), transformed.float()], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halves", type=Path, required=True, help="folder written by fetch.py")
    parser.add_argument("--features", type=Path, required=True, help="folder written by features.py")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of the second stage's checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    _, tail, heads = load_trained(arguments.halves, torch.load(arguments.checkpoint / "last.pt"))
    for path in sorted(arguments.features.glob("*-trunk.npy")):
        trunk = np.load(path, mmap_mode="r")
        starts = range(0, len(trunk), BATCH)
        parts = [features(torch.from_numpy(trunk[start : start + BATCH]).float(), tail, heads) for start in starts]
        np.save(path.with_name(path.name.replace("-trunk", "-tuned")), torch.cat(parts).numpy().astype(np.float16))
        print(f"{path.stem}: {len(trunk)} photos", flush=True)


if __name__ == "__main__":
    main()
