"""The bundles of tests/golden/bundles/: what each is made of, and the reference that its numbers must equal.

Every function here writes one bundle and gives a `Bundle` that says how to compute its expected values in Python.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

import models
import reference
import tokenizers_small as vocabularies
from tokenizers_small import CLIP_END, CLIP_VOCABULARY, write_json

OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@dataclass
class Bundle:
    """One bundle with its reference."""

    name: str
    layout: int
    note: str
    images: object = None
    texts: object = None
    encode_images: Callable | None = None
    encode_texts: Callable | None = None
    image_graph: str | None = None
    text_graph: str | None = None
    image_output: str | None = None
    text_output: str | None = None
    scale: float | None = None
    bias: float | None = None
    activation: str = "softmax"
    min_cosine: float = 1 - 1e-6
    refused: list[int] = field(default_factory=list)


@dataclass
class Sources:
    """Where bundles are written and what they are made from."""

    bundles: Path
    published_clip: Path
    pieces: Path
    scratch: Path

    def folder(self, name: str) -> Path:
        folder = self.bundles / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def head(folder: Path, scale: float, bias: float | None = None, activation: str | None = None) -> None:
    """diptych.json with what no published file states."""
    values = {"logit_scale": scale, "logit_bias": bias, "activation": activation}
    write_json(folder / "diptych.json", {key: value for key, value in values.items() if value is not None})


def write_config(folder: Path, model) -> None:
    """config.json as transformers saves it."""
    model.config.save_pretrained(folder)


def image_processor(folder: Path, size, crop, **more) -> None:
    """preprocessor_config.json as published for CLIP."""
    config = {"crop_size": crop, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True}
    config |= {"image_mean": OPENAI["mean"], "image_processor_type": "CLIPImageProcessor", "image_std": OPENAI["std"]}
    config |= {"resample": 3, "rescale_factor": 0.00392156862745098, "size": size}
    write_json(folder / "preprocessor_config.json", {key: value for key, value in (config | more).items() if value is not None})


def clip_images(folder: Path) -> reference.TransformersImages:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return reference.TransformersImages(folder, CLIPImageProcessorPil)


def clip_texts(folder: Path) -> reference.TransformersTexts:
    from transformers import AutoTokenizer

    return reference.TransformersTexts(AutoTokenizer.from_pretrained(folder))


def embeddings(output) -> torch.Tensor:
    """get_image_features and get_text_features give a tensor or, since transformers 5, an output that holds it."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def clip_image_rows(model) -> Callable:
    return lambda values: embeddings(model.get_image_features(pixel_values=values))


def clip_text_rows(model) -> Callable:
    return lambda ids, mask: embeddings(model.get_text_features(input_ids=ids, attention_mask=mask))


def export_clip_image(model, folder: Path, side: int, dtype=torch.float32, external: str | None = None, hidden: bool = False) -> None:
    outputs = ["image_embeds", "last_hidden_state"][: 1 + hidden]
    module = models.ClipImage(model)
    module = module if hidden else First(module)
    dynamic = {"pixel_values": {0: "batch_size"}} | {name: {0: "batch_size"} for name in outputs}
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    models.export(module, {"pixel_values": pixels}, outputs, folder / "onnx/vision_model.onnx", dynamic, external)


def export_clip_text(model, folder: Path, with_mask: bool, hidden: bool = False) -> None:
    outputs = ["text_embeds", "last_hidden_state"][: 1 + hidden]
    module = models.ClipText(model)
    module = module if hidden else First(module)
    axes = {0: "batch_size", 1: "sequence_length"}
    ids = torch.full((2, 9), CLIP_END)
    inputs = {"input_ids": ids} | ({"attention_mask": torch.ones_like(ids)} if with_mask else {})
    dynamic = {name: axes for name in inputs} | {"text_embeds": {0: "batch_size"}, "last_hidden_state": axes}
    dynamic = {name: value for name, value in dynamic.items() if name in [*inputs, *outputs]}
    models.export(module, inputs, outputs, folder / "onnx/text_model.onnx", dynamic)


class First(torch.nn.Module):
    """The first output of a module alone."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)[0]


def transformers_clip(sources: Sources) -> Bundle:
    folder = sources.folder("transformers-clip")
    model = models.clip(32, 8, CLIP_VOCABULARY, CLIP_END, 77, seed=1, scale=40.0)
    write_config(folder, model)
    image_processor(folder, {"shortest_edge": 32}, {"height": 32, "width": 32})
    vocabularies.write_clip(sources.published_clip, folder, 77)
    head(folder, 40.0)
    export_clip_image(model, folder, 32)
    export_clip_text(model, folder, with_mask=False)
    return Bundle(
        "transformers-clip", 1, "two graphs, ids without a mask, end token found by its id, scale in diptych.json",
        clip_images(folder), clip_texts(folder), clip_image_rows(model), clip_text_rows(model),
        "onnx/vision_model.onnx", "onnx/text_model.onnx", "image_embeds", "text_embeds", scale=40.0, bias=0.0,
    )


def transformers_clip_legacy(sources: Sources) -> Bundle:
    folder = sources.folder("transformers-clip-legacy")
    model = models.clip(32, 8, CLIP_VOCABULARY, 2, 16, seed=2, scale=25.0)
    write_config(folder, model)
    image_processor(folder, 40, 32, image_processor_type=None, feature_extractor_type="CLIPFeatureExtractor", do_rescale=None, rescale_factor=None, do_convert_rgb=None)
    vocabularies.write_clip(sources.published_clip, folder, 16)
    export_clip_image(model, folder, 32, hidden=True)
    export_clip_text(model, folder, with_mask=True, hidden=True)
    return Bundle(
        "transformers-clip-legacy", 1, "old config: size 40 and crop_size 32 as numbers, eos_token_id 2 (pooling by argmax), mask, context 16, no scale, a second output",
        clip_images(folder), clip_texts(folder), clip_image_rows(model), clip_text_rows(model),
        "onnx/vision_model.onnx", "onnx/text_model.onnx", "image_embeds", "text_embeds",
    )


def transformers_images(sources: Sources, name: str, note: str, side: int, size, crop: int, seed: int, half: bool = False, external: str | None = None) -> Bundle:
    """A bundle of an image tower alone."""
    folder = sources.folder(name)
    model = models.clip(side, 8, 600, 599, 8, seed, 30.0, layers=1)
    write_config(folder, model)
    image_processor(folder, size, {"height": crop, "width": crop})
    rows = clip_image_rows(model)
    images = clip_images(folder)
    if half:
        # Compared with the whole-precision model of the same, rounded weights.
        model.half().float()
        exported = models.clip(side, 8, 600, 599, 8, seed, 30.0, layers=1).half()
    export_clip_image(exported if half else model, folder, side, torch.float16 if half else torch.float32, external)
    return Bundle(
        name, 1, note, images, encode_images=rows, image_graph="onnx/vision_model.onnx", image_output="image_embeds",
        min_cosine=1 - 1e-4 if half else 1 - 1e-6,
    )


def transformers_clip_half(sources: Sources) -> Bundle:
    note = "half-precision input, weights and output; shortest_edge 36 and crop 32"
    return transformers_images(sources, "transformers-clip-f16", note, 32, {"shortest_edge": 36}, 32, seed=3, half=True)


def transformers_clip_external(sources: Sources) -> Bundle:
    note = "weights in vision_model.onnx_data; shortest_edge 40 and crop 32"
    return transformers_images(sources, "transformers-clip-external", note, 32, {"shortest_edge": 40}, 32, seed=4, external="vision_model.onnx_data")


def transformers_clip_padded(sources: Sources) -> Bundle:
    note = "shortest_edge 25 and crop 32: smaller sides are padded with zeros, the odd one on top and left"
    return transformers_images(sources, "transformers-clip-padded", note, 32, {"shortest_edge": 25}, 32, seed=5)


def immich_folder(sources: Sources, name: str, model, model_cfg: dict, preprocess_cfg: dict) -> Path:
    """Configs and both graphs as immich publishes them: batch of one, ids of 32 bits, normalised inside."""
    folder = sources.folder(name)
    write_json(folder / "config.json", model_cfg)
    write_json(folder / "visual/preprocess_cfg.json", preprocess_cfg)
    side, context = model_cfg["vision_cfg"]["image_size"], model_cfg["text_cfg"]["context_length"]
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    ids = torch.ones(1, context, dtype=torch.int32)
    models.export(models.OpenClipTower(model.encode_image, model, True), {"image": pixels}, ["embedding"], folder / "visual/model.onnx", {})
    models.export(models.OpenClipTower(model.encode_text, model, True), {"text": ids}, ["embedding"], folder / "textual/model.onnx", {})
    return folder


def open_clip_rows(model) -> dict:
    return {"encode_images": model.encode_image, "encode_texts": lambda ids, mask: model.encode_text(ids)}


def vision_cfg(side: int, patch: int) -> dict:
    return {"image_size": side, "layers": models.LAYERS, "width": models.WIDTH, "head_width": models.WIDTH // 2, "mlp_ratio": 2.0, "patch_size": patch}


def text_cfg(context: int, vocabulary: int, **more) -> dict:
    return {"context_length": context, "vocab_size": vocabulary, "width": models.TEXT_WIDTH, "heads": 2, "layers": models.LAYERS, "mlp_ratio": 2.0} | more


def preprocess_cfg(side, interpolation: str, mode: str | None, norm: dict, fill: int = 0) -> dict:
    config = {"size": side, "mode": "RGB", **norm, "interpolation": interpolation, "resize_mode": mode, "fill_color": fill}
    return {key: value for key, value in config.items() if value is not None}


def immich(sources: Sources) -> Bundle:
    model_cfg = {"embed_dim": models.ROW_WIDTH, "vision_cfg": vision_cfg(42, 7), "text_cfg": text_cfg(24, CLIP_VOCABULARY)}
    preprocess = preprocess_cfg([42, 42], "bicubic", "shortest", OPENAI)
    model = models.open_clip(model_cfg, seed=6)
    folder = immich_folder(sources, "immich", model, model_cfg, preprocess)
    vocabularies.write_clip(sources.published_clip, folder / "textual", 24)
    return Bundle(
        "immich", 2, "side 42, where immich's order of float operations changes sizes; CLIP's vocabulary, context 24, no scale",
        reference.ImmichImages(preprocess), reference.ImmichTexts(folder / "textual", "<|endoftext|>", 24, False),
        **open_clip_rows(model), image_graph="visual/model.onnx", text_graph="textual/model.onnx", image_output="embedding", text_output="embedding",
    )


def immich_canonicalize(sources: Sources) -> Bundle:
    text = text_cfg(16, vocabularies.vocabulary_size(sources.pieces), hf_tokenizer_name="siglip", tokenizer_kwargs={"clean": "canonicalize"})
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    model_cfg = {"embed_dim": models.ROW_WIDTH, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision_cfg(32, 8), "text_cfg": text}
    preprocess = preprocess_cfg(32, "bilinear", "squash", IMAGENET)
    model = models.open_clip(model_cfg, seed=7)
    folder = immich_folder(sources, "immich-canonicalize", model, model_cfg, preprocess)
    vocabularies.write_siglip(sources.pieces, folder / "textual", 16, False, "T5Tokenizer", False)
    head(folder, 20.0, -3.0, "sigmoid")
    return Bundle(
        "immich-canonicalize", 2, "squash, bilinear, ImageNet mean and std; SentencePiece, clean = canonicalize, last token pooled, no causal mask",
        reference.ImmichImages(preprocess), reference.ImmichTexts(folder / "textual", "</s>", 16, True),
        **open_clip_rows(model), image_graph="visual/model.onnx", text_graph="textual/model.onnx", image_output="embedding", text_output="embedding",
        scale=20.0, bias=-3.0, activation="sigmoid",
    )


def open_clip_folder(sources: Sources, name: str, model, model_cfg: dict, preprocess: dict, text_name: str | None) -> Path:
    """open_clip_config.json and the flat graphs, dynamic in batch and sequence, not normalised."""
    folder = sources.folder(name)
    write_json(folder / "open_clip_config.json", {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
    side, context = model_cfg["vision_cfg"]["image_size"], model_cfg["text_cfg"]["context_length"]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    dynamic = {name: {0: "batch_size"} for name in ("image", "image_features", "text_features")}
    models.export(
        models.OpenClipTower(model.encode_image, model, False), {"image": pixels}, ["image_features"], folder / "visual.onnx",
        {key: dynamic[key] for key in ("image", "image_features")},
    )
    if text_name:
        ids = torch.ones(2, context, dtype=torch.int64)
        models.export(
            models.OpenClipTower(model.encode_text, model, False), {"text": ids}, ["text_features"], folder / text_name,
            {"text": {0: "batch_size"} | ({} if model_cfg.get("custom_text") else {1: "sequence_length"}), "text_features": {0: "batch_size"}},
        )
    return folder


def simple_tokenizer(sources: Sources, context: int) -> reference.OpenClipTexts:
    from open_clip.tokenizer import SimpleTokenizer

    path = sources.scratch / "merges.txt.gz"
    vocabularies.write_open_clip_merges(sources.published_clip, path)
    return reference.OpenClipTexts(SimpleTokenizer(bpe_path=str(path), context_length=context))


def open_clip(sources: Sources) -> Bundle:
    model_cfg = {"embed_dim": models.ROW_WIDTH, "vision_cfg": vision_cfg(32, 8), "text_cfg": text_cfg(77, CLIP_VOCABULARY)}
    preprocess = preprocess_cfg(32, "bicubic", "shortest", OPENAI)
    model = models.open_clip(model_cfg, seed=8)
    folder = open_clip_folder(sources, "open-clip", model, model_cfg, preprocess, "text.onnx")
    vocabularies.write_clip(sources.published_clip, folder, 77)
    head(folder, 50.0)
    return Bundle(
        "open-clip", 3, "text.onnx, open_clip's own tokenizer, shortest, bicubic, scale in diptych.json",
        reference.OpenClipImages(preprocess), simple_tokenizer(sources, 77), **open_clip_rows(model),
        image_graph="visual.onnx", text_graph="text.onnx", image_output="image_features", text_output="text_features", scale=50.0, bias=0.0,
    )


def open_clip_squash(sources: Sources) -> Bundle:
    text = text_cfg(20, CLIP_VOCABULARY, no_causal_mask=True)
    model_cfg = {"embed_dim": models.ROW_WIDTH, "custom_text": True, "vision_cfg": vision_cfg(32, 8), "text_cfg": text}
    preprocess = preprocess_cfg([32, 32], "bilinear", "squash", IMAGENET)
    model = models.open_clip(model_cfg, seed=9)
    folder = open_clip_folder(sources, "open-clip-squash", model, model_cfg, preprocess, "textual.onnx")
    vocabularies.write_clip(sources.published_clip, folder, 20)
    return Bundle(
        "open-clip-squash", 3, "textual.onnx, no causal mask, so padding with 0 is seen; squash, bilinear, ImageNet mean and std; no scale",
        reference.OpenClipImages(preprocess), simple_tokenizer(sources, 20), **open_clip_rows(model),
        image_graph="visual.onnx", text_graph="textual.onnx", image_output="image_features", text_output="text_features",
    )


def open_clip_longest(sources: Sources) -> Bundle:
    model_cfg = {"embed_dim": models.ROW_WIDTH, "vision_cfg": vision_cfg(40, 8), "text_cfg": text_cfg(8, 600)}
    preprocess = preprocess_cfg(40, "bicubic", "longest", {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}, fill=114)
    model = models.open_clip(model_cfg, seed=37)
    open_clip_folder(sources, "open-clip-longest", model, model_cfg, preprocess, None)
    return Bundle(
        "open-clip-longest", 3, "image tower alone; longest, bicubic, padded with 114, mean 0 and std 1, side 40",
        reference.OpenClipImages(preprocess), encode_images=model.encode_image, image_graph="visual.onnx", image_output="image_features",
    )


def open_clip_siglip(sources: Sources) -> Bundle:
    from open_clip.tokenizer import HFTokenizer

    text = text_cfg(16, vocabularies.vocabulary_size(sources.pieces), hf_tokenizer_name="siglip", tokenizer_kwargs={"clean": "canonicalize"})
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    model_cfg = {"embed_dim": models.ROW_WIDTH, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision_cfg(32, 8), "text_cfg": text}
    preprocess = preprocess_cfg([32, 32], "bicubic", "squash", HALF)
    model = models.open_clip(model_cfg, seed=11)
    folder = open_clip_folder(sources, "open-clip-siglip", model, model_cfg, preprocess, "text.onnx")
    vocabularies.write_siglip(sources.pieces, folder, 16, False, "T5Tokenizer", False)
    head(folder, 15.0, -2.5)
    tokenizer = HFTokenizer(str(folder), context_length=16, clean="canonicalize")
    return Bundle(
        "open-clip-siglip", 3, "a Hugging Face tokenizer with clean = canonicalize; init_logit_bias makes it sigmoid; squash, bicubic, 0.5",
        reference.OpenClipImages(preprocess), reference.OpenClipTexts(tokenizer), **open_clip_rows(model),
        image_graph="visual.onnx", text_graph="text.onnx", image_output="image_features", text_output="text_features",
        scale=15.0, bias=-2.5, activation="sigmoid",
    )


def combined(sources: Sources, name: str, graph: str, note: str, side: int, crop: int, end: int, context: int, seed: int, scale: float, layers: int) -> Bundle:
    """One graph for both towers; its scale stands in no file."""
    folder = sources.folder(name)
    model = models.clip(crop, 8, CLIP_VOCABULARY, end, context, seed, scale, layers)
    write_config(folder, model)
    image_processor(folder, {"shortest_edge": side}, {"height": crop, "width": crop})
    vocabularies.write_clip(sources.published_clip, folder, context)
    ids = torch.full((2, 9), CLIP_END)
    pixels = torch.randn(3, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    texts, images, tokens = {0: "text_batch_size"}, {0: "image_batch_size"}, {0: "text_batch_size", 1: "sequence_length"}
    dynamic = {"input_ids": tokens, "attention_mask": tokens, "pixel_values": images, "text_embeds": texts, "image_embeds": images}
    dynamic |= {"logits_per_image": {0: "image_batch_size", 1: "text_batch_size"}, "logits_per_text": {0: "text_batch_size", 1: "image_batch_size"}}
    models.export(
        models.ClipBoth(model), {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)},
        ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"], folder / graph, dynamic,
    )
    return Bundle(
        name, 4, note, clip_images(folder), clip_texts(folder), clip_image_rows(model), clip_text_rows(model),
        graph, graph, "image_embeds", "text_embeds", scale=scale, bias=0.0,
    )


def combined_in_folder(sources: Sources) -> Bundle:
    note = "one graph in onnx/; scale 33 in the graph alone"
    return combined(sources, "combined", "onnx/model.onnx", note, 32, 32, CLIP_END, 77, 12, 33.0, models.LAYERS)


def combined_at_root(sources: Sources) -> Bundle:
    note = "one graph at the root; scale 100 in the graph alone; pooling by argmax, shortest_edge 44 and crop 40, context 12"
    return combined(sources, "combined-root", "model.onnx", note, 44, 40, 2, 12, 13, 100.0, 1)


def siglip_processor(folder: Path, side: int):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    config = {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": HALF["mean"], "image_processor_type": "SiglipImageProcessor"}
    config |= {"image_std": HALF["std"], "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 0.00392156862745098}
    write_json(folder / "preprocessor_config.json", config | {"size": {"height": side, "width": side}})
    return reference.TransformersImages(folder, SiglipImageProcessorPil)


def siglip(sources: Sources, name: str, note: str, seed: int, layers: int, scale: float | None, bias: float | None) -> Bundle:
    """SigLIP as transformers publishes it, padded to its full context of 16."""
    folder = sources.folder(name)
    model = models.siglip(32, vocabularies.vocabulary_size(sources.pieces), 16, seed, scale or 1.0, bias or 0.0, layers)
    write_config(folder, model)
    images = siglip_processor(folder, 32)
    vocabularies.write_siglip(sources.pieces, folder, 16, True, "SiglipTokenizer", True)
    if scale is not None:
        head(folder, scale, bias, "sigmoid")
    axes = {0: "batch_size", 1: "sequence_length"}
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    outputs, pooled = ["last_hidden_state", "pooler_output"], {"last_hidden_state": {0: "batch_size"}, "pooler_output": {0: "batch_size"}}
    models.export(models.SiglipTower(model.vision_model), {"pixel_values": pixels}, outputs, folder / "onnx/vision_model.onnx", {"pixel_values": {0: "batch_size"}} | pooled)
    models.export(models.SiglipTower(model.text_model), {"input_ids": torch.ones(2, 16, dtype=torch.int64)}, outputs, folder / "onnx/text_model.onnx", {"input_ids": axes} | pooled)
    return Bundle(
        name, 5, note, images, reference.SiglipTexts(folder, 16), lambda values: embeddings(model.get_image_features(pixel_values=values)),
        lambda ids, mask: embeddings(model.get_text_features(input_ids=ids)),
        "onnx/vision_model.onnx", "onnx/text_model.onnx", "pooler_output", "pooler_output", scale=scale, bias=bias, activation="sigmoid",
    )


def siglip_stated(sources: Sources) -> Bundle:
    return siglip(sources, "siglip", "scale and bias in diptych.json", 14, models.LAYERS, 12.0, -4.0)


def siglip_bare(sources: Sources) -> Bundle:
    return siglip(sources, "siglip-bare", "no file states scale and bias", 15, 1, None, None)


ALL = [
    transformers_clip, transformers_clip_legacy, transformers_clip_half, transformers_clip_external, transformers_clip_padded,
    immich, immich_canonicalize, open_clip, open_clip_squash, open_clip_longest, open_clip_siglip,
    combined_in_folder, combined_at_root, siglip_stated, siglip_bare,
]
