"""Makes a bundle for diptych of a PyTorch model of transformers or open_clip: both graphs, configs, tokenizer, scale.

    pip install -r onnx/golden/requirements.txt
    python onnx/export.py --library transformers openai/clip-vit-base-patch32 -o clip-vit-b32
    python onnx/export.py --library open_clip hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K -o laion-vit-b32
    python onnx/export.py --library open_clip ViT-B-32 --pretrained laion2b_s34b_b79k -o laion-vit-b32
    diptych classify --model clip-vit-b32 photo.jpg

A folder does in place of a name (for open_clip, local-dir:FOLDER). Of transformers, models with `get_image_features`
and `get_text_features` that take pictures of one size. `onnx/README.md` says how to prove that the bundle is right.
"""

import argparse
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch

import clip_tokenizer
from torch_models import OpenClipTower, context_length, embeddings, export

# The weights of a graph beyond this go into a file of their own: a file of the format holds less than 2 GiB.
LARGEST_GRAPH = 1 << 30

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

torch.backends.mha.set_fastpath_enabled(False)


class Features(torch.nn.Module):
    """get_image_features or get_text_features of a model of transformers, as a tensor."""

    def __init__(self, model, method: str, names: list[str]):
        super().__init__()
        self.model, self.method, self.names = model, method, names

    def forward(self, *inputs):
        return embeddings(getattr(self.model, self.method)(**dict(zip(self.names, inputs, strict=True))))


class Transformers:
    """A model of transformers, as diptych's layout with a graph for each tower."""

    graphs = ("onnx/vision_model.onnx", "onnx/text_model.onnx")
    config_files = ("config.json", "preprocessor_config.json", "processor_config.json")

    def __init__(self, name: str):
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

        self.name = name
        self.model = AutoModel.from_pretrained(name, dtype=torch.float32, attn_implementation="eager").eval()
        self.processor = AutoImageProcessor.from_pretrained(name, backend="pil")
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        config = AutoConfig.from_pretrained(name)
        self.is_sigmoid = config.model_type.startswith("siglip")
        self.context = context_length(config, self.tokenizer)

    def image(self):
        """The image tower with an input for it."""
        from PIL import Image

        values = self.processor([Image.new("RGB", (64, 64))] * 2, return_tensors="pt")["pixel_values"]
        inputs = {"pixel_values": values}
        return Features(self.model, "get_image_features", list(inputs)), inputs, "image_embeds", {}

    def text(self):
        """The text tower. SigLIP sees padding, so it takes full contexts alone; a mask hides it from CLIP."""
        length = self.context if self.is_sigmoid else min(9, self.context)
        ids = self.tokenizer(["a photo of a cat"] * 2, padding="max_length", truncation=True, max_length=length)
        inputs = {"input_ids": torch.tensor(ids["input_ids"])}
        if not self.is_sigmoid:
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        more = {} if self.is_sigmoid else {1: "sequence_length"}
        return Features(self.model, "get_text_features", list(inputs)), inputs, "text_embeds", more

    def write_files(self, folder: Path) -> None:
        copy_files(self.name, self.config_files + TOKENIZER_FILES, folder)
        save_tokenizer(self.tokenizer, folder)


class OpenClip:
    """A model of open_clip, as diptych's flat layout."""

    graphs = ("visual.onnx", "text.onnx")

    def __init__(self, name: str, pretrained: str | None):
        import open_clip

        self.name = name
        self.model, _ = open_clip.create_model_from_pretrained(name, pretrained=pretrained)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.context = self.tokenizer.context_length
        self.is_sigmoid = getattr(self.model, "logit_bias", None) is not None

    def image(self):
        size = self.model.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        tower = OpenClipTower(self.model.encode_image, self.model, False)
        return tower, {"image": torch.zeros(2, 3, height, width)}, "image_features", {}

    def text(self):
        """Always of the full context: no mask hides padding."""
        tower = OpenClipTower(self.model.encode_text, self.model, False)
        return tower, {"text": self.tokenizer(["a photo of a cat"] * 2)}, "text_features", {}

    def write_files(self, folder: Path) -> None:
        write_json(folder / "open_clip_config.json", self.config())
        wrapped = getattr(self.tokenizer, "tokenizer", None)
        if wrapped is None:
            self.write_own_tokenizer(folder)
        else:
            copy_files(wrapped.name_or_path, TOKENIZER_FILES, folder)
            save_tokenizer(wrapped, folder)

    def config(self) -> dict:
        """open_clip_config.json: that of the model, or what the library knows of its architecture."""
        import open_clip
        from open_clip.model import get_model_preprocess_cfg

        schema, _, place = self.name.rpartition(":")
        if schema == "local-dir":
            config = json.loads((Path(place) / "open_clip_config.json").read_text())
        elif schema == "hf-hub":
            config = open_clip.factory._get_hf_config(place)
        else:
            config = {
                "model_cfg": open_clip.get_model_config(self.name),
                "preprocess_cfg": get_model_preprocess_cfg(self.model),
            }
        # Where the merges lie on this machine; tokenizer.json has them.
        config["model_cfg"]["text_cfg"].get("tokenizer_kwargs", {}).pop("bpe_path", None)
        return config

    def write_own_tokenizer(self, folder: Path) -> None:
        """open_clip's SimpleTokenizer as CLIP's tokenizer.json with its merges."""
        special = len(self.tokenizer.all_special_ids)
        if special != 2:
            raise SystemExit(f"{self.name}: its tokenizer has {special} special tokens, expected start and end alone")
        start = self.tokenizer.sot_token_id
        vocabulary = {token: id for token, id in self.tokenizer.encoder.items() if id < start}
        merges = [list(merge) for merge in self.tokenizer.bpe_ranks]
        published = json.loads((clip_tokenizer.PUBLISHED / "tokenizer.json").read_text())
        whole = clip_tokenizer.with_vocabulary(published, vocabulary, merges)
        write_json(folder / "tokenizer.json", whole, indent=None)
        for name, config in clip_tokenizer.configs(clip_tokenizer.PUBLISHED, self.context, start).items():
            write_json(folder / name, config)


def copy_files(name: str, files: tuple[str, ...], folder: Path) -> None:
    """Copies of the files as they are published, as far as there are such."""
    from transformers.utils import cached_file

    for file in files:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if found:
            shutil.copyfile(found, folder / file)


def save_tokenizer(tokenizer, folder: Path) -> None:
    """tokenizer.json, where none is published. What the library adds to a published one may be of no model."""
    path = folder / "tokenizer.json"
    if path.is_file():
        return
    if not tokenizer.is_fast:
        raise SystemExit(f"{tokenizer.name_or_path}: its tokenizer has no form as tokenizer.json")
    tokenizer.backend_tokenizer.save(str(path))


def write_json(path: Path, value, indent: int | None = 1) -> None:
    separators = None if indent else (",", ":")
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n")


def write_tower(folder: Path, name: str, tower, inputs: dict, output: str, more: dict) -> None:
    """One graph, dynamic in its batch and in the axes of `more`."""
    path = folder / name
    dynamic = {input: {0: "batch_size"} | more for input in inputs} | {output: {0: "batch_size"}}
    # Exported elsewhere, since a large graph is first written with a file for each weight.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / path.name
        export(tower, inputs, [output], made, dynamic, largest=LARGEST_GRAPH)
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in Path(scratch).glob(f"{path.name}*"):
            file.rename(path.with_name(file.name))


def head(model) -> dict:
    """diptych.json: the scale and bias that were trained."""
    values = {"logit_scale": float(model.model.logit_scale.exp())}
    if model.is_sigmoid:
        values |= {"logit_bias": float(model.model.logit_bias), "activation": "sigmoid"}
    return values


@torch.no_grad()
def write_bundle(model, folder: Path) -> None:
    model.write_files(folder)
    write_json(folder / "diptych.json", head(model))
    for name, tower in zip(model.graphs, [model.image(), model.text()], strict=True):
        write_tower(folder, name, *tower)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder, as the library takes it")
    parser.add_argument("--library", choices=["transformers", "open_clip"], required=True)
    parser.add_argument("--pretrained", help="open_clip's tag of the weights, where the name is of an architecture")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the bundle, a new folder")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.output.exists():
        raise SystemExit(f"{options.output}: there is something already, expected a new folder")
    # What it traces is fixed on purpose: sides, contexts, the number of layers.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    if options.library == "transformers":
        model = Transformers(options.model)
    else:
        model = OpenClip(options.model, options.pretrained)
    output = options.output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch) / output.name
        folder.mkdir()
        write_bundle(model, folder)
        folder.rename(output)


if __name__ == "__main__":
    main()
