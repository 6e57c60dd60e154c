"""The built program as the evaluation runs it: files and texts in, rows out, kept for the same program and model."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    """The first answer of `diptych classify`, without a label where it said "none of these"."""

    label: str | None
    probability: float | None


@dataclass
class Program:
    """`diptych` with a model. Rows made before by the same program and model are read from `kept`."""

    executable: Path
    model: Path
    kept: Path
    threads: int
    version: str
    program_hash: str
    model_hash: str

    def photo_rows(self, name: str, files: dict[str, bytes]) -> np.ndarray:
        """A row for each photo, the bytes being given to the program as files of these names."""
        parts = [part for file, encoded in files.items() for part in (file.encode(), encoded)]
        target = self.kept / f"{name}-{digest(parts)[:16]}.npy"
        if not target.exists():
            with photo_folder(files) as folder:
                self.embed(target, [folder], "path", [str(Path(folder) / file) for file in files])
        return np.load(target, allow_pickle=False)

    def text_rows(self, name: str, texts: list[str]) -> np.ndarray:
        """A row for each text."""
        lines = [" ".join(text.splitlines()) for text in texts]
        target = self.kept / f"{name}-{digest([line.encode() for line in lines])[:16]}.npy"
        if not target.exists():
            with tempfile.TemporaryDirectory() as folder:
                file = text_file(Path(folder) / "texts.txt", lines)
                self.embed(target, ["--texts", str(file)], "text", lines)
        return np.load(target, allow_pickle=False)

    def classify(self, files: dict[str, bytes], labels: list[str]) -> list[Answer]:
        """What `diptych classify` answers for each photo, with the templates that it takes by itself."""
        with photo_folder(files) as folder, tempfile.TemporaryDirectory() as beside:
            file = text_file(Path(beside) / "labels.txt", labels)
            command = ["classify", "--json", "--top", "1", "--labels-file", str(file), folder]
            lines = [json.loads(line) for line in self.run(command).splitlines()]
            check_names([line["path"] for line in lines], [str(Path(folder) / file) for file in files])
        firsts = [next(iter(line["predictions"]), {}) for line in lines]
        return [Answer(first.get("label"), first.get("probability")) for first in firsts]

    def embed(self, target: Path, asked: list[str], kind: str, names: list[str]) -> None:
        """Write the rows of what is asked to `target`, whole or not at all."""
        rows, rows_names = target.with_suffix(".part.npy"), target.with_suffix(".part.jsonl")
        self.run(["embed", "--output", str(rows), *asked])
        check_names([json.loads(line)[kind] for line in rows_names.read_text().splitlines()], names)
        rows_names.unlink()
        rows.rename(target)

    def run(self, arguments: list[str]) -> str:
        everywhere = ["--model", str(self.model), "--threads", str(self.threads), "--quiet"]
        command = [self.executable, *arguments, *everywhere]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"diptych {arguments[0]} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout


def open_program(program: Path | None, model: Path, work: Path, threads: int) -> Program:
    executable = find_executable(program)
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    program_hash = digest([executable.read_bytes()])
    model_hash = hash_of_model(model)
    kept = work / digest([program_hash.encode(), model_hash.encode()])[:16]
    kept.mkdir(parents=True, exist_ok=True)
    return Program(executable, model, kept, threads, version, program_hash, model_hash)


def find_executable(program: Path | None) -> Path:
    """The program that is named, or the one on the PATH, or the one built in this repository."""
    names = [program] if program else ["diptych", REPOSITORY / "target" / "release" / "diptych"]
    found = [path for path in (shutil.which(name) for name in names) if path]
    if not found:
        raise SystemExit(f"no program at {names[-1]}: build it with cargo build --release, or name it with --program")
    return Path(found[0]).resolve()


def hash_of_model(model: Path) -> str:
    """Of every file of the model but what is written about it."""
    files = sorted(path for path in model.rglob("*") if path.is_file() and path.suffix != ".md")
    if not files:
        raise SystemExit(f"{model}: expected the folder of a model, found no file in it")
    return digest([part for path in files for part in (str(path.relative_to(model)).encode(), path.read_bytes())])


def digest(parts: list[bytes]) -> str:
    """SHA-256 of a list, each part with its length before it."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def photo_folder(files: dict[str, bytes]) -> tempfile.TemporaryDirectory:
    """A folder of these files, which is gone after the `with`."""
    folder = tempfile.TemporaryDirectory()
    for name, encoded in files.items():
        (Path(folder.name) / name).write_bytes(encoded)
    return folder


def text_file(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def check_names(found: list[str], expected: list[str]) -> None:
    """Row i must be of thing i: a photo that could not be read has no row."""
    if found != expected:
        missing = next((name for name in expected if name not in set(found)), "the order differs")
        raise SystemExit(f"expected {len(expected)} rows, found {len(found)}; first missing: {missing}")
