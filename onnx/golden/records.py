"""Writes tests/golden/records/NAME.json for a golden bundle of each family that checkpoints.py makes none of.

    golden-venv/bin/python onnx/golden/records.py [--records FOLDER] [NAME ...]

A record has what the bundle's own reference makes of the probes of `src/verify/probes`: its transform or image
processor, its tokenizer and its PyTorch model, each text by itself. Its shape is that of `onnx/reference.py`, whose
functions write it.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import torch
from PIL import Image

import bundle
import bundles_vision
import families_open_clip
import families_transformers
import reference
import tokenizers_small
from make import IMMICH, REPOSITORY

BUNDLES = [
    families_transformers.siglip2,
    families_transformers.jina_clip,
    families_transformers.tinyclip,
    families_transformers.mobileclip,
    families_transformers.nomic_vision,
    families_transformers.nomic_text,
    families_open_clip.hub,
    families_open_clip.mobileclip,
    families_open_clip.mobileclip2,
    families_open_clip.clipa,
    families_open_clip.pe_core,
    families_open_clip.dfn_378,
    families_open_clip.siglip2,
    families_open_clip.metaclip2,
    families_open_clip.xlm_roberta,
    families_open_clip.nllb,
    families_open_clip.immich_mclip,
    families_open_clip.immich_siglip2,
    families_open_clip.immich_nllb_german,
    bundles_vision.siglip_with_head,
    bundles_vision.vit,
]


def loaded(path: Path):
    """The module `onnx/reference.py`, whose name here is another's."""
    spec = importlib.util.spec_from_file_location("record_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


records = loaded(Path(__file__).resolve().parents[1] / "reference.py")


class OpenClipTexts:
    """What `onnx/reference.py` knows of open_clip's ids, of a tokenizer that was made without a name."""

    length, ids = records.OpenClip.length, records.OpenClip.ids

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer


class Golden:
    """A golden bundle's reference, by the names that `onnx/reference.py` has for a model's."""

    def __init__(self, made: bundle.Bundle):
        self.made = made

    def pixels(self, image: Image.Image):
        return self.made.images.pixels(image)

    def values(self, image: Image.Image):
        return self.made.images.values(image)

    def image_row(self, values):
        return records.row(self.made.encode_images(torch.from_numpy(values)[None]))

    def ids(self, text: str) -> tuple[list[int], dict | None]:
        """Ids without padding, and the padding where the model sees it."""
        texts = self.made.texts
        if isinstance(texts, reference.OpenClipTexts):
            return OpenClipTexts(texts.tokenizer).ids(text)
        (ids,), mask = texts.ids_and_mask([text])
        if mask is not None:
            mask = mask[0]
        elif isinstance(texts, reference.ImmichTexts):
            mask = texts.tokenizer.encode(texts.cleaned(text)).attention_mask
        else:
            raise TypeError(f"{self.made.name}: no way to tell padding from {type(texts).__name__}")
        padding = {"length": len(ids), "id": self.pad()} if self.sees_padding() else None
        return [int(id) for id, is_token in zip(ids, mask, strict=True) if is_token], padding

    def sees_padding(self) -> bool:
        """Whether texts of immich, but for those with a mask, or texts of transformers are padded to their context."""
        texts = self.made.texts
        if isinstance(texts, reference.ImmichTexts):
            return not isinstance(texts, families_open_clip.MClipTexts)
        texts = getattr(texts, "texts", texts)
        return texts.padding == "max_length"

    def pad(self) -> int:
        """The id that follows an empty text's."""
        return int(self.made.texts.ids_and_mask([""])[0][0, -1])

    def text_row(self, text: str):
        ids, mask = self.made.texts.ids_and_mask([text])
        mask = None if mask is None else torch.from_numpy(mask)
        return records.row(self.made.encode_texts(torch.from_numpy(ids), mask))


def made_by(made: bundle.Bundle) -> dict:
    """Versions of the library that the bundle is published for; of immich, which is no package, its files' commits."""
    is_open_clips = made.layout in (2, 3)
    versions = records.versions("open_clip" if is_open_clips else "transformers")
    if made.layout == 2:
        versions |= {f"immich's {Path(file).name}": commit[:12] for file, commit in IMMICH.items()}
    return versions


@torch.no_grad()
def record(made: bundle.Bundle) -> dict:
    model = Golden(made)
    files, texts = records.probes()
    return {
        "format": 1,
        "made_by": made_by(made),
        "images": [records.image_record(model, file) for file in files] if made.images else None,
        "texts": [records.text_record(model, text) for text in texts] if made.texts else None,
        "activation": made.activation,
        "scale": made.scale,
        "bias": made.bias,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=REPOSITORY / "tests/golden/records", help="folder to write")
    parser.add_argument("names", nargs="*", metavar="NAME", help="bundles; all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.records.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        pieces = tokenizers_small.train_pieces(scratch / "pieces")
        sources = bundle.Sources(scratch / "bundles", REPOSITORY / "tests/golden/clip-tokenizer", pieces, scratch)
        for make in BUNDLES:
            made = make(sources)
            if not options.names or made.name in options.names:
                (options.records / f"{made.name}.json").write_text(json.dumps(record(made)) + "\n")


if __name__ == "__main__":
    main()
