"""The photo sets and the pixels: where they lie, how they are read, how they become a tower's input."""

import csv
import hashlib
import io
import json
import random
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

IMAGE_SIZE = 192
PIXEL_MEAN = 127.0
PIXEL_DEVIATION = 128.0
MEASURE_ONLY = "clip-vit-b32-flickr"
SHARPNESS_VIEWS = {"plain": 2, "sharpen": 5, "blur": 1}


# Never trained on; no other set's label and no ImageNet class has these words.
HELD_OUT_LABELS = [
    "paella", "steak", "auditorium", "airport", "asparagus", "garlic", "papaya", "bodysuit", "turkey", "eyeball",
]  # fmt: skip


@dataclass
class PhotoSet:
    """One set of photos (`name` such as "flowers-train") with its records, one per photo."""

    name: str
    records: list[dict]
    archive: Path

    def read_all(self) -> list[bytes]:
        """The encoded photos, in the order of the records."""
        if self.archive.is_dir():
            return [(self.archive / record["file"]).read_bytes() for record in self.records]
        if self.archive.suffix == ".zip":
            with zipfile.ZipFile(self.archive) as archive:
                return [archive.read(record["file"]) for record in self.records]
        with tarfile.open(self.archive) as archive:
            members = {m.name.removeprefix("./"): archive.extractfile(m).read() for m in archive if m.isfile()}
        return [members[record["file"]] for record in self.records]

    def without(self, labels: list[str]) -> "PhotoSet":
        """The set without the photos of these labels."""
        records = [record for record in self.records if class_label(record) not in labels]
        return PhotoSet(self.name, records, self.archive)


@dataclass
class HeldOutSet:
    """The photos of the labels that are never taught, out of every train part."""

    parts: list[PhotoSet]
    name = "labels never taught"

    @property
    def records(self) -> list[dict]:
        return [record for part in self.parts for record in part.records]

    def read_all(self) -> list[bytes]:
        return [photo for part in self.parts for photo in part.read_all()]


def load_held_out_set(data: Path) -> HeldOutSet:
    parts = []
    for photo_set in load_sets(data):
        records = [record for record in photo_set.records if class_label(record) in HELD_OUT_LABELS]
        if records and photo_set.name.endswith("-train"):
            parts.append(PhotoSet(photo_set.name, records, photo_set.archive))
    return HeldOutSet(parts)


def class_label(record: dict) -> str | None:
    """The class of a photo: its label, or the product type of a fashion photo."""
    if "label" in record:
        return record["label"]
    if "description" in record:
        return record["description"].split(" - ")[2].strip().lower()
    return None


def captions_of(record: dict) -> list[str]:
    """Sentences that describe a photo (none for a photo that has only a label)."""
    if "captions" in record:
        return record["captions"]
    if "title" in record:
        return [record["title"], record["description"].replace(" - ", " ").lower()]
    return []


def measured_only_files(data: Path) -> set[str]:
    """File names of the photos that are only measured on, never trained on."""
    with open(data / MEASURE_ONLY / "metadata.csv", newline="") as table:
        return {Path(row["image_path"]).name for row in csv.DictReader(table)}


def load_measured_set(data: Path) -> PhotoSet:
    """The sharp 224 px photos with reference embeddings, each with all its captions."""
    captions: dict[str, list[str]] = {}
    with open(data / MEASURE_ONLY / "metadata.csv", newline="") as table:
        for row in csv.DictReader(table):
            captions.setdefault(row["image_path"], []).append(row["caption"])
    records = [{"file": path, "captions": texts} for path, texts in captions.items()]
    return PhotoSet(MEASURE_ONLY, records, data / MEASURE_ONLY)


def load_sets(data: Path) -> list[PhotoSet]:
    """Every photo set under `data`; the train and dev parts lack the photos that are only measured on."""
    held_back = measured_only_files(data)
    sets = []
    for metadata in sorted([*data.glob("train/*.jsonl"), *data.glob("train-more/*.jsonl")]):
        records = [json.loads(line) for line in metadata.read_text().splitlines()]
        if not metadata.stem.endswith("-test"):
            records = [record for record in records if Path(record["file"]).name not in held_back]
        archive = metadata.with_suffix(".zip")
        if not archive.exists():
            archive = metadata.with_suffix(".tar")
        if records:
            sets.append(PhotoSet(metadata.stem, records, archive))
    return [*sets, load_measured_set(data)]


def resize_shortest(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` with Pillow's bicubic filter."""
    width, height = image.size
    if width <= height:
        target = (size, int(size * height / width))
    else:
        target = (int(size * width / height), size)
    return image.resize(target, Image.Resampling.BICUBIC)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image) -> np.ndarray:
    """(x / 255 - 127 / 255) / (128 / 255), channels first."""
    pixels = (np.asarray(image, np.float32) - PIXEL_MEAN) / PIXEL_DEVIATION
    return pixels.transpose(2, 0, 1)


def inference_pixels(encoded: bytes, size: int = IMAGE_SIZE, shrink_to: int | None = None) -> np.ndarray:
    """The pixels as every user of the model prepares them (to measure only: of a photo first shrunk to `shrink_to` px)."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    if shrink_to:
        image = resize_shortest(image, shrink_to)
    return to_array(center_crop(resize_shortest(image, size), size))


def add_sharpness(image: Image.Image, dice: random.Random, size: int) -> Image.Image:
    """A square of `size` px with the fine detail that an enlarged small photo lacks.

    Of the ways tried, this mix brings the features of photos shrunk to 96 px and enlarged again
    nearest to the features of the same photos left sharp.
    """
    side = min(image.size)
    square = center_crop(image, side)
    smooth = square.resize((size, size), Image.Resampling.BICUBIC)
    smooth = smooth.filter(ImageFilter.UnsharpMask(radius=0.8, percent=dice.randint(50, 150), threshold=0))
    blocky = square.resize((size, size), Image.Resampling.NEAREST)
    pixels = np.asarray(Image.blend(smooth, blocky, dice.uniform(0.0, 0.5)), np.float32)
    noise = np.random.default_rng(dice.getrandbits(32)).normal(0.0, dice.uniform(0.5, 4.0), (size, size, 1))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def change_sharpness(image: Image.Image, kind: str, dice: random.Random, size: int) -> Image.Image:
    """A square of `size` px in which the photo is as sharp as it is, sharper or blurrier."""
    if kind == "sharpen":
        return add_sharpness(image, dice, size)
    if kind == "blur":
        image = resize_shortest(image, dice.randint(28, 64))
    return center_crop(resize_shortest(image, size), size)


def random_crop(image: Image.Image, dice: random.Random) -> Image.Image:
    """A crop of 50 to 100 % of the area, its sides stretched by up to a fifth."""
    area, stretch = dice.uniform(0.5, 1.0), dice.uniform(0.83, 1.2)
    short = min(image.size)
    width = max(8, min(image.width, round(short * (area * stretch) ** 0.5)))
    height = max(8, min(image.height, round(short * (area / stretch) ** 0.5)))
    left, top = dice.randint(0, image.width - width), dice.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def augmented_pixels(encoded: bytes, name: str, view: int, size: int = IMAGE_SIZE) -> np.ndarray:
    """View number `view` of the photo `name`: flipped, cropped, sharpened or blurred at random, but repeatably."""
    dice = random.Random(hashlib.sha256(f"{name}/{view}".encode()).digest())
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    if dice.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if dice.random() < 0.7:
        image = random_crop(image, dice)
    kind = dice.choices(list(SHARPNESS_VIEWS), weights=list(SHARPNESS_VIEWS.values()))[0]
    return to_array(change_sharpness(image, kind, dice, size))
