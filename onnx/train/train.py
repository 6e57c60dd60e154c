"""Step 3: train the two heads on the frozen features.

    python train.py --data DATA --halves HALVES --features FEATURES --out CHECKPOINTS

A run that was stopped goes on from CHECKPOINTS/last.pt; the dice of a step depend on the seed and the step alone.
The losses of a step:

- labels: the cross entropy of photos of three sets against all labels of their own set, a template drawn for each;
- captions: captions against photos of the batch, both ways, the targets softened by how alike the captions are;
- names: the frozen classifier's 1,000 probabilities against texts of the 1,000 ImageNet classes, for every photo of the step;
- anchor: the text head may move texts (a broad vocabulary and captions) only little from their sentence vectors.

Three in a hundred training photos of every labelled set, and Flickr8k's dev part, are held back to choose and to calibrate.
"""

import argparse
import hashlib
import json
import math
import re
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import photos
from heads import Heads
from texts import EVALUATION_TEMPLATE, TEMPLATES, SentenceCache, imagenet_texts, vocabulary_texts

HELD_BACK_PERCENT = 3
MAXIMUM_VIEWS = 4
EVALUATION_TEMPLATE_INDEX = TEMPLATES.index(EVALUATION_TEMPLATE)


class Views:
    """The features of one set's photos in all views that were extracted."""

    def __init__(self, folder: Path, name: str, with_grid: bool):
        numbers = [view for view in range(MAXIMUM_VIEWS) if (folder / f"{name}-{view}.npy").exists()]
        self.pooled = [np.load(folder / f"{name}-{view}.npy") for view in numbers]
        self.logits = [np.load(folder / f"{name}-{view}-logits.npy", mmap_mode="r") for view in numbers]
        self.grid = [np.load(folder / f"{name}-{view}-grid.npy", mmap_mode="r") for view in numbers] if with_grid else None

    def plain(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """View 0 of the photos `rows`."""
        grid = torch.from_numpy(self.grid[0][rows]).float() if self.grid else None
        return torch.from_numpy(self.pooled[0][rows]).float(), grid

    def draw(self, rows: np.ndarray, dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """A random view of each photo: pooled features, grid, logits."""
        chosen = dice.integers(len(self.pooled), size=len(rows))

        def gather(arrays: list[np.ndarray]) -> np.ndarray:
            drawn = np.empty((len(rows), *arrays[0].shape[1:]), np.float16)
            for view, array in enumerate(arrays):
                drawn[chosen == view] = array[rows[chosen == view]]
            return drawn

        return gather(self.pooled), gather(self.grid) if self.grid else None, gather(self.logits)


@dataclass
class LabelledSet:
    name: str
    views: Views
    labels: list[str]
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
    labels = sorted(set(classes))
    vectors = sentences([template.format(label) for label in labels for template in TEMPLATES])
    number = {label: i for i, label in enumerate(labels)}
    held_back = np.array([is_held_back(photo_set.name, record) for record in photo_set.records])
    return LabelledSet(
        photo_set.name,
        views,
        labels,
        vectors.view(len(labels), len(TEMPLATES), -1),
        np.array([number[label] for label in classes]),
        np.flatnonzero(~held_back),
        np.flatnonzero(held_back),
    )


def captioned_set(photo_set: photos.PhotoSet, views: Views, sentences: SentenceCache) -> CaptionedSet:
    captions = [photos.captions_of(record) for record in photo_set.records]
    vectors = sentences([text for texts in captions for text in texts])
    held_back = [photos.class_label(record) is not None and is_held_back(photo_set.name, record) for record in photo_set.records]
    rows = np.flatnonzero(~np.array(held_back))
    return CaptionedSet(photo_set.name, views, vectors.view(len(captions), len(captions[0]), -1), rows)


def load_training_sets(
    arguments: argparse.Namespace, sentences: SentenceCache
) -> tuple[list[LabelledSet], list[LabelledSet], list[CaptionedSet], CaptionedSet | None]:
    """The labelled sets, those left out of the training, the captioned sets, and the captioned photos held back."""
    labelled, left_out, captioned, development = [], [], [], None
    for photo_set in photos.load_sets(arguments.data):
        name = photo_set.name
        extracted = (arguments.features / f"{name}-0.npy").exists()
        if not extracted or not name.endswith(("-train", "-dev")):
            continue
        views = Views(arguments.features, name, with_grid=arguments.blocks > 0)
        if photos.class_label(photo_set.records[0]):
            target = left_out if re.search(arguments.leave_out, name) else labelled
            target.append(labelled_set(photo_set, views, sentences))
        if photos.captions_of(photo_set.records[0]):
            if name.endswith("-dev"):
                development = captioned_set(photo_set, views, sentences)
            else:
                captioned.append(captioned_set(photo_set, views, sentences))
    return labelled, left_out, captioned, development


class Batch:
    """The photos of one step, gathered set by set and embedded together."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray | None, np.ndarray]] = []
        self.size = 0

    def add(self, part: tuple[np.ndarray, np.ndarray | None, np.ndarray]) -> slice:
        self.parts.append(part)
        self.size += len(part[0])
        return slice(self.size - len(part[0]), self.size)

    def embed(self, heads: Heads) -> Tensor:
        pooled = torch.from_numpy(np.concatenate([part[0] for part in self.parts])).float()
        if self.parts[0][1] is None:
            return heads.image(pooled, None)
        return heads.image(pooled, torch.from_numpy(np.concatenate([part[1] for part in self.parts])).float())

    def probabilities(self) -> Tensor:
        return torch.from_numpy(np.concatenate([part[2] for part in self.parts])).float().softmax(-1)


def draw_texts(sentences: Tensor, dice: np.random.Generator) -> Tensor:
    """One of the texts of each row of [rows, texts, width]."""
    return sentences[torch.arange(len(sentences)), torch.from_numpy(dice.integers(sentences.shape[1], size=len(sentences)))]


def caption_loss(photo: Tensor, caption: Tensor, sentence: Tensor, scale: Tensor, softness: float) -> Tensor:
    """Contrastive, both ways; a share `softness` of each target goes to captions of like meaning."""
    alike = (sentence @ sentence.T / 0.05).softmax(-1)
    targets = (1 - softness) * torch.eye(len(photo)) + softness * alike
    logits = scale * photo @ caption.T
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


class Training:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        sentences = SentenceCache(arguments.halves, arguments.features / "sentences.npz")
        self.labelled, self.left_out, self.captioned, self.development = load_training_sets(arguments, sentences)
        names = imagenet_texts(arguments.halves)
        self.names = sentences([text for texts in names for text in texts]).view(len(names), len(names[0]), -1)
        self.vocabulary = sentences(vocabulary_texts(arguments.halves, arguments.vocabulary))
        sentences.save()
        sizes = np.array([len(one.training_rows) for one in self.labelled], float) ** 0.6
        self.set_chances = sizes / sizes.sum()
        torch.manual_seed(arguments.seed)
        self.heads = Heads(arguments.blocks, arguments.dropout)
        self.average = deepcopy(self.heads).requires_grad_(False)
        self.optimizer = self.make_optimizer()
        self.step = 0

    def make_optimizer(self) -> torch.optim.Optimizer:
        decayed = [p for n, p in self.heads.named_parameters() if p.ndim > 1 and "positions" not in n]
        others = [p for n, p in self.heads.named_parameters() if p.ndim <= 1 or "positions" in n]
        groups = [{"params": decayed, "weight_decay": self.arguments.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.arguments.rate, betas=(0.9, 0.98))

    def rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 100)
        return self.arguments.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.step / self.arguments.steps)))

    def loss(self, dice: np.random.Generator) -> Tensor:
        arguments, heads, scale = self.arguments, self.heads, self.heads.scale()
        batch = Batch()
        labelled = [self.labelled[i] for i in dice.choice(len(self.labelled), 3, p=self.set_chances)]
        labelled = [(one, dice.choice(one.training_rows, arguments.label_photos)) for one in labelled]
        labelled = [(one, rows, batch.add(one.views.draw(rows, dice))) for one, rows in labelled]
        captioned = []
        for one in self.captioned:
            count = arguments.caption_photos if "flickr" in one.name else arguments.caption_photos // 3
            rows = dice.permutation(one.training_rows)[:count]
            captioned.append((one, draw_texts(one.sentences[rows], dice), batch.add(one.views.draw(rows, dice))))
        photo = batch.embed(heads)

        total = photo.new_zeros(())
        for one, rows, where in labelled:
            texts = heads.text(draw_texts(one.sentences, dice))
            targets = torch.from_numpy(one.targets[rows])
            total = total + functional.cross_entropy(scale * photo[where] @ texts.T, targets, label_smoothing=0.05) / 3
        for one, sentence, where in captioned:
            noisy = sentence + arguments.text_noise * torch.randn_like(sentence)
            weight = arguments.caption_weight * len(sentence) / (len(sentence) + 256)
            total = total + weight * caption_loss(photo[where], heads.text(noisy), sentence, scale, arguments.softness)
        names = heads.text(draw_texts(self.names, dice))
        guesses = functional.log_softmax(scale * photo @ names.T, -1)
        total = total - arguments.names_weight * (batch.probabilities() * guesses).sum(1).mean()
        anchors = self.vocabulary[torch.from_numpy(dice.integers(len(self.vocabulary), size=512))]
        anchors = torch.cat([anchors, *[sentence[:128] for _, sentence, _ in captioned]])
        drift = 1 - (heads.text(anchors) * anchors).sum(-1)
        return total + arguments.anchor_weight * drift.mean()

    def take_step(self) -> float:
        dice = np.random.default_rng([self.arguments.seed, self.step])
        torch.manual_seed(self.arguments.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.heads.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.arguments.bf16):
            loss = self.loss(dice)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.heads.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.arguments.average, self.step / (self.step + 10))
        for averaged, current in zip(self.average.parameters(), self.heads.parameters(), strict=True):
            averaged.lerp_(current.detach(), 1 - keep)
        return loss.item()

    def save(self) -> None:
        state = {
            "step": self.step,
            "blocks": self.arguments.blocks,
            "heads": self.heads.state_dict(),
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
            self.heads.load_state_dict(state["heads"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
            print(f"going on from step {self.step}", flush=True)

    @torch.no_grad()
    def similarities(self, one: LabelledSet, rows: np.ndarray) -> Tensor:
        texts = self.average.text(one.sentences[:, EVALUATION_TEMPLATE_INDEX])
        return self.average.image(*one.views.plain(rows)) @ texts.T

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Accuracies on photos held back, on sets left out, and the retrieval on Flickr8k's dev part."""
        self.average.eval()
        figures: dict[str, float] = {}
        for one in self.labelled:
            if len(one.held_back_rows) >= 30:
                right = self.similarities(one, one.held_back_rows).argmax(1).numpy() == one.targets[one.held_back_rows]
                figures[one.name.removesuffix("-train")] = float(right.mean())
        for one in self.left_out:
            rows = np.arange(len(one.targets))[:3000]
            right = self.similarities(one, rows).argmax(1).numpy() == one.targets[rows]
            figures[f"left out {one.name}"] = float(right.mean())
        if self.development:
            photo = self.average.image(*self.development.views.plain(np.arange(len(self.development.sentences))))
            caption = self.average.text(self.development.sentences[:, 0])
            scores = caption @ photo.T
            ranks = (scores > scores.diag()[:, None]).sum(1)
            figures |= {f"dev text to image R@{k}": float((ranks < k).float().mean()) for k in (1, 5, 10)}
        return {name: round(value, 3) for name, value in figures.items()}

    @torch.no_grad()
    def calibrated_scale(self) -> float:
        """The scale that makes the right labels of held-back photos likeliest (softmax over their set's; sets weigh equally)."""
        self.average.eval()
        sets = [one for one in self.labelled if len(one.held_back_rows) >= 30]
        scores = [self.similarities(one, one.held_back_rows) for one in sets]
        targets = [torch.from_numpy(one.targets[one.held_back_rows]) for one in sets]
        candidates = torch.arange(5.0, 100.5, 0.5)
        losses = [
            sum(functional.cross_entropy(scale * s, t) for s, t in zip(scores, targets, strict=True)) for scale in candidates
        ]
        return float(candidates[torch.stack(losses).argmin()])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--halves", type=Path, required=True, help="folder written by fetch.py")
    parser.add_argument("--features", type=Path, required=True, help="folder written by features.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--blocks", type=int, default=0, help="class attention blocks over the grid; 0: the pooled head alone")
    parser.add_argument("--label-photos", type=int, default=192, help="photos of each of the three labelled sets of a step")
    parser.add_argument("--caption-photos", type=int, default=512)
    parser.add_argument("--caption-weight", type=float, default=0.5)
    parser.add_argument("--names-weight", type=float, default=0.5)
    parser.add_argument("--anchor-weight", type=float, default=0.5)
    parser.add_argument("--softness", type=float, default=0.3, help="share of a caption's target given to like captions")
    parser.add_argument("--text-noise", type=float, default=0.02, help="deviation of the noise on captions' vectors")
    parser.add_argument("--dropout", type=float, default=0.4, help="of the image head")
    parser.add_argument("--vocabulary", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.5)
    parser.add_argument("--average", type=float, default=0.99, help="share of the weight average kept in a step")
    parser.add_argument("--leave-out", default="^$", help="regular expression: labelled sets kept from the training")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between two checkpoints")
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
            print(f"step {training.step} loss {loss:.3f} scale {training.heads.scale():.1f} {seconds:.0f} s", flush=True)
        if training.step % arguments.every == 0 or training.step == arguments.steps:
            print(json.dumps(training.evaluate()), flush=True)
            training.save()
    calibration = {"trained_scale": round(float(training.average.scale()), 2), "calibrated_scale": training.calibrated_scale()}
    (arguments.out / "calibration.json").write_text(json.dumps(calibration) + "\n")
    print(calibration)


if __name__ == "__main__":
    main()
