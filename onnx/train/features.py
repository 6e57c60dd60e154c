"""Step 2: every photo through the frozen image half, once for each view.

    python features.py --data DATA --halves HALVES --features FEATURES --view 0
    python features.py --data DATA --halves HALVES --features FEATURES --view 1 --skip cifar10

View 0 is the photo as a user's photo is prepared; views 1, 2, ... are flipped, cropped, sharpened or blurred
(`photos.augmented_pixels`) and are made for training photos alone. For each set three f16 files are written:
NAME-VIEW-trunk.npy (88 x 12 x 12, what the tuned blocks take, 25 KB a photo), NAME-VIEW-logits.npy (of the ImageNet
classes) and NAME-VIEW.npy (pooled features, 1280 wide). Sets whose files exist are passed over, so a run can go on.
"""

import argparse
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import photos
from halves import PHOTO_WIDTH, TRUNK_SIDE, load_photo_backbone

BATCH = 32


def open_backbone(halves: Path, features: Path, threads: int) -> onnxruntime.InferenceSession:
    """The image half in ONNX Runtime, which is several times faster than PyTorch on a CPU."""
    path = features / "backbone.onnx"
    if not path.exists():
        names = ["trunk", "pooled", "logits"]
        torch.onnx.export(
            load_photo_backbone(halves, photos.IMAGE_SIZE),
            (torch.zeros(2, 3, photos.IMAGE_SIZE, photos.IMAGE_SIZE),),
            str(path),
            input_names=["pixel_values"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ["pixel_values", *names]},
            opset_version=17,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def prepare(photo_set: photos.PhotoSet, encoded: list[bytes], start: int, view: int) -> np.ndarray:
    """The pixels of one batch."""
    stop = min(start + BATCH, len(encoded))
    if view == 0:
        return np.stack([photos.inference_pixels(encoded[i]) for i in range(start, stop)])
    names = [f"{photo_set.name}/{record['file']}" for record in photo_set.records]
    return np.stack([photos.augmented_pixels(encoded[i], names[i], view) for i in range(start, stop)])


def extract(photo_set: photos.PhotoSet, view: int, session: onnxruntime.InferenceSession, target: Path) -> int:
    """Writes trunk, logits and pooled features of a set; the next batch is prepared while one is computed."""
    encoded = photo_set.read_all()
    count = len(encoded)
    pooled, logits = np.zeros((count, PHOTO_WIDTH), np.float16), np.zeros((count, 1000), np.float16)
    width = session.get_outputs()[0].shape[1]
    trunk_file = target.with_name(f"{target.stem}-trunk.npy")
    trunk = np.lib.format.open_memmap(trunk_file, "w+", np.float16, (count, width, TRUNK_SIDE, TRUNK_SIDE))
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(prepare, photo_set, encoded, 0, view)
        for start in range(0, count, BATCH):
            pixels = pending.result()
            if start + BATCH < count:
                pending = pool.submit(prepare, photo_set, encoded, start + BATCH, view)
            rows = slice(start, start + len(pixels))
            trunk[rows], pooled[rows], logits[rows] = session.run(None, {"pixel_values": pixels})
    np.save(target.with_name(f"{target.stem}-logits.npy"), logits)
    np.save(target, pooled)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--halves", type=Path, required=True, help="folder written by fetch.py")
    parser.add_argument("--features", type=Path, required=True, help="folder to write")
    parser.add_argument("--view", type=int, default=0)
    parser.add_argument("--only", default="", help="regular expression: the sets to do")
    parser.add_argument("--skip", default="^$", help="regular expression: the sets to leave out")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    arguments.features.mkdir(parents=True, exist_ok=True)
    session = open_backbone(arguments.halves, arguments.features, arguments.threads)
    for photo_set in photos.load_sets(arguments.data):
        name = photo_set.name
        target = arguments.features / f"{name}-{arguments.view}.npy"
        wanted = re.search(arguments.only, name) and not re.search(arguments.skip, name)
        if not wanted or target.exists() or not name.endswith("-train" if arguments.view else ("-train", "-dev")):
            continue
        started = time.time()
        count = extract(photo_set, arguments.view, session, target)
        print(f"{name} view {arguments.view}: {count} photos, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
