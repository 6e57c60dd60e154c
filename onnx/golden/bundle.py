"""What a bundle of tests/golden/bundles/ is: its files, and the reference that its numbers must equal."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers_small import write_json

OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@dataclass
class Bundle:
    """One bundle with its reference."""

    name: str
    layout: int
    note: str
    images: object = None
    texts: object = None
    model: object = None
    encode_images: Callable | None = None
    encode_texts: Callable | None = None
    image_graph: str | None = None
    text_graph: str | None = None
    image_output: str | None = None
    text_output: str | None = None
    scale: float | None = None
    bias: float | None = None
    activation: str = "softmax"
    min_cosine: float = 1 - 1e-6
    # Whether the graph takes padding for words, so that each text runs alone and unpadded.
    is_unpadded: bool = False
    # What makes rows of the graph's output, where that holds one for each token: of the output, and of output and mask.
    pool_images: Callable | None = None
    pool_texts: Callable | None = None
    refused: list[int] = field(default_factory=list)
    kinds: dict[str, Callable] = field(default_factory=dict)


@dataclass
class Sources:
    """Where bundles are written and what they are made from."""

    bundles: Path
    published_clip: Path
    pieces: Path
    scratch: Path

    def folder(self, name: str) -> Path:
        folder = self.bundles / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def head(folder: Path, scale: float, bias: float | None = None, activation: str | None = None) -> None:
    """diptych.json with what no published file states."""
    values = {"logit_scale": scale, "logit_bias": bias, "activation": activation}
    write_json(folder / "diptych.json", {key: value for key, value in values.items() if value is not None})
