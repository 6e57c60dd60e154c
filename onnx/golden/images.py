"""Makes tests/golden/images/ and images.json: small pictures that decoders and resizers get wrong.

Every picture is synthetic and drawn from a seed, so running this again gives the same bytes with the same Pillow.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

import png

ORIENTATION_TAG = 0x0112


def photo(width: int, height: int, seed: int) -> np.ndarray:
    """Photo-like colours: smooth waves, a few discs with sharp rims, a little grain in one corner."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    scale = max(width, height)
    canvas = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(3):
            a, b, phase = generator.uniform(-9, 9), generator.uniform(-9, 9), generator.uniform(0, 6.28)
            canvas[..., channel] += 40 * np.sin((a * x + b * y) / scale + phase)
    canvas += generator.uniform(70, 190, 3)
    for _ in range(4):
        center_x, center_y, radius = (
            generator.uniform(0, width),
            generator.uniform(0, height),
            generator.uniform(0.05, 0.3) * scale,
        )
        canvas[(x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] = generator.uniform(0, 255, 3)
    corner = (slice(0, min(height, 48)), slice(0, min(width, 48)))
    canvas[corner] += generator.normal(0, 12, canvas[corner].shape)
    return np.clip(canvas // 4 * 4, 0, 255).astype(np.uint8)


def edges(width: int, height: int, seed: int) -> np.ndarray:
    """Blocks, stripes and single pixels of pure colours: resizers overshoot here, and the overshoot must be clipped."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 2, (height // 6 + 1, width // 6 + 1, 3)) * 255
    canvas = np.repeat(np.repeat(blocks, 6, 0), 6, 1)[:height, :width].astype(np.uint8)
    canvas[::7, :, 0] ^= 255
    canvas[:, ::5, 1] ^= 255
    canvas[generator.random((height, width)) < 0.04] = (255, 0, 255)
    return canvas


def gray_ramp(width: int, height: int, levels: int) -> np.ndarray:
    """Height × width samples that run through all levels, with steps."""
    y, x = np.mgrid[0:height, 0:width]
    return ((x * 37 + y * 101 + (x // 8) * (y // 6) * 977) % levels).astype(np.int64)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb_png(samples: np.ndarray, **options) -> bytes:
    return saved(Image.fromarray(samples), "PNG", optimize=True, **options)


def paletted(width: int, height: int, seed: int, colors: int = 48) -> Image.Image:
    """A palette image whose neighbouring indices are unlike colours, so that blending indices would show."""
    generator = np.random.default_rng(seed)
    indices = (photo(width, height, seed)[..., 0].astype(int) * colors // 256).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(generator.integers(0, 256, colors * 3).astype(np.uint8).tobytes())
    return image


def with_alpha(samples: np.ndarray, cell: int) -> Image.Image:
    """RGBA whose alpha is a checkerboard of 0, 255 and a ramp; colours stay under the transparent cells."""
    height, width = samples.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    alpha = np.where((x // cell + y // cell) % 2 == 0, 255, (x * 3) % 200 * ((y // cell) % 3 > 0)).astype(np.uint8)
    return Image.fromarray(np.dstack([samples, alpha]))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags.tobytes()


def jpeg(samples, **options) -> bytes:
    image = samples if isinstance(samples, Image.Image) else Image.fromarray(samples)
    return saved(image, "JPEG", **({"quality": 88} | options))


def offset_gif() -> bytes:
    """A GIF whose first frame covers only a part of the screen, at (5, 7)."""
    frame = saved(paletted(40, 30, 71, 16), "GIF")
    flags, palette = frame[10], frame[13 : 13 + 3 * 2 ** ((frame[10] & 7) + 1)]
    start = frame.index(b"\x2c", 13 + len(palette))
    image = b"\x2c" + struct.pack("<HH", 5, 7) + frame[start + 5 :]
    screen = struct.pack("<HHBBB", 56, 44, flags, 3, 0)
    return b"GIF89a" + screen + palette + image


def qoi(samples: np.ndarray) -> bytes:
    """A QOI file by hand: whole RGB pixels, runs, and the index of seen colours."""
    height, width = samples.shape[:2]
    out, seen, last, run = bytearray(b"qoif" + struct.pack(">IIBB", width, height, 3, 0)), {}, (0, 0, 0), 0
    for pixel in map(tuple, samples.reshape(-1, 3).tolist()):
        if pixel == last:
            run += 1
            if run == 62:
                out.append(0xC0 | 61)
                run = 0
            continue
        if run:
            out.append(0xC0 | run - 1)
            run = 0
        slot = (pixel[0] * 3 + pixel[1] * 5 + pixel[2] * 7 + 255 * 11) % 64
        if seen.get(slot) == pixel:
            out.append(slot)
        else:
            out += bytes((0xFE, *pixel))
            seen[slot] = pixel
        last = pixel
    if run:
        out.append(0xC0 | run - 1)
    return bytes(out) + b"\0" * 7 + b"\1"


def frames(kind: str, images: list[Image.Image], **options) -> bytes:
    return saved(images[0], kind, save_all=True, append_images=images[1:], duration=100, loop=0, **options)


def lossless_kinds():
    """Name, bytes and note of each picture that every right decoder reads alike."""
    photos = [
        ("portrait-427x640", 427, 640, "portrait of odd width"),
        ("landscape-641x427", 641, 427, "landscape of odd sides"),
        ("narrow-33x257", 33, 257, "tall and narrow"),
        ("one-pixel-1x1", 1, 1, "a single pixel, enlarged"),
        ("thread-2x500", 2, 500, "ratio of 250"),
        ("thread-300x3", 300, 3, "ratio of 100, lying"),
        ("small-31x31", 31, 31, "one pixel smaller than a crop of 32"),
        ("small-20x15", 20, 15, "enlarged"),
        ("exact-32x32", 32, 32, "already 32 by 32: no resize at side 32"),
        ("crop-33x32", 33, 32, "margin 0.5: half-up differs from floor and from banker's"),
        ("crop-35x32", 35, 32, "margin 1.5: floor differs from banker's and from half-up"),
        ("crop-32x37", 32, 37, "margin 2.5, upright"),
        ("crop-32x39", 32, 39, "margin 3.5, upright"),
        ("crop-205x160", 205, 160, "at side 40, 51.25: truncation and an odd margin"),
        ("size-640x427", 320, 213, "truncation and rounding give different target sizes"),
    ]
    for number, (name, width, height, note) in enumerate(photos):
        yield f"{name}.png", rgb_png(photo(width, height, 100 + number)), note
    for width, height in float_order_sizes(42):
        yield (
            f"float-order-{width}x{height}.png",
            rgb_png(photo(width, height, width * height)),
            "at side 42, size * long / short and (long / short) * size truncate differently",
        )
    yield "edges-64x48.png", rgb_png(edges(64, 48, 1)), "harsh edges, overshoot between the passes is clipped"
    yield "edges-97x131.png", rgb_png(edges(97, 131, 2)), "harsh edges, odd sides"
    yield from png_kinds()
    yield from oriented_kinds()
    yield from other_kinds()


def float_order_sizes(side: int) -> list[tuple[int, int]]:
    """The smallest upright and lying sizes where the order of float operations changes the target size."""
    found = []
    for long in range(20, 400):
        for short in range(9, long):
            if int(side * long / short) != int((long / short) * side):
                found.append((short, long))
    return [found[0], found[1][::-1]]


def png_kinds():
    samples = photo(60, 45, 11)
    indexed = paletted(60, 44, 12)
    yield "palette.png", saved(indexed, "PNG", optimize=True), "palette"
    yield (
        "palette-transparent.png",
        saved(indexed, "PNG", transparency=bytes(range(0, 240, 5))),
        "palette with alpha values; alpha is dropped",
    )
    yield "palette-4-bit.png", saved(paletted(51, 40, 13, 11), "PNG", bits=4), "palette, two pixels in a byte"
    bits = Image.fromarray((edges(61, 43, 14)[..., 0] > 127))
    yield "one-bit.png", saved(bits, "PNG"), "1 bit a pixel"
    yield "gray.png", rgb_png(gray_ramp(50, 61, 256).astype(np.uint8)), "8-bit gray"
    yield "gray-2-bit.png", png.written(gray_ramp(45, 37, 4)[..., None], png.GRAY, 2), "2-bit gray"
    yield (
        "gray-4-bit.png",
        png.written(gray_ramp(39, 52, 16)[..., None], png.GRAY, 4, interlaced=True),
        "4-bit gray, interlaced",
    )
    gray_alpha = np.dstack([gray_ramp(48, 40, 256), gray_ramp(48, 40, 256)[::-1]]).astype(np.uint8)
    yield "gray-alpha.png", saved(Image.fromarray(gray_alpha), "PNG"), "gray with alpha; alpha is dropped"
    yield (
        "rgba-checker.png",
        saved(with_alpha(samples, 4), "PNG"),
        "RGBA, checkered alpha; alpha is dropped, not blended",
    )
    yield (
        "rgb-color-key.png",
        rgb_png(samples, transparency=tuple(samples[0, 0].tolist())),
        "RGB with one transparent colour; it is ignored",
    )
    yield (
        "gray-16-bit.png",
        png.written(gray_ramp(52, 40, 65536)[..., None], png.GRAY, 16),
        "16-bit gray, scaled with rounding",
    )
    wide = np.dstack([gray_ramp(44, 57, 65536), gray_ramp(44, 57, 65521), gray_ramp(44, 57, 60000)])
    yield "rgb-16-bit.png", png.written(wide, png.RGB, 16), "16-bit RGB, scaled with rounding"
    yield "interlaced.png", png.written(photo(53, 47, 15), png.RGB, 8, interlaced=True), "Adam7"
    animation = [Image.fromarray(photo(48, 36, 16 + number)) for number in range(3)]
    yield "animated.png", frames("PNG", animation), "APNG; the first frame counts"
    yield (
        "animated-hidden-first.png",
        frames("PNG", animation, default_image=True),
        "APNG whose still image is not a frame; the still image counts",
    )


def oriented_kinds():
    for orientation in range(1, 9):
        samples = photo(46, 35, 20)
        yield (
            f"orientation-{orientation}.png",
            rgb_png(samples, exif=exif(orientation)),
            f"eXIf orientation {orientation}",
        )


def other_kinds():
    samples = photo(57, 44, 31)
    palette = paletted(57, 43, 32, 24)
    frame_images = [paletted(44, 33, 33 + number, 20) for number in range(3)]
    yield "animated.gif", frames("GIF", frame_images), "three frames; the first counts"
    yield "transparent.gif", saved(palette, "GIF", transparency=5), "one transparent index; its palette colour counts"
    yield (
        "offset.gif",
        offset_gif(),
        "the first frame covers a part of the screen; the rest is colour 0 of the palette, not the background",
    )
    yield "true-color.bmp", saved(Image.fromarray(samples), "BMP"), "24-bit, bottom up"
    yield "palette.bmp", saved(palette, "BMP"), "8-bit palette"
    yield "lzw.tif", saved(Image.fromarray(samples), "TIFF", compression="tiff_lzw"), "LZW"
    yield (
        "cmyk.tif",
        saved(
            Image.fromarray(np.dstack([samples, 255 - samples[..., :1]]), mode="CMYK"), "TIFF", compression="tiff_lzw"
        ),
        "CMYK",
    )
    yield (
        "gray-16-bit.tif",
        saved(Image.fromarray(gray_ramp(40, 51, 65536).astype(np.uint16)), "TIFF"),
        "16-bit gray, scaled with rounding",
    )
    yield (
        "orientation-6.tif",
        saved(Image.fromarray(samples), "TIFF", compression="tiff_lzw", tiffinfo={ORIENTATION_TAG: 6}),
        "orientation tag 6",
    )
    yield "plain.ppm", saved(Image.fromarray(photo(41, 30, 34)), "PPM"), "binary pixmap"
    yield "plain.pgm", saved(Image.fromarray(gray_ramp(37, 41, 256).astype(np.uint8)), "PPM"), "binary graymap"
    yield "plain.qoi", qoi(photo(58, 40, 35)), "QOI"
    yield "lossless.webp", saved(Image.fromarray(photo(59, 41, 36)), "WEBP", lossless=True, method=6), "lossless"
    yield (
        "lossless-alpha.webp",
        saved(with_alpha(photo(48, 48, 37), 6), "WEBP", lossless=True, exact=True),
        "lossless with alpha; alpha is dropped",
    )
    yield (
        "animated.webp",
        frames("WEBP", [Image.fromarray(photo(40, 48, 38 + number)) for number in range(3)], lossless=True),
        "lossless frames; the first counts",
    )


def lossy_kinds():
    """Name, bytes and note of each picture that decoders may read a few levels apart."""
    samples = photo(150, 113, 51)
    yield "subsampled-420.jpg", jpeg(samples, subsampling="4:2:0"), "chroma of half size, odd sides"
    yield "subsampled-422.jpg", jpeg(samples, subsampling="4:2:2"), "chroma of half width"
    yield "full-chroma-444.jpg", jpeg(samples, subsampling="4:4:4"), "chroma of full size"
    yield "gray.jpg", jpeg(photo(90, 121, 52)[..., 1]), "gray"
    cmyk = Image.fromarray(np.dstack([photo(88, 66, 53), photo(88, 66, 54)[..., :1] // 2]), mode="CMYK")
    yield "cmyk-adobe.jpg", jpeg(cmyk), "CMYK, stored inverted as Adobe does"
    yield "progressive.jpg", jpeg(photo(133, 100, 55), progressive=True), "progressive"
    for orientation in (3, 5, 6, 8):
        image = jpeg(photo(96, 64, 56), subsampling="4:4:4", exif=exif(orientation))
        yield f"orientation-{orientation}.jpg", image, f"EXIF orientation {orientation}"
    yield "lossy.webp", saved(Image.fromarray(photo(120, 90, 57)), "WEBP", quality=85), "lossy"


def write(golden: Path) -> None:
    """Writes every picture and the list of them."""
    folder = golden / "images"
    folder.mkdir(parents=True, exist_ok=True)
    listing = []
    for is_lossless, kinds in ((True, lossless_kinds()), (False, lossy_kinds())):
        for name, data, note in kinds:
            (folder / name).write_bytes(data)
            listing.append({"file": name, "lossless": is_lossless, "note": note})
    (golden / "images.json").write_text(json.dumps(listing, indent=1, ensure_ascii=False) + "\n")
