"""Steps 3, 4 and 6: train, in three stages.

    python train.py --stage heads --data DATA --halves HALVES --features FEATURES --out HEADS
    python train.py --stage tail  --data DATA --halves HALVES --features FEATURES --begin HEADS --out TAIL
    python tuned.py --halves HALVES --features FEATURES --checkpoint TAIL
    python train.py --stage last  --data DATA --halves HALVES --features FEATURES --begin TAIL --out LAST

The first stage trains the heads on the pooled features of the frozen halves. The second adds the transformer on the grid
and tunes the later blocks of the image half with all of it. The last trains the heads once more, on what the tuned blocks
and the transformer make of every photo: many more photos a second. A run that was stopped goes on from OUT/last.pt; the
dice of a step depend on the seed and the step alone. The losses of a step:

- labels: the cross entropy of photos of three sets against all labels of their own set, a template drawn for each;
- captions: captions against photos of a set, both ways, the targets softened by how alike the captions are;
- names: the frozen classifier's 1,000 probabilities against texts of the 1,000 ImageNet classes, for every photo; for some
  of the classes, drawn anew each time, a more general word of WordNet stands for all that it covers;
- anchor: the text head may move texts (a broad vocabulary and captions) only little from their sentence vectors.

Three in a hundred training photos of every labelled set, and Flickr8k's dev part, are held back to choose and to calibrate.
Photos of the ten `HELD_OUT_LABELS` are never trained on: they show what the model makes of words that it was not taught.
"""

import argparse
import hashlib
import json
import math
import re
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import measure
import photos
from halves import PHOTO_WIDTH
from heads import EMBEDDING_WIDTH, Heads
from photos import HELD_OUT_LABELS
from tail import load_tail
from texts import EVALUATION_TEMPLATE, TEMPLATES, SentenceCache, imagenet_ancestors, imagenet_texts, vocabulary_texts

HELD_BACK_PERCENT = 3
MAXIMUM_VIEWS = 4
FEWEST_HELD_BACK = 10
EVALUATION_BATCH = 256
FEATURES = {"heads": "", "tail": "-trunk", "last": "-tuned"}
STAGES = {
    "heads": {"steps": 400, "label_photos": 192, "caption_photos": 512, "rate": 1e-3},
    "tail": {"steps": 800, "label_photos": 64, "caption_photos": 160, "rate": 6e-4},
    "last": {"steps": 1500, "label_photos": 192, "caption_photos": 256, "rate": 5e-4, "names_weight": 1.0},
}
EVALUATION_TEMPLATE_INDEX = TEMPLATES.index(EVALUATION_TEMPLATE)


class Views:
    """The features of one set's photos that a stage needs, in all views that were extracted."""

    def __init__(self, folder: Path, name: str, kind: str):
        numbers = [view for view in range(MAXIMUM_VIEWS) if (folder / f"{name}-{view}.npy").exists()]
        self.features = [np.load(folder / f"{name}-{view}{kind}.npy", mmap_mode="r") for view in numbers]
        self.logits = [np.load(folder / f"{name}-{view}-logits.npy", mmap_mode="r") for view in numbers]

    def plain(self, rows: np.ndarray) -> Tensor:
        """View 0 of the photos `rows`."""
        return torch.from_numpy(self.features[0][rows]).float()

    def draw(self, rows: np.ndarray, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A random view of each photo: features, and the probabilities of the ImageNet classes."""
        chosen = dice.integers(len(self.features), size=len(rows))

        def gather(arrays: list[np.ndarray]) -> Tensor:
            drawn = np.empty((len(rows), *arrays[0].shape[1:]), np.float16)
            for view, array in enumerate(arrays):
                drawn[chosen == view] = array[rows[chosen == view]]
            return torch.from_numpy(drawn).float()

        return gather(self.features), gather(self.logits).softmax(-1)


@dataclass
class LabelledSet:
    name: str
    views: Views
    sentences: Tensor  # [labels, templates, width]
    targets: np.ndarray
    training_rows: np.ndarray
    held_back_rows: np.ndarray


@dataclass
class CaptionedSet:
    name: str
    views: Views
    sentences: Tensor  # [photos, captions, width]
    training_rows: np.ndarray


def is_held_back(set_name: str, record: dict) -> bool:
    digest = hashlib.sha256(f"{set_name}/{record['file']}".encode()).digest()
    return digest[0] * 256 + digest[1] < 65536 * HELD_BACK_PERCENT / 100


def labelled_set(photo_set: photos.PhotoSet, views: Views, sentences: SentenceCache) -> LabelledSet:
    classes = [photos.class_label(record) for record in photo_set.records]
    labels = sorted(set(classes) - set(HELD_OUT_LABELS))
    vectors = sentences([template.format(label) for label in labels for template in TEMPLATES])
    number = {label: i for i, label in enumerate(labels)}
    held_back = np.array([is_held_back(photo_set.name, record) for record in photo_set.records])
    known = np.array([label in number for label in classes])
    return LabelledSet(
        photo_set.name,
        views,
        vectors.view(len(labels), len(TEMPLATES), -1),
        np.array([number.get(label, -1) for label in classes]),
        np.flatnonzero(known & ~held_back),
        np.flatnonzero(known & held_back),
    )


def captioned_set(photo_set: photos.PhotoSet, views: Views, sentences: SentenceCache) -> CaptionedSet:
    captions = [photos.captions_of(record) for record in photo_set.records]
    vectors = sentences([text for texts in captions for text in texts])
    labels = [photos.class_label(record) for record in photo_set.records]
    held_back = [label is not None and is_held_back(photo_set.name, record) for label, record in zip(labels, photo_set.records)]
    rows = np.flatnonzero(~np.array(held_back) & ~np.isin(labels, HELD_OUT_LABELS))
    return CaptionedSet(photo_set.name, views, vectors.view(len(captions), len(captions[0]), -1), rows)


@dataclass
class HeldOut:
    """The photos of the labels that are never taught, as (views, row) and number of the label."""

    sentences: Tensor
    photos: list[tuple[Views, int, int]]

    def features(self) -> Tensor:
        return torch.cat([views.plain(np.array([row])) for views, row, _ in self.photos])


@dataclass
class Sets:
    labelled: list[LabelledSet]
    captioned: list[CaptionedSet]
    development: CaptionedSet | None
    held_out: HeldOut


def load_sets(arguments: argparse.Namespace, sentences: SentenceCache) -> Sets:
    texts = sentences([EVALUATION_TEMPLATE.format(label) for label in HELD_OUT_LABELS])
    sets = Sets([], [], None, HeldOut(texts, []))
    for photo_set in photos.load_sets(arguments.data):
        name = photo_set.name
        if not (arguments.features / f"{name}-0.npy").exists() or not name.endswith(("-train", "-dev")):
            continue
        views = Views(arguments.features, name, FEATURES[arguments.stage])
        if photos.class_label(photo_set.records[0]):
            sets.labelled.append(labelled_set(photo_set, views, sentences))
            for row, record in enumerate(photo_set.records):
                if photos.class_label(record) in HELD_OUT_LABELS:
                    sets.held_out.photos.append((views, row, HELD_OUT_LABELS.index(photos.class_label(record))))
        if photos.captions_of(photo_set.records[0]):
            captioned = captioned_set(photo_set, views, sentences)
            if name.endswith("-dev"):
                sets.development = captioned
            else:
                sets.captioned.append(captioned)
    return sets


class Towers(nn.Module):
    """What is trained: the heads and, from the second stage on, the tail of the image half, which the last leaves alone."""

    def __init__(self, arguments: argparse.Namespace):
        super().__init__()
        self.stage = arguments.stage
        self.heads = Heads(0 if self.stage == "heads" else arguments.blocks, arguments.dropout)
        self.tail = None
        if self.stage != "heads":
            _, self.tail = load_tail(arguments.halves)
        if self.stage == "last":
            self.tail.requires_grad_(False)
            self.heads.image.transformer.requires_grad_(False)

    def image(self, features: Tensor) -> Tensor:
        if self.stage == "heads":
            return self.heads.image(features, None)
        if self.stage == "tail":
            return self.heads.image(*self.tail(features))
        return self.heads.image.join(*features.split([PHOTO_WIDTH, EMBEDDING_WIDTH], 1))

    def text(self, sentences: Tensor) -> Tensor:
        return self.heads.text(sentences)


class Names:
    """The ImageNet classes and the more general words above them, as sentence vectors."""

    def __init__(self, halves: Path, sentences: SentenceCache):
        texts = imagenet_texts(halves)
        self.sentences = sentences([text for variants in texts for text in variants]).view(len(texts), len(texts[0]), -1)
        self.ancestors = imagenet_ancestors(halves)
        words = [[ancestor.words[i % len(ancestor.words)] for i in range(2)] for ancestor in self.ancestors]
        variants = [[template.format(word) for word in pair for template in TEMPLATES[:4]] for pair in words]
        vectors = sentences([text for texts in variants for text in texts])
        self.general = vectors.view(len(variants), len(variants[0]), -1)

    def draw(self, dice: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Sentence vectors of a cut through the tree of words, and [classes, texts]: 1 where a text stands for a class."""
        texts = draw_texts(self.sentences, dice)
        stands_for = torch.arange(len(texts))
        for number in dice.choice(len(self.ancestors), count, replace=False):
            first, *others = self.ancestors[number].classes
            if (stands_for[[first, *others]] == torch.tensor([first, *others])).all():
                texts[first] = self.general[number, dice.integers(self.general.shape[1])]
                stands_for[others] = first
        kept = torch.unique(stands_for)
        return texts[kept], (stands_for[:, None] == kept).float()


def draw_texts(sentences: Tensor, dice: np.random.Generator) -> Tensor:
    """One of the texts of each row of [rows, texts, width]."""
    return sentences[torch.arange(len(sentences)), torch.from_numpy(dice.integers(sentences.shape[1], size=len(sentences)))]


def caption_loss(photo: Tensor, caption: Tensor, sentence: Tensor, scale: Tensor, softness: float) -> Tensor:
    """Contrastive, both ways; a share `softness` of each target goes to captions of like meaning."""
    alike = (sentence @ sentence.T / 0.05).softmax(-1)
    targets = (1 - softness) * torch.eye(len(photo)) + softness * alike
    logits = scale * photo @ caption.T
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


@dataclass
class Part:
    """Some photos of a step, and what their rows cost."""

    features: Tensor
    probabilities: Tensor
    loss: Callable[[Tensor], Tensor]


class Training:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        sentences = SentenceCache(arguments.halves, arguments.features / "sentences.npz")
        self.sets = load_sets(arguments, sentences)
        self.names = Names(arguments.halves, sentences)
        self.vocabulary = sentences(vocabulary_texts(arguments.halves, arguments.vocabulary))
        sentences.save()
        sizes = np.array([len(one.training_rows) for one in self.sets.labelled], float) ** 0.6
        self.set_chances = sizes / sizes.sum()
        torch.manual_seed(arguments.seed)
        self.towers = Towers(arguments)
        if arguments.begin:
            state = torch.load(arguments.begin / "last.pt")["average"]
            unknown = self.towers.load_state_dict(state, strict=False).unexpected_keys
            assert not unknown, unknown
        self.average = deepcopy(self.towers).requires_grad_(False)
        self.optimizer = self.make_optimizer()
        self.step = 0

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The parts of an earlier stage at a lower rate, vectors without weight decay."""
        arguments = self.arguments
        tuned = 0.3 if arguments.stage == "tail" else 1.0
        groups = {}
        trained = [(name, parameter) for name, parameter in self.towers.named_parameters() if parameter.requires_grad]
        for name, parameter in trained:
            is_tail, is_new = name.startswith("tail"), "transformer" in name
            decay = (0.05 if is_tail else arguments.weight_decay) if parameter.ndim > 1 and "positions" not in name else 0.0
            share = arguments.tail_rate / arguments.rate if is_tail else 1.0 if is_new else tuned
            groups.setdefault((share, decay), []).append(parameter)
        listed = [{"params": params, "weight_decay": decay, "share": share} for (share, decay), params in groups.items()]
        return torch.optim.AdamW(listed, lr=arguments.rate, betas=(0.9, 0.98))

    def rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 100)
        return self.arguments.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.step / self.arguments.steps)))

    def names_loss(self, photo: Tensor, probabilities: Tensor, dice: np.random.Generator) -> Tensor:
        sentences, stands_for = self.names.draw(dice, self.arguments.general)
        guesses = functional.log_softmax(self.towers.heads.scale() * photo @ self.towers.text(sentences).T, -1)
        return -((probabilities @ stands_for) * guesses).sum(1).mean()

    def label_part(self, one: LabelledSet, dice: np.random.Generator) -> Part:
        rows = dice.choice(one.training_rows, self.arguments.label_photos)
        sentences, targets = draw_texts(one.sentences, dice), torch.from_numpy(one.targets[rows])

        def loss(photo: Tensor) -> Tensor:
            logits = self.towers.heads.scale() * photo @ self.towers.text(sentences).T
            return functional.cross_entropy(logits, targets, label_smoothing=0.05) / 3

        return Part(*one.views.draw(rows, dice), loss)

    def caption_part(self, one: CaptionedSet, dice: np.random.Generator) -> Part:
        arguments = self.arguments
        count = arguments.caption_photos if "flickr" in one.name else arguments.caption_photos // 3
        rows = dice.permutation(one.training_rows)[:count]
        sentence = draw_texts(one.sentences[rows], dice)
        weight = arguments.caption_weight * len(rows) / (len(rows) + arguments.caption_photos / 2)

        def loss(photo: Tensor) -> Tensor:
            noisy = self.towers.text(sentence + arguments.text_noise * torch.randn_like(sentence))
            contrast = caption_loss(photo, noisy, sentence, self.towers.heads.scale(), arguments.softness)
            drift = 1 - (self.towers.text(sentence) * sentence).sum(-1)
            return weight * contrast + arguments.anchor_weight / 6 * drift.mean()

        return Part(*one.views.draw(rows, dice), loss)

    def loss(self, dice: np.random.Generator) -> Tensor:
        labelled = [self.sets.labelled[i] for i in dice.choice(len(self.sets.labelled), 3, p=self.set_chances)]
        parts = [self.label_part(one, dice) for one in labelled]
        parts += [self.caption_part(one, dice) for one in self.sets.captioned]
        anchors = self.vocabulary[torch.from_numpy(dice.integers(len(self.vocabulary), size=512))]
        photo = self.towers.image(torch.cat([part.features for part in parts]))
        total = self.arguments.names_weight * self.names_loss(photo, torch.cat([part.probabilities for part in parts]), dice)
        total = total + self.arguments.anchor_weight / 2 * (1 - (self.towers.text(anchors) * anchors).sum(-1)).mean()
        for part, rows in zip(parts, photo.split([len(part.features) for part in parts]), strict=True):
            total = total + part.loss(rows)
        return total

    def take_step(self) -> float:
        dice = np.random.default_rng([self.arguments.seed, self.step])
        torch.manual_seed(self.arguments.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        self.towers.train()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.loss(dice)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.towers.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.arguments.average, self.step / (self.step + 10))
        for averaged, current in zip(self.average.parameters(), self.towers.parameters(), strict=True):
            averaged.lerp_(current.detach(), 1 - keep)
        return loss.item()

    def save(self) -> None:
        state = {
            "step": self.step,
            "blocks": self.towers.heads.blocks,
            "towers": self.towers.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "arguments": {key: str(value) for key, value in vars(self.arguments).items()},
        }
        target = self.arguments.out / "last.pt"
        torch.save(state, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)

    def resume(self) -> None:
        path = self.arguments.out / "last.pt"
        if path.exists():
            state = torch.load(path)
            self.towers.load_state_dict(state["towers"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
            print(f"going on from step {self.step}", flush=True)

    @torch.no_grad()
    def embed(self, views: Views, rows: np.ndarray) -> Tensor:
        """The plain photos' rows by the averaged weights."""
        parts = [rows[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]
        with torch.autocast("cpu", torch.bfloat16):
            return torch.cat([self.average.image(views.plain(part)) for part in parts])

    @torch.no_grad()
    def similarities(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each set with photos held back: photos by labels, and the right labels."""
        self.average.eval()
        result = {}
        for one in self.sets.labelled:
            rows = one.held_back_rows
            if len(rows) >= FEWEST_HELD_BACK:
                texts = self.average.text(one.sentences[:, EVALUATION_TEMPLATE_INDEX])
                result[one.name.removesuffix("-train")] = (self.embed(one.views, rows) @ texts.T, torch.from_numpy(one.targets[rows]))
        return result

    @torch.no_grad()
    def retrieval(self) -> tuple[Tensor, Tensor]:
        """Captions by photos of Flickr8k's dev part, and the right photos."""
        development = self.sets.development
        photo = self.embed(development.views, np.arange(len(development.sentences)))
        return self.average.text(development.sentences[:, 0]) @ photo.T, torch.arange(len(photo))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Accuracies on photos held back and on labels held out, and the retrieval on Flickr8k's dev part."""
        figures = {
            name: float((scores.argmax(1) == targets).float().mean()) for name, (scores, targets) in self.similarities().items()
        }
        held_out = self.sets.held_out
        targets = torch.tensor([label for _, _, label in held_out.photos])
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = torch.cat([self.average.image(part) for part in held_out.features().split(EVALUATION_BATCH)])
        guesses = (embeddings @ self.average.text(held_out.sentences).T).argmax(1)
        figures["labels held out"] = float((guesses == targets).float().mean())
        if self.sets.development:
            scores, _ = self.retrieval()
            ranks = (scores > scores.diag()[:, None]).sum(1)
            figures |= {f"dev text to image R@{k}": float((ranks < k).float().mean()) for k in (1, 5, 10)}
        return {name: round(value, 3) for name, value in figures.items()}

    def calibration(self) -> dict[str, float]:
        """From the photos held back, sets weighing equally: the scale that makes the right labels likeliest (softmax over
        their set's) and the right photos of captions (over the dev part's), and the cosine below which the best label of one in twenty right answers lies.
        """
        sets = list(self.similarities().values())
        candidates = torch.arange(5.0, 100.5, 0.5)
        scaled = sets + ([self.retrieval()] if self.sets.development else [])
        losses = [sum(functional.cross_entropy(scale * scores, targets) for scores, targets in scaled) for scale in candidates]
        best = [scores.max(1).values[scores.argmax(1) == targets].numpy() for scores, targets in sets]
        return {
            "trained_scale": round(float(self.average.heads.scale()), 2),
            "calibrated_scale": float(candidates[torch.stack(losses).argmin()]),
            "none_below": round(float(measure.threshold_refusing(best)), 3),
        }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--halves", type=Path, required=True, help="folder written by fetch.py")
    parser.add_argument("--features", type=Path, required=True, help="folder written by features.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--stage", choices=list(STAGES), required=True)
    parser.add_argument("--begin", type=Path, help="folder of the checkpoint of the stage before")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--blocks", type=int, default=2, help="of the transformer on the grid")
    parser.add_argument("--label-photos", type=int, help="photos of each of the three labelled sets of a step")
    parser.add_argument("--caption-photos", type=int)
    parser.add_argument("--general", type=int, default=20, help="general words drawn for the names of a part")
    parser.add_argument("--tail-rate", type=float, default=2e-4)
    parser.add_argument("--caption-weight", type=float, default=0.5)
    parser.add_argument("--names-weight", type=float, default=0.5)
    parser.add_argument("--anchor-weight", type=float, default=0.5)
    parser.add_argument("--softness", type=float, default=0.3, help="share of a caption's target given to like captions")
    parser.add_argument("--text-noise", type=float, default=0.02, help="deviation of the noise on captions' vectors")
    parser.add_argument("--dropout", type=float, default=0.4, help="of the image head")
    parser.add_argument("--vocabulary", type=int, default=5000)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--weight-decay", type=float, default=0.5)
    parser.add_argument("--average", type=float, default=0.99, help="share of the weight average kept in a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints")
    parser.set_defaults(**STAGES[parser.parse_known_args()[0].stage])
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    training = Training(arguments)
    training.resume()
    started = time.time()
    while training.step < arguments.steps:
        loss = training.take_step()
        if training.step % 50 == 0:
            seconds = time.time() - started
            print(f"step {training.step} loss {loss:.3f} scale {training.towers.heads.scale():.1f} {seconds:.0f} s", flush=True)
        if training.step % arguments.every == 0 or training.step == arguments.steps:
            print(json.dumps(training.evaluate()), flush=True)
            training.save()
    calibration = training.calibration()
    (arguments.out / "calibration.json").write_text(json.dumps(calibration) + "\n")
    print(calibration)


if __name__ == "__main__":
    main()
