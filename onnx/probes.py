"""Makes src/verify/probes/: the pictures that `diptych verify` shows to a model.

Three are drawn by a formula, so that what is done wrongly shows: `rings` has detail of every size, so that filters
differ; `colours` has red where blue is not, so that BGR differs; `strip` has odd sides and is narrow, so that crop,
squash and padding differ. The photos are those of assets/photos, made small; one is cut to stand upright.

Run again with the same versions it gives the same files. Another version's pictures would make every record that
people keep one of other pictures, so run it only to change the pictures on purpose.
"""

from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
INTO = REPOSITORY / "src/verify/probes"

# The longest side of a photo.
SIDE = 320
PHOTOS = ["bee", "bridge", "cat", "coffee", "dog"]
UPRIGHT = "rocket"


def grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    return np.meshgrid(np.arange(width), np.arange(height))


def rings() -> np.ndarray:
    """Rings that get finer outwards, in eight levels, each channel around a centre of its own."""
    x, y = grid(201, 151)
    channels = [((x - cx) ** 2 + (y - cy) ** 2) // 41 % 16 for cx, cy in [(26, 20), (96, 128), (186, 70)]]
    folded = [np.minimum(channel, 15 - channel) for channel in channels]
    return np.stack(folded, axis=2) * 36


def colours() -> np.ndarray:
    """Strong red at the left, strong blue at the right, green growing downwards, with sharp edges."""
    x, y = grid(97, 140)
    red = np.where(x < 48, 250 - x, 20)
    blue = np.where(x < 48, 10, 150 + x)
    green = y // 14 * 20
    return np.stack([red, green, blue], axis=2)


def strip() -> np.ndarray:
    """Narrow, with stripes that get finer downwards: a squash makes them flat, a crop shows a part of them."""
    x, y = grid(45, 161)
    level = np.where((y * y // 160 + x // 9) % 8 < 4, 230, 25)
    return np.stack([level, level * 2 // 3, 255 - level], axis=2)


def small(name: str) -> Image.Image:
    image = Image.open(REPOSITORY / f"assets/photos/{name}.jpg").convert("RGB")
    if name == UPRIGHT:
        width = round(image.height * 0.7)
        left = (image.width - width) // 2
        image = image.crop((left, 0, left + width, image.height))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def main() -> None:
    INTO.mkdir(parents=True, exist_ok=True)
    for draw in (rings, colours, strip):
        Image.fromarray(draw().astype(np.uint8)).save(INTO / f"{draw.__name__}.png", optimize=True)
    for name in [*PHOTOS, UPRIGHT]:
        small(name).save(INTO / f"{name}.jpg", quality=80, comment=b"")


if __name__ == "__main__":
    main()
