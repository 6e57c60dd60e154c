"""Makes all of tests/golden/ anew. See README.md beside this file."""

import argparse
import importlib.metadata
import platform
import sys
import tempfile
import unicodedata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = """
ftfy numpy onnx onnxruntime open_clip_torch pillow regex
sentencepiece tokenizers torch torchvision transformers""".split()

# immich's service is no package: the commits of immich-app/immich whose files `reference.py` tells again.
IMMICH = {
    "immich_ml/models/transforms.py": "3aea3baa0d8d37f8b7267dbc2658fcd4d5bdb68d",
    "immich_ml/models/clip/visual.py": "0538dd7aedbf3c1664171666c5a0b69129600a93",
    "immich_ml/models/clip/textual.py": "03112cf7e16dc76438b87b7d3e007669a6e48206",
}

sys.dont_write_bytecode = True


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, default=REPOSITORY / "tests/golden", help="folder to write")
    parser.add_argument(
        "--published-clip",
        type=Path,
        default=REPOSITORY / "tests/golden/clip-tokenizer",
        help="folder with CLIP's published tokenizer files",
    )
    return parser.parse_args()


def versions() -> dict:
    """Every reference that the values come from."""
    from PIL import features

    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    codecs = {f"pillow's {name}": features.version(name) for name in ("libjpeg_turbo", "webp", "libtiff", "zlib")}
    return (
        {"python": platform.python_version(), "unicode": unicodedata.unidata_version}
        | found
        | codecs
        | {"immich": IMMICH}
    )


def main() -> None:
    options = arguments()
    import torch

    import bundle
    import bundles_open_clip
    import bundles_transformers
    import bundles_vision
    import clip_corpus
    import expected
    import families_open_clip
    import families_transformers
    import images
    import open_clip_configs
    import resample
    import texts
    import tokenizers_small

    torch.set_num_threads(1)
    golden = options.golden
    images.write(golden)
    texts.write(golden)
    resample.write(golden)
    clip_corpus.write(golden, options.published_clip)
    open_clip_configs.write(golden)
    with tempfile.TemporaryDirectory() as scratch:
        pieces = tokenizers_small.train_pieces(Path(scratch))
        sources = bundle.Sources(golden / "bundles", options.published_clip, pieces, Path(scratch))
        makers = bundles_transformers.ALL + bundles_open_clip.ALL + bundles_vision.ALL
        makers += families_open_clip.ALL + families_transformers.ALL
        made = [make(sources) for make in makers]
        expected.write_all(golden, made)
    tokenizers_small.write_json(golden / "versions.json", versions())


if __name__ == "__main__":
    main()
