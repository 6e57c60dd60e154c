"""Pre-processing as each Python reference does it: pictures to pixels, pixels to model input, texts to ids.

One step comes before every layout: orientation is applied, the first frame is taken, and the picture becomes RGB by
Pillow's `convert("RGB")`, which drops alpha. One exception: Pillow clips 16-bit gray at 255 and cuts 16-bit RGB to its
high byte; here 16-bit samples are scaled with rounding, (v * 255 + 32767) // 65535.
"""

import string
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

import png

sys.path.append(str(Path(__file__).resolve().parents[1]))
from torch_models import geometry  # noqa: E402


def scaled_to_8_bits(samples: np.ndarray) -> np.ndarray:
    """16-bit samples scaled to 8 bits, rounded."""
    return ((samples.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


def open_rgb(path: Path) -> Image.Image:
    """The picture as every layout gets it."""
    wide = png.sixteen_bit_rgb(path.read_bytes())
    if wide is not None:
        return Image.fromarray(scaled_to_8_bits(wide))
    image = Image.open(path)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(scaled_to_8_bits(np.asarray(image)))
    image = ImageOps.exif_transpose(image).convert("RGB")
    # A transparent colour stays in the picture's info, where transformers would find it and blend onto white.
    image.info.pop("transparency", None)
    return image


class TransformersImages:
    """An image processor of transformers with the Pillow back-end, from the bundle's preprocessor_config.json."""

    def __init__(self, folder: Path, processor_class):
        self.processor = processor_class.from_pretrained(folder)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """After resize and crop, before rescale and normalise."""
        output = self.processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
        assert output.dtype == np.uint8
        return output.transpose(1, 2, 0)

    def values(self, image: Image.Image) -> np.ndarray:
        """The 3 × S × S input of the model."""
        return self.processor(image)["pixel_values"][0]


class AutoImages:
    """The image processor that transformers takes by itself, where its class has no Pillow back-end.

    It makes no levels between resize and rescale, so that only its values can be compared.
    """

    def __init__(self, folder: Path, class_name: str):
        from transformers import AutoImageProcessor

        self.processor = AutoImageProcessor.from_pretrained(folder)
        assert type(self.processor).__name__ == class_name, type(self.processor)

    def values(self, image: Image.Image) -> np.ndarray:
        """The 3 × H × W input of the model."""
        return self.processor(image, return_tensors="np")["pixel_values"][0]


class OpenClipImages:
    """open_clip's inference transform, from its preprocess_cfg."""

    def __init__(self, preprocess_cfg: dict):
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.transform = image_transform_v2(PreprocessCfg(**preprocess_cfg), is_train=False)
        self.geometry = geometry(self.transform)

    def pixels(self, image: Image.Image) -> np.ndarray:
        for step in self.geometry:
            image = step(image)
        return np.asarray(image)

    def values(self, image: Image.Image) -> np.ndarray:
        return self.transform(image).numpy()


class ImmichImages:
    """The steps of immich's machine-learning service, told again from its source.

    Two modes, shortest and squash. Shortest truncates (long / short) * size, in this order of float operations, and
    crops from the floor of half the margin. Rescaled to 0…1, then times 1 / std, then minus mean / std, all in f32.
    """

    def __init__(self, preprocess_cfg: dict):
        size = preprocess_cfg["size"]
        self.side = size[0] if isinstance(size, list) else size
        self.filter = Image.Resampling[preprocess_cfg["interpolation"].upper()]
        self.mode = preprocess_cfg.get("resize_mode", "shortest")
        self.mean = np.array(preprocess_cfg["mean"], dtype=np.float32)
        self.std = np.array(preprocess_cfg["std"], dtype=np.float32)

    def target(self, width: int, height: int) -> tuple[int, int]:
        if self.mode == "squash":
            return self.side, self.side
        if width < height:
            return self.side, int((height / width) * self.side)
        return int((width / height) * self.side), self.side

    def pixels(self, image: Image.Image) -> np.ndarray:
        image = image.resize(self.target(*image.size), resample=self.filter)
        left, top = (int(length / 2 - self.side / 2) for length in image.size)
        return np.asarray(image.crop((left, top, left + self.side, top + self.side)))

    def values(self, image: Image.Image) -> np.ndarray:
        scaled = self.pixels(image).astype(np.float32) / 255.0
        return (scaled * (1.0 / self.std) - self.mean / self.std).transpose(2, 0, 1)


class TransformersTexts:
    """A tokenizer of transformers; CLIP pads to the longest of the batch, SigLIP to its full context."""

    def __init__(self, tokenizer, padding: bool | str = True, context_length: int | None = None):
        self.tokenizer = tokenizer
        self.padding = padding
        self.context_length = context_length

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        output = self.tokenizer(
            texts,
            padding=self.padding,
            truncation=True,
            max_length=self.context_length,
            return_attention_mask=True,
            return_tensors="np",
        )
        return output["input_ids"].astype(np.int64), output["attention_mask"].astype(np.int64)


class Prefixed:
    """Texts with something before each."""

    def __init__(self, texts, prefix: str):
        self.texts, self.prefix = texts, prefix

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.texts.ids_and_mask([self.prefix + text for text in texts])


class PaddedWith:
    """Texts padded with another id than their tokenizer's. A pad token of another name would be found in texts too."""

    def __init__(self, texts, pad: int):
        self.texts, self.pad = texts, pad

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = self.texts.ids_and_mask(texts)
        return np.where(mask == 1, ids, self.pad), mask


class SiglipTexts:
    """SigLIP's tokenizer.json, cut and padded to its context with `</s>`.

    transformers itself reads spiece.model, since its SiglipTokenizer needs that file. The two agree on every text
    except where a special token or U+2581 stands in the text; `differing` lists those, and tokenizer.json decides.
    """

    def __init__(self, folder: Path, context_length: int):
        from tokenizers import Tokenizer
        from transformers import AutoTokenizer

        self.plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.plain.enable_truncation(max_length=context_length)
        self.plain.enable_padding(length=context_length, pad_id=1, pad_token="</s>")
        self.pieces = TransformersTexts(AutoTokenizer.from_pretrained(folder), "max_length", context_length)

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, None]:
        ids = np.array([self.plain.encode(text).ids for text in texts], dtype=np.int64)
        by_pieces, _ = self.pieces.ids_and_mask(texts)
        differing = [text for text, a, b in zip(texts, ids, by_pieces, strict=True) if (a != b).any()]
        assert all("▁" in text or "</s>" in text for text in differing), differing
        return ids, None


class OpenClipTexts:
    """open_clip's own tokenizer, on cut-down merges, or its wrapper of a Hugging Face tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, None]:
        return self.tokenizer(texts).numpy().astype(np.int64), None


class ImmichTexts:
    """The steps of immich's machine-learning service, told again from its source.

    Runs of whitespace become one space. With `canonicalize`, ASCII punctuation is then deleted (also `_`; the spaces
    around it stay, so "a - b" keeps two) and the rest is lower-cased. The tokenizer.json is used as it is, with
    truncation to the context and padding to it with the pad token of tokenizer_config.json.
    """

    def __init__(self, folder: Path, pad_token: str, context_length: int, canonicalize: bool):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        pad_id = self.tokenizer.token_to_id(pad_token)
        self.tokenizer.enable_padding(length=context_length, pad_token=pad_token, pad_id=pad_id)
        self.tokenizer.enable_truncation(max_length=context_length)
        self.canonicalize = canonicalize

    def cleaned(self, text: str) -> str:
        text = " ".join(text.split())
        if not self.canonicalize:
            return text
        return "".join(letter for letter in text if letter not in string.punctuation).lower()

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, None]:
        ids = [self.tokenizer.encode(self.cleaned(text)).ids for text in texts]
        return np.array(ids, dtype=np.int64), None


def unit(rows: torch.Tensor) -> np.ndarray:
    """Rows of unit length, f32."""
    rows = rows.detach().to(torch.float64)
    return (rows / rows.norm(dim=-1, keepdim=True)).to(torch.float32).numpy()
