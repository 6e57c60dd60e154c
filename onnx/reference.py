"""Makes a record for `diptych verify --against`: what a Python model gives for the pictures and texts of the program.

    pip install -r onnx/golden/requirements.txt
    python onnx/reference.py --library transformers openai/clip-vit-base-patch32 -o record.json
    python onnx/reference.py --library transformers facebook/dinov2-base --rows cls -o record.json
    python onnx/reference.py --library open_clip hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K -o record.json
    python onnx/reference.py --library open_clip ViT-B-32 --pretrained laion2b_s34b_b79k -o record.json
    diptych verify path/to/the/bundle --against record.json

A folder does in place of a name (for open_clip, local-dir:FOLDER). `onnx/README.md` describes the record.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from torch_models import context_length, embeddings, geometry

PROBES = Path(__file__).resolve().parents[1] / "src/verify/probes"

# As src/verify/record.rs has them: how many rows and columns of a picture are kept, and of how many values are.
KEPT, VALUES_STEP = 32, 4

VERSIONS = {
    "transformers": ["transformers", "tokenizers", "torch", "pillow"],
    "open_clip": ["open_clip_torch", "torch", "torchvision", "pillow", "ftfy"],
}


class Transformers:
    """A model of transformers with its image processor and tokenizer."""

    def __init__(self, name: str, backend: str):
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        self.processor = AutoImageProcessor.from_pretrained(name, backend=backend)
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        config = AutoConfig.from_pretrained(name)
        self.is_sigmoid = config.model_type.startswith("siglip")
        self.context = context_length(config, self.tokenizer)

    def pixels(self, image: Image.Image) -> np.ndarray:
        output = self.processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
        return np.asarray(output).round().astype(np.uint8).transpose(1, 2, 0)

    def values(self, image: Image.Image) -> np.ndarray:
        return np.asarray(self.processor(image)["pixel_values"][0], dtype=np.float32)

    def image_row(self, values: np.ndarray) -> np.ndarray:
        return row(self.model.get_image_features(pixel_values=torch.from_numpy(values)[None]))

    def ids(self, text: str) -> tuple[list[int], dict | None]:
        """SigLIP is trained on texts padded to its context, and sees the padding; a mask hides it from CLIP."""
        output = self.encoded(text)
        ids, mask = output["input_ids"][0], output["attention_mask"][0]
        padding = {"length": len(ids), "id": self.tokenizer.pad_token_id} if self.is_sigmoid else None
        return [int(id) for id, is_token in zip(ids, mask, strict=True) if is_token], padding

    def encoded(self, text: str):
        padding = "max_length" if self.is_sigmoid else True
        return self.tokenizer(
            [text],
            padding=padding,
            truncation=True,
            max_length=self.context,
            return_attention_mask=True,
            return_tensors="pt",
        )

    def text_row(self, text: str) -> np.ndarray:
        output = self.encoded(text)
        mask = {} if self.is_sigmoid else {"attention_mask": output["attention_mask"]}
        return row(self.model.get_text_features(input_ids=output["input_ids"], **mask))


class TransformersImages:
    """An image tower of transformers alone, with its image processor; `rows` as `diptych --rows` has them."""

    def __init__(self, name: str, backend: str, rows: str | None):
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        self.model = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        self.processor = AutoImageProcessor.from_pretrained(name, backend=backend)
        config = AutoConfig.from_pretrained(name)
        self.is_sigmoid = config.model_type.startswith("siglip")
        is_pooled = self.is_sigmoid or config.model_type == "clip_vision_model"
        self.rows = rows or ("pooled" if is_pooled else "cls")
        self.leading = 0 if self.is_sigmoid else 1 + getattr(config, "num_register_tokens", 0)
        # DINOv3's floats are never levels between resize and model.
        self.has_levels = config.model_type != "dinov3_vit"

    def pixels(self, image: Image.Image) -> np.ndarray:
        if self.has_levels:
            return Transformers.pixels(self, image)
        settings = self.processor
        mean, std = (np.array(part).reshape(3, 1, 1) for part in (settings.image_mean, settings.image_std))
        levels = (self.values(image) * std + mean) / settings.rescale_factor
        return levels.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)

    values = Transformers.values

    def image_row(self, values: np.ndarray) -> np.ndarray:
        output = self.model(pixel_values=torch.from_numpy(values)[None])
        hidden = output.last_hidden_state
        match self.rows:
            case "cls":
                return row(hidden[:, 0])
            case "mean":
                return row(hidden[:, self.leading :].mean(1))
            case _:
                return row(output.pooler_output)


class OpenClip:
    """A model of open_clip with its transform and tokenizer."""

    def __init__(self, name: str, pretrained: str | None):
        import open_clip

        self.model, self.transform = open_clip.create_model_from_pretrained(name, pretrained=pretrained)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.is_sigmoid = getattr(self.model, "logit_bias", None) is not None
        self.geometry = geometry(self.transform)

    def pixels(self, image: Image.Image) -> np.ndarray:
        for step in self.geometry:
            image = step(image)
        return np.asarray(image)

    def values(self, image: Image.Image) -> np.ndarray:
        return self.transform(image).numpy()

    def image_row(self, values: np.ndarray) -> np.ndarray:
        return row(self.model.encode_image(torch.from_numpy(values)[None]))

    def ids(self, text: str) -> tuple[list[int], dict]:
        """open_clip always pads to the context, and no mask hides it."""
        ids = self.tokenizer([text])[0].tolist()
        length = self.length(text, ids)
        # A text that fills the context shows no padding, an empty one as much as there can be.
        pad = self.tokenizer([""])[0].tolist()[-1]
        return ids[:length], {"length": len(ids), "id": pad}

    def length(self, text: str, ids: list[int]) -> int:
        """How many ids are no padding: up to the last that is not 0, or as the Hugging Face tokenizer says."""
        wrapped = getattr(self.tokenizer, "tokenizer", None)
        if wrapped is None:
            return max(place + 1 for place, id in enumerate(ids) if id != 0)
        cleaned = self.tokenizer.clean_fn(text)
        return len(wrapped(cleaned, truncation=True, max_length=len(ids))["input_ids"])

    def text_row(self, text: str) -> np.ndarray:
        return row(self.model.encode_text(self.tokenizer([text])))


def row(output) -> np.ndarray:
    """One row of unit length, from a tensor or from an output that holds it."""
    values = embeddings(output)[0].to(torch.float64)
    return (values / values.norm()).to(torch.float32).numpy()


def kept(side: int) -> list[int]:
    count = min(side, KEPT)
    return [(2 * number + 1) * side // (2 * count) for number in range(count)]


def in_base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def image_record(model, file: str) -> dict:
    image = Image.open(PROBES / file).convert("RGB")
    pixels, values = model.pixels(image), model.values(image)
    height, width = pixels.shape[:2]
    rows, columns = kept(height), kept(width)
    few = np.ix_(rows[1::VALUES_STEP], columns[1::VALUES_STEP])
    return {
        "name": Path(file).stem,
        "picture": hashlib.sha256(image.tobytes()).hexdigest(),
        "height": height,
        "width": width,
        "hash": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        "pixels": in_base64(pixels[np.ix_(rows, columns)]),
        "values": in_base64(values.transpose(1, 2, 0)[few].astype("<f4")),
        "row": model.image_row(values).tolist(),
    }


def text_record(model, text: str) -> dict:
    ids, padding = model.ids(text)
    return {"text": text, "ids": ids, "padding": padding, "row": model.text_row(text).tolist()}


def probes() -> tuple[list[str], list[str]]:
    """The files of the pictures, and the texts: the hard ones, then the captions of photos."""
    listed = json.loads((PROBES / "probes.json").read_text(encoding="utf-8"))
    captions = [about["caption"] for about in listed["pictures"] if about["caption"]]
    return [about["file"] for about in listed["pictures"]], listed["texts"] + captions


def versions(library: str) -> dict:
    """Python's and those of all that decides a library's numbers."""
    packages = {name: importlib.metadata.version(name) for name in VERSIONS[library]}
    return {"python": platform.python_version()} | packages


@torch.no_grad()
def record(model, library: str) -> dict:
    files, texts = probes()
    bias = getattr(model.model, "logit_bias", None)
    return {
        "format": 1,
        "made_by": versions(library),
        "images": [image_record(model, file) for file in files],
        "texts": [text_record(model, text) for text in texts] if hasattr(model, "ids") else None,
        "activation": "sigmoid" if model.is_sigmoid else "softmax",
        "scale": float(model.model.logit_scale.exp()) if hasattr(model.model, "logit_scale") else None,
        "bias": None if bias is None else float(bias),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder, as the library takes it")
    parser.add_argument("--library", choices=["transformers", "open_clip"], required=True)
    parser.add_argument("--pretrained", help="open_clip's tag of the weights, where the name is of an architecture")
    parser.add_argument(
        "--backend", choices=["pil", "torchvision"], default="pil", help="which image processors of transformers"
    )
    parser.add_argument(
        "--rows", choices=["cls", "mean", "pooled"], help="what a row is made of, for an image tower of transformers alone"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the record")
    return parser.parse_args()


def of_transformers(options: argparse.Namespace) -> Transformers | TransformersImages:
    from transformers import AutoConfig

    if hasattr(AutoConfig.from_pretrained(options.model), "text_config"):
        return Transformers(options.model, options.backend)
    return TransformersImages(options.model, options.backend, options.rows)


def main() -> None:
    options = arguments()
    if options.library == "transformers":
        model = of_transformers(options)
    else:
        model = OpenClip(options.model, options.pretrained)
    options.output.write_text(json.dumps(record(model, options.library)) + "\n")


if __name__ == "__main__":
    main()
