"""Step 5: measure the exported graphs on the test files.

    python evaluate.py --data DATA --model ../tiny --json figures.json

Photos are classified among the labels of their own test file with the text "a photo of a {label}."; retrieval is text to
image among the photos of a file: Flickr8k's test part with the first caption of each photo, and the 100 sharp photos of
clip-vit-b32-flickr with all their captions. Every row is made by the exported graphs and the exported tokenizer, the text
towers being given batches of padded texts.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

import photos
from texts import EVALUATION_TEMPLATE

BATCH = 32


class Model:
    """The two exported towers."""

    def __init__(self, folder: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self.image = onnxruntime.InferenceSession(str(folder / "onnx" / "vision_model.onnx"), options, providers=providers)
        self.text = onnxruntime.InferenceSession(str(folder / "onnx" / "text_model.onnx"), options, providers=providers)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
        self.scale = json.loads((folder / "diptych.json").read_text())["logit_scale"]

    def embed_photos(self, encoded: list[bytes], shrink_to: int | None = None) -> np.ndarray:
        rows = []
        for start in range(0, len(encoded), BATCH):
            batch = encoded[start : start + BATCH]
            pixels = np.stack([photos.inference_pixels(photo, shrink_to=shrink_to) for photo in batch])
            rows.append(self.image.run(None, {"pixel_values": pixels})[0])
        return unit_rows(np.concatenate(rows))

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(texts), BATCH):
            encodings = self.tokenizer.encode_batch(texts[start : start + BATCH])
            inputs = {
                "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
                "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int64),
            }
            rows.append(self.text.run(None, inputs)[0])
        return unit_rows(np.concatenate(rows))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def classification(model: Model, photo_set: photos.PhotoSet, rows: np.ndarray) -> dict[str, float]:
    """Share of right answers, and the mean confidence, which equals that share where the scale is calibrated."""
    classes = [photos.class_label(record) for record in photo_set.records]
    labels = sorted(set(classes))
    logits = model.scale * rows @ model.embed_texts([EVALUATION_TEMPLATE.format(label) for label in labels]).T
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    right = logits.argmax(1) == np.array([labels.index(label) for label in classes])
    return {"photos": len(rows), "labels": len(labels), "accuracy": right.mean(), "confidence": shares.max(1).mean()}


def recalls(scores: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Recall of text to image: `owner` is the column that belongs to each row."""
    own = scores[np.arange(len(scores)), owner][:, None]
    ranks = (scores > own).sum(1)
    return {f"R@{k}": (ranks < k).mean() for k in (1, 5, 10)}


def retrieval(model: Model, photo_set: photos.PhotoSet, rows: np.ndarray, captions_each: int) -> dict[str, float]:
    captions = [(text, i) for i, record in enumerate(photo_set.records) for text in record["captions"][:captions_each]]
    scores = model.embed_texts([text for text, _ in captions]) @ rows.T
    return {"photos": len(rows), "captions": len(captions)} | recalls(scores, np.array([i for _, i in captions]))


def measure_all(model: Model, data: Path) -> dict[str, dict[str, float]]:
    figures = {}
    for photo_set in photos.load_sets(data):
        name = photo_set.name
        measured_only = name == photos.MEASURE_ONLY
        if not measured_only and not name.endswith("-test"):
            continue
        encoded = photo_set.read_all()
        rows = model.embed_photos(encoded)
        if photos.class_label(photo_set.records[0]):
            figures[name.removesuffix("-test")] = classification(model, photo_set, rows)
        elif measured_only:
            figures[name] = retrieval(model, photo_set, rows, 5)
            figures[f"{name}, shrunk to 96 px first"] = retrieval(model, photo_set, model.embed_photos(encoded, 96), 5)
        elif name.startswith("flickr"):
            figures[f"{name}, first caption"] = retrieval(model, photo_set, rows, 1)
        else:
            continue
        print(list(figures.items())[-1], flush=True)
    return figures


def speed(model: Model) -> dict[str, float]:
    """Photos and short texts a second, pixels and tokens being ready."""
    size = photos.IMAGE_SIZE
    pixels = np.random.default_rng(0).normal(size=(BATCH, 3, size, size)).astype(np.float32)
    tokens = np.full((BATCH, 12), 2000, np.int64)
    inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    measured = {}
    for name, session, feed in [("photos", model.image, {"pixel_values": pixels}), ("texts", model.text, inputs)]:
        session.run(None, feed)
        started = time.perf_counter()
        for _ in range(10):
            session.run(None, feed)
        measured[f"{name} a second"] = 10 * BATCH / (time.perf_counter() - started)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="the exported model's folder")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    model = Model(arguments.model, arguments.threads)
    figures = {"speed": speed(model)} | measure_all(model, arguments.data)
    figures = {name: {key: round(float(value), 4) for key, value in row.items()} for name, row in figures.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    labelled = [row["accuracy"] for row in figures.values() if "accuracy" in row]
    print(f"mean accuracy over {len(labelled)} labelled test files: {np.mean(labelled):.4f}")


if __name__ == "__main__":
    main()
