"""The texts of the training: templates, the words of the ImageNet classes, and their sentence vectors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from halves import load_sentence_encoder, load_tokenizer

EVALUATION_TEMPLATE = "a photo of a {}."
TEMPLATES = [
    EVALUATION_TEMPLATE,
    "{}",
    "a {}",
    "a photo of the {}.",
    "a picture of a {}",
    "a close-up photo of a {}.",
    "an image of a {}",
    "this is a photo of {}.",
    "a blurry photo of a {}.",
    "a good photo of a {}.",
    "a photo of one {}.",
    "there is a {} in the picture.",
]
BATCH = 256


class SentenceCache:
    """Frozen sentence vectors, computed once and kept in a file."""

    def __init__(self, halves: Path, path: Path):
        self.path = path
        self.encoder = load_sentence_encoder(halves)
        self.tokenizer = load_tokenizer(halves)
        self.vectors: dict[str, np.ndarray] = {}
        if path.exists():
            stored = np.load(path, allow_pickle=False)
            self.vectors = dict(zip(stored["texts"].tolist(), stored["vectors"], strict=True))

    def __call__(self, texts: list[str]) -> Tensor:
        new = sorted({text for text in texts if text not in self.vectors}, key=len)
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self.vectors.update(zip(batch, self.encode(batch), strict=True))
        return torch.from_numpy(np.stack([self.vectors[text] for text in texts])).float()

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> np.ndarray:
        encodings = self.tokenizer.encode_batch(texts)
        input_ids = torch.tensor([encoding.ids for encoding in encodings])
        attention_mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        with torch.autocast("cpu", torch.bfloat16):
            return self.encoder(input_ids, attention_mask).float().numpy().astype(np.float16)

    def save(self) -> None:
        np.savez(self.path, texts=np.array(list(self.vectors)), vectors=np.stack(list(self.vectors.values())))


def read_table(path: Path) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in path.read_text().splitlines())


def imagenet_texts(halves: Path) -> list[list[str]]:
    """For each of the 1,000 classes the same number of texts: its usual name, its lemmas and its definition."""
    from open_clip import IMAGENET_CLASSNAMES

    tables = halves / "timm" / "data" / "_info"
    synsets = (tables / "imagenet_synsets.txt").read_text().split()
    lemmas = read_table(tables / "imagenet_synset_to_lemma.txt")
    definitions = read_table(tables / "imagenet_synset_to_definition.txt")
    texts = []
    for name, synset in zip(IMAGENET_CLASSNAMES, synsets, strict=True):
        words = [word.strip().replace("_", " ") for word in lemmas[synset].split(",")]
        synonyms = [words[i % len(words)] for i in range(4)]
        texts.append(
            [template.format(name) for template in TEMPLATES]
            + [TEMPLATES[2 * i].format(word) for i, word in enumerate(synonyms)]
            + [f"{name}, {definitions[synset]}", f"a photo of a {name}: {definitions[synset]}"]
        )
    return texts


def vocabulary_texts(halves: Path, count: int) -> list[str]:
    """Names of things of all kinds, most of which no photo here shows."""
    lemmas = read_table(halves / "timm" / "data" / "_info" / "imagenet_synset_to_lemma.txt")
    names = sorted({line.split(",")[0].strip().replace("_", " ") for line in lemmas.values()})
    step = max(1, len(names) // count)
    return [EVALUATION_TEMPLATE.format(name) for name in names[::step]]
