"""The texts of the training: templates, the words of the ImageNet classes, and their sentence vectors."""

from dataclasses import dataclass
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


@dataclass
class Ancestor:
    """A more general word, and the ImageNet classes (by their numbers) that it covers."""

    words: list[str]
    classes: list[int]


@dataclass
class Synset:
    words: list[str]
    parents: list[str]
    definition: str


def read_wordnet(halves: Path) -> dict[str, Synset]:
    """The nouns of WordNet 3.1 by their offsets in its file."""
    synsets = {}
    for line in next(halves.glob("wordnet/**/data.noun")).read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue
        head, definition = line.split(" | ", 1)
        fields = head.split()
        after_words = 4 + 2 * int(fields[3], 16)
        pointers = fields[after_words + 1 :]
        parents = [pointers[i + 1] for i in range(0, 4 * int(fields[after_words]), 4) if pointers[i] in ("@", "@i")]
        words = [word.replace("_", " ") for word in fields[4:after_words:2]]
        synsets[fields[0]] = Synset(words, parents, definition.strip().lower())
    return synsets


def find_synset(wordnet: dict[str, Synset], by_word: dict[str, list[str]], words: list[str], definition: str) -> str:
    """The synset of these words whose definition begins alike (ImageNet has those of WordNet 3.0), else with most of them."""
    candidates = by_word[words[0].lower()]
    beginning = definition.split(";")[0].strip().lower()[:25]
    same = [offset for offset in candidates if wordnet[offset].definition.startswith(beginning)]
    return max(same or candidates, key=lambda offset: len(set(words) & set(wordnet[offset].words)))


def imagenet_ancestors(halves: Path, widest: int = 130) -> list[Ancestor]:
    """The words above the ImageNet classes in WordNet that cover at least two and at most `widest` of them."""
    wordnet = read_wordnet(halves)
    by_word: dict[str, list[str]] = {}
    for offset, synset in wordnet.items():
        for word in synset.words:
            by_word.setdefault(word.lower(), []).append(offset)
    tables = halves / "timm" / "data" / "_info"
    lemmas = read_table(tables / "imagenet_synset_to_lemma.txt")
    definitions = read_table(tables / "imagenet_synset_to_definition.txt")
    covered: dict[str, list[int]] = {}
    for number, name in enumerate((tables / "imagenet_synsets.txt").read_text().split()):
        words = [word.strip().replace("_", " ") for word in lemmas[name].split(",")]
        offset = find_synset(wordnet, by_word, words, definitions[name])
        while wordnet[offset].parents:
            offset = wordnet[offset].parents[0]
            covered.setdefault(offset, []).append(number)
    return [
        Ancestor(wordnet[offset].words, classes) for offset, classes in covered.items() if 2 <= len(classes) <= widest
    ]
