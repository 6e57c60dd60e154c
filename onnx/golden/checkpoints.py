"""Writes PyTorch checkpoints of golden bundles, as their libraries load them by name.

    golden-venv/bin/python onnx/golden/checkpoints.py FOLDER

`onnx/reference.py` makes the records in tests/golden/records/ of them, which the bundles of the same names must equal:
reference.py and the exports of the bundles have nothing in common but the weights. README.md beside this file has the
commands.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import torch

import bundle
import bundles_open_clip
import bundles_transformers
import bundles_vision
import families_transformers
import tokenizers_small

PUBLISHED = Path(__file__).resolve().parents[2] / "tests/golden/clip-tokenizer"


def copy_configs(source: Path, folder: Path) -> None:
    """All that is neither a graph nor diptych's own."""
    folder.mkdir(parents=True)
    for file in [*source.glob("*.json"), *source.glob("spiece.model")]:
        if file.name != "diptych.json":
            shutil.copy(file, folder)


def write_transformers(made: bundle.Bundle, source: Path, folder: Path) -> None:
    copy_configs(source, folder)
    made.model.save_pretrained(folder)


def write_open_clip(made: bundle.Bundle, source: Path, folder: Path) -> None:
    """The exported model's scale is where training begins; the one that diptych.json states takes its place."""
    copy_configs(source, folder)
    made.model.logit_scale.data.fill_(math.log(made.scale))
    if made.activation == "sigmoid":
        made.model.logit_bias.data.fill_(made.bias)
    torch.save(made.model.state_dict(), folder / "open_clip_pytorch_model.bin")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    if "hf_tokenizer_name" not in config["model_cfg"]["text_cfg"]:
        # open_clip's own tokenizer, on the cut-down merges.
        merges = folder / "merges.txt.gz"
        tokenizers_small.write_open_clip_merges(PUBLISHED, merges)
        config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": str(merges.resolve())}
    path.write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        pieces = tokenizers_small.train_pieces(scratch / "pieces")
        sources = bundle.Sources(scratch / "bundles", PUBLISHED, pieces, scratch)
        for make, write in [
            (bundles_transformers.transformers_clip, write_transformers),
            (bundles_transformers.siglip_stated, write_transformers),
            (families_transformers.chinese_clip, write_transformers),
            (bundles_vision.dinov2_with_registers, write_transformers),
            (bundles_vision.dinov3, write_transformers),
            (bundles_open_clip.open_clip, write_open_clip),
            (bundles_open_clip.open_clip_siglip, write_open_clip),
        ]:
            made = make(sources)
            write(made, sources.bundles / made.name, folder / made.name)


if __name__ == "__main__":
    main()
