"""Makes tests/golden/resample/: what Pillow's `Image.resize` makes of 8-bit RGB, for every filter, over hard shapes."""

from pathlib import Path

from PIL import Image

import images
from tokenizers_small import write_json

FILTERS = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
INPUTS = {
    "photo-61x47": lambda: images.photo(61, 47, 81),
    "edges-53x38": lambda: images.edges(53, 38, 82),
    "edges-120x90": lambda: images.edges(120, 90, 83),
    "pixel-1x1": lambda: images.photo(1, 1, 84),
    "row-200x1": lambda: images.edges(200, 1, 85),
    "column-1x77": lambda: images.photo(1, 77, 86),
    "strip-9x300": lambda: images.photo(9, 300, 87),
}
# Input, width and height: down, up, up in one axis and down in the other, identity in one or both, extreme ratios.
SHAPES = {
    "all": [("edges-53x38", 19, 23), ("edges-53x38", 77, 64), ("photo-61x47", 20, 90), ("edges-120x90", 7, 5)],
    "bicubic": [
        ("photo-61x47", 61, 20),
        ("photo-61x47", 30, 47),
        ("photo-61x47", 61, 47),
        ("photo-61x47", 60, 46),
        ("pixel-1x1", 9, 13),
        ("row-200x1", 31, 1),
        ("row-200x1", 33, 8),
        ("column-1x77", 1, 20),
        ("column-1x77", 5, 100),
        ("strip-9x300", 32, 32),
        ("strip-9x300", 2, 66),
        ("edges-120x90", 1, 1),
    ],
    "bilinear": [
        ("photo-61x47", 61, 20),
        ("pixel-1x1", 4, 3),
        ("row-200x1", 31, 7),
        ("strip-9x300", 32, 32),
        ("edges-120x90", 119, 1),
    ],
    "lanczos": [("column-1x77", 3, 9), ("strip-9x300", 8, 8), ("pixel-1x1", 2, 2)],
    "nearest": [("row-200x1", 63, 2), ("strip-9x300", 10, 17)],
    "box": [("strip-9x300", 4, 31), ("column-1x77", 2, 39)],
    "hamming": [("strip-9x300", 11, 41), ("row-200x1", 17, 3)],
}


def cases() -> list[tuple[str, str, int, int]]:
    """Filter, input, width and height of every case."""
    shared = [(name, *shape) for shape in SHAPES["all"] for name in FILTERS]
    return shared + [(name, *shape) for name in FILTERS for shape in SHAPES.get(name, [])]


def write(golden: Path) -> None:
    """Inputs, outputs and cases.json."""
    folder = golden / "resample"
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {name: Image.fromarray(draw()) for name, draw in INPUTS.items()}
    for name, image in inputs.items():
        image.save(folder / f"{name}.png", optimize=True)
    listing = []
    for filter_name, name, width, height in cases():
        output = f"{name}-{filter_name}-{width}x{height}.png"
        inputs[name].resize((width, height), Image.Resampling[filter_name.upper()]).save(folder / output, optimize=True)
        listing.append(
            {"input": f"{name}.png", "width": width, "height": height, "filter": filter_name, "output": output}
        )
    write_json(folder / "cases.json", listing)
