"""Step 8: measure the model on the test files, through the built program.

    python evaluate.py --data DATA --model ../tiny --work WORK --json figures.json --card ../tiny/README.md

Every row comes from `diptych embed`: the photos are given to it as the files that they are, the captions and the
labels' texts one a line. Photos are classified among the labels of their own test file, with the model's own templates
(`templates` in diptych.json, else "a photo of a {}.") and with the sets in assets/prompts. Photos of the labels that were
never taught are classified among these alone: in the test files such a label is a possible answer, but its photos are left out. Retrieval is text to photo among the photos of a file: Flickr8k's test part with the first
caption of each photo, and the 100 sharp photos of clip-vit-b32-flickr with all their captions. The sets of --check also
go through `diptych classify`, whose first answers must be those of the rows.

Rows are kept in WORK and used again while the program, the model and the photos are the same.
"""

import argparse
import io
import json
import re
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import card
import measure
import photos
from program import REPOSITORY, Program, open_program

PROMPTS = REPOSITORY / "assets" / "prompts"
PLAIN = ["a photo of a {}."]
MAIN_SETS = "cifar10 flowers fashion cifar100 caltech101 tinyimagenet".split()
REFUSING_SETS = "cifar10 flowers fashion caltech101 grocery sun8 animals22 balls26 houses4 food3".split()
CAPTIONED = "flickr8k"
LARGE = 1000
SAMPLE = 400
SEED = 0
SMALL_SIDE = 96
COSINE_NOISE = 1e-5
PROBABILITY_NOISE = 1e-4


@dataclass(frozen=True)
class Settings:
    """What the model's diptych.json states."""

    scale: float
    templates: list[str]
    none_below: float | None


@dataclass
class TestFile:
    """A test file's photos with their rows; with the labels that they are classified among, or with captions."""

    name: str
    files: dict[str, bytes]
    records: list[dict]
    labels: list[str]
    rows: np.ndarray

    @cached_property
    def classes(self) -> list[str]:
        return [photos.class_label(record) for record in self.records]

    @cached_property
    def truth(self) -> np.ndarray:
        return np.array([self.labels.index(label) for label in self.classes])

    def sample(self) -> np.ndarray:
        """Up to SAMPLE photos, the same ones each time."""
        return np.sort(np.random.default_rng(SEED).permutation(len(self.rows))[:SAMPLE])


@dataclass
class Evaluation:
    """The program, what the model states, and the test files asked for."""

    program: Program
    settings: Settings
    labelled: dict[str, TestFile]
    captioned: dict[str, TestFile]

    def class_rows(self, name: str, templates: list[str]) -> np.ndarray:
        texts = [template.replace("{}", label) for label in self.labelled[name].labels for template in templates]
        return measure.class_matrix(self.program.text_rows(f"{name}-labels", texts), len(templates))

    def answers(self, name: str, templates: list[str]) -> measure.Answers:
        test = self.labelled[name]
        return measure.answers(test.rows @ self.class_rows(name, templates).T, test.truth, self.settings.scale)

    def classification(self) -> dict[str, dict[str, float]]:
        """Accuracy, confidence and calibration of each labelled test file."""
        figures = {}
        for name, test in self.labelled.items():
            sizes = {"photos": len(test.rows), "labels": len(test.labels)}
            figures[name] = sizes | self.answers(name, self.settings.templates).figures()
            show(name, figures[name])
        return figures

    def prompts(self) -> dict[str, dict[str, float]]:
        """Accuracy of each labelled test file with each set of templates."""
        figures: dict[str, dict[str, float]] = {}
        for prompts, templates in template_sets(self.settings.templates).items():
            for name in self.labelled:
                figures.setdefault(name, {})[prompts] = self.answers(name, templates).right.mean()
            show(f"accuracy with {prompts}", {"mean": np.mean([row[prompts] for row in figures.values()])})
        return figures

    def retrieval(self) -> dict[str, dict[str, float]]:
        """Text to photo."""
        figures = {}
        for name, test in self.captioned.items():
            each = 1 if name == CAPTIONED else None
            captions = [(text, i) for i, record in enumerate(test.records) for text in record["captions"][:each]]
            owner = np.array([i for _, i in captions])
            cosines = self.program.text_rows(f"{name}-captions", [text for text, _ in captions]) @ test.rows.T
            found = measure.answers(cosines, owner, self.settings.scale).figures()
            sizes = {"photos": len(test.rows), "captions": len(captions)}
            calibration = {key: found[key] for key in ("confidence", "ECE")}
            figures[name] = sizes | measure.recalls(cosines, owner) | calibration
            show(name, figures[name])
        return figures

    def refusals(self) -> dict:
        """What "none of these" refuses where the best label's cosine is below a threshold."""
        names = [name for name in REFUSING_SETS if name in self.labelled]
        right = {name: self.right_cosines(name) for name in names}
        foreign = {name: self.foreign_cosines(name, names) for name in names}
        names = [name for name in names if len(right[name]) and len(foreign[name])]
        if not names:
            return {}
        thresholds = {"5 % refused": measure.threshold_refusing([right[name] for name in names])}
        if self.settings.none_below is not None:
            thresholds = {"none_below": self.settings.none_below} | thresholds
        figures = {key: refused_at(right, foreign, names, threshold) for key, threshold in thresholds.items()}
        for key, row in figures.items():
            show(f"none of these, {key}", {"threshold": row["threshold"]} | row["mean"])
        return {"photos of a set at most": SAMPLE, "thresholds": figures}

    def right_cosines(self, name: str) -> np.ndarray:
        """The best cosine of each sampled photo that is answered rightly."""
        own, taken = self.answers(name, self.settings.templates), self.labelled[name].sample()
        return own.cosine[taken][own.right[taken]]

    def foreign_cosines(self, name: str, names: list[str]) -> np.ndarray:
        """The best cosine of each sampled photo of the other sets that is of nothing this set has a label for."""
        classes = self.class_rows(name, self.settings.templates)
        others = [self.labelled[other].rows[self.foreign(name, other)] for other in names if other != name]
        return (np.concatenate(others) @ classes.T).max(1) if others else np.zeros(0)

    def foreign(self, name: str, other: str) -> np.ndarray:
        """Those of the sampled photos of another set whose label shares no word with any label of this set."""
        test, labels = self.labelled[other], self.labelled[name].labels
        apart = {label for label in test.labels if measure.shares_no_word(label, labels)}
        return np.array([i for i in test.sample() if test.classes[i] in apart], np.int64)

    def check(self, name: str) -> dict[str, int]:
        """Whether `diptych classify` answers what the rows say; a tie may fall either way."""
        test = self.labelled[name]
        own = self.answers(name, self.settings.templates)
        cosines = test.rows @ self.class_rows(name, self.settings.templates).T
        given = self.program.classify(test.files, test.labels)
        counts = {"photos": len(given), "the same answer": 0, "none of these": 0}
        for i, answer in enumerate(given):
            told = f"photo {i} of {name}: {answer} by the command, {test.labels[own.first[i]]!r} by the rows"
            if answer.label is None:
                limit = self.settings.none_below
                assert limit is not None and own.cosine[i] < limit + COSINE_NOISE, told
                counts["none of these"] += 1
                continue
            place = test.labels.index(answer.label)
            assert own.cosine[i] - cosines[i, place] < COSINE_NOISE, told
            assert abs(answer.probability - own.probability[i]) < PROBABILITY_NOISE, told
            counts["the same answer"] += int(place == own.first[i])
        return counts


def refused_at(right: dict, foreign: dict, names: list[str], threshold: float) -> dict:
    shares = {
        name: {
            "right answers": len(right[name]),
            "right refused": measure.share_below(right[name], threshold),
            "foreign photos": len(foreign[name]),
            "foreign refused": measure.share_below(foreign[name], threshold),
        }
        for name in names
    }
    mean = {key: np.mean([row[key] for row in shares.values()]) for key in ("right refused", "foreign refused")}
    return {"threshold": threshold, "sets": shares, "mean": mean}


def means(classification: dict, prompts: dict, retrieval: dict) -> dict[str, float]:
    """Over all labelled test files, over the large ones, and over the main lines where all of them were measured."""
    figures = {"accuracy": np.mean([row["accuracy"] for row in classification.values()])}
    large = [row["ECE"] for row in classification.values() if row["photos"] >= LARGE]
    if large:
        figures[f"ECE, files of {LARGE} photos or more"] = np.mean(large)
    if all(name in classification for name in MAIN_SETS):
        errors = [classification[name]["ECE"] for name in MAIN_SETS]
        figures["accuracy, main sets"] = np.mean([classification[name]["accuracy"] for name in MAIN_SETS])
        figures["ECE, main sets"] = np.mean(errors)
        if CAPTIONED in retrieval:
            figures["ECE, main sets and retrieval"] = np.mean([*errors, retrieval[CAPTIONED]["ECE"]])
    for key in next(iter(prompts.values())):
        figures[f"accuracy, {key}"] = np.mean([row[key] for row in prompts.values()])
    return figures


def load_test_files(program: Program, data: Path, only: str) -> tuple[dict[str, TestFile], dict[str, TestFile]]:
    """The test files with labels and those with captions, each photo brought to its row."""
    labelled, captioned = {}, {}
    for photo_set in photos.load_sets(data):
        name = photo_set.name.removesuffix("-test")
        is_captioned = name in (CAPTIONED, photos.MEASURE_ONLY)
        is_test = photo_set.name.endswith("-test") or name == photos.MEASURE_ONLY
        if not is_test or not re.search(only, name) or not (is_captioned or photos.class_label(photo_set.records[0])):
            continue
        labels = [] if is_captioned else sorted({photos.class_label(record) for record in photo_set.records})
        photo_set = photo_set.without(photos.HELD_OUT_LABELS)
        (captioned if is_captioned else labelled)[name] = test_file(program, name, photo_set, labels)
        if name == photos.MEASURE_ONLY:
            small = f"{name}, shrunk to {SMALL_SIDE} px first"
            captioned[small] = test_file(program, small, photo_set, labels, shrunk=True)
    held_out = photos.load_held_out_set(data)
    if held_out.parts and re.search(only, held_out.name):
        labelled[held_out.name] = test_file(program, held_out.name, held_out, sorted(photos.HELD_OUT_LABELS))
    return labelled, captioned


def test_file(
    program: Program, name: str, photo_set: photos.PhotoSet | photos.HeldOutSet, labels: list[str], shrunk: bool = False
) -> TestFile:
    started = time.time()
    encoded = photo_set.read_all()
    suffixes = [Path(record["file"]).suffix for record in photo_set.records]
    if shrunk:
        encoded, suffixes = [shrink(photo) for photo in encoded], [".png"] * len(encoded)
    files = {f"{i:06}{suffix}": photo for i, (suffix, photo) in enumerate(zip(suffixes, encoded, strict=True))}
    rows = program.photo_rows(re.sub(r"\W+", "-", name), files)
    print(f"{name}: {len(rows)} rows, {time.time() - started:.0f} s", flush=True)
    return TestFile(name, files, photo_set.records, labels, rows)


def shrink(encoded: bytes) -> bytes:
    """As a PNG whose shorter side has SMALL_SIDE px."""
    small = io.BytesIO()
    photos.resize_shortest(Image.open(io.BytesIO(encoded)).convert("RGB"), SMALL_SIDE).save(small, "PNG")
    return small.getvalue()


def read_settings(model: Path, none_below: float | None) -> Settings:
    stated = json.loads((model / "diptych.json").read_text())
    if stated.get("activation", "softmax") != "softmax" or "logit_scale" not in stated:
        raise SystemExit(f"{model / 'diptych.json'}: expected a logit_scale for a softmax, found {stated}")
    if none_below is None:
        none_below = stated.get("none_below")
    return Settings(stated["logit_scale"], stated.get("templates", PLAIN), none_below)


def template_sets(own: list[str]) -> dict[str, list[str]]:
    """The sets in assets/prompts, the shortest first, and before them the model's own where it is none of them."""
    sets = {file.stem: templates_of(file) for file in sorted(PROMPTS.glob("*.txt"))}
    sets = {name: templates for name, templates in sorted(sets.items(), key=lambda item: len(item[1])) if templates}
    return sets if own in sets.values() else {"own templates": own} | sets


def templates_of(file: Path) -> list[str]:
    """One a line, comments left out; a file without places for labels (a licence) has none."""
    lines = [line.strip() for line in file.read_text().splitlines()]
    return [line for line in lines if "{}" in line and not line.startswith("#")]


def show(name: str, row: dict[str, float]) -> None:
    print(name, " ".join(f"{key} {rounded(value)}" for key, value in row.items()), sep=": ", flush=True)


def rounded(value: Any) -> Any:
    """Floats with four digits, however deep they lie."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, float | np.floating):
        return round(float(value), 4)
    return int(value) if isinstance(value, np.integer) else value


def measure_all(evaluation: Evaluation, checked: list[str]) -> dict:
    figures = {
        "program": evaluation.program.version,
        "program SHA-256": evaluation.program.program_hash,
        "model SHA-256": evaluation.program.model_hash,
        "scale": evaluation.settings.scale,
        "templates": evaluation.settings.templates,
        "main sets": MAIN_SETS,
        "calibration bins": measure.CALIBRATION_BINS,
    }
    if evaluation.captioned:
        figures["retrieval"] = evaluation.retrieval()
    if evaluation.labelled:
        figures["classification"] = evaluation.classification()
        figures["prompts"] = evaluation.prompts()
        figures["means"] = means(figures["classification"], figures["prompts"], figures.get("retrieval", {}))
        show("means", figures["means"])
        figures["none of these"] = evaluation.refusals()
        checked = [name for name in checked if name in evaluation.labelled] or [next(iter(evaluation.labelled))]
        figures["checked with classify"] = {name: evaluation.check(name) for name in checked}
        for name, row in figures["checked with classify"].items():
            show(f"{name}, diptych classify", row)
    return rounded(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="the exported model's folder")
    parser.add_argument("--program", type=Path, help="diptych; without it, from the PATH or target/release")
    parser.add_argument("--work", type=Path, help="folder to keep rows in; without it, none are kept")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--card", type=Path, help="file in which to replace the tables between the marks")
    parser.add_argument("--only", default="", help="regular expression: the test files to do")
    parser.add_argument("--check", nargs="+", default=["caltech101"], help="test files for diptych classify")
    parser.add_argument("--none-below", type=float, help="cosine below which no label fits")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.card:
        if arguments.only:
            parser.error("--card needs all test files: leave out --only")
        card.split(arguments.card)

    settings = read_settings(arguments.model, arguments.none_below)
    with tempfile.TemporaryDirectory() as scratch:
        program = open_program(arguments.program, arguments.model, arguments.work or Path(scratch), arguments.threads)
        print(f"{program.version}, {program.executable}", flush=True)
        evaluation = Evaluation(program, settings, *load_test_files(program, arguments.data, arguments.only))
        figures = measure_all(evaluation, arguments.check)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.card:
        card.replace(arguments.card, figures)


if __name__ == "__main__":
    main()
