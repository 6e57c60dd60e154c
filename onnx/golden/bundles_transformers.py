"""Bundles as published for transformers: two graphs (layout 1), one graph (layout 4), SigLIP (layout 5).

A function for each bundle writes its files and gives the `Bundle` with its reference.
"""

from collections.abc import Callable
from pathlib import Path

import torch

import models
import reference
import tokenizers_small as vocabularies
from bundle import HALF, OPENAI, Bundle, Sources, head
from tokenizers_small import CLIP_END, CLIP_VOCABULARY, write_json
from torch_models import embeddings


def write_config(folder: Path, model) -> None:
    """config.json as transformers saves it."""
    model.config.save_pretrained(folder)


def image_processor(folder: Path, size, crop, **more) -> None:
    """preprocessor_config.json as published for CLIP."""
    config = {
        "crop_size": crop,
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
    }
    config |= {"image_mean": OPENAI["mean"], "image_processor_type": "CLIPImageProcessor", "image_std": OPENAI["std"]}
    config |= {"resample": 3, "rescale_factor": 0.00392156862745098, "size": size}
    write_json(
        folder / "preprocessor_config.json", {key: value for key, value in (config | more).items() if value is not None}
    )


def clip_images(folder: Path) -> reference.TransformersImages:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return reference.TransformersImages(folder, CLIPImageProcessorPil)


def clip_texts(folder: Path) -> reference.TransformersTexts:
    from transformers import AutoTokenizer

    return reference.TransformersTexts(AutoTokenizer.from_pretrained(folder))


def clip_image_rows(model) -> Callable:
    return lambda values: embeddings(model.get_image_features(pixel_values=values))


def clip_text_rows(model) -> Callable:
    return lambda ids, mask: embeddings(model.get_text_features(input_ids=ids, attention_mask=mask))


def export_clip_image(
    model, folder: Path, side: int, dtype=torch.float32, external: str | None = None, hidden: bool = False
) -> None:
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
        name="transformers-clip",
        layout=1,
        note="two graphs, ids without a mask, end token found by its id, scale in diptych.json",
        images=clip_images(folder),
        texts=clip_texts(folder),
        model=model,
        encode_images=clip_image_rows(model),
        encode_texts=clip_text_rows(model),
        image_graph="onnx/vision_model.onnx",
        text_graph="onnx/text_model.onnx",
        image_output="image_embeds",
        text_output="text_embeds",
        scale=40.0,
        bias=0.0,
    )


def transformers_clip_legacy(sources: Sources) -> Bundle:
    folder = sources.folder("transformers-clip-legacy")
    model = models.clip(32, 8, CLIP_VOCABULARY, 2, 16, seed=2, scale=25.0)
    write_config(folder, model)
    image_processor(
        folder,
        40,
        32,
        image_processor_type=None,
        feature_extractor_type="CLIPFeatureExtractor",
        do_rescale=None,
        rescale_factor=None,
        do_convert_rgb=None,
    )
    vocabularies.write_clip(sources.published_clip, folder, 16)
    export_clip_image(model, folder, 32, hidden=True)
    export_clip_text(model, folder, with_mask=True, hidden=True)
    return Bundle(
        name="transformers-clip-legacy",
        layout=1,
        note="old config: size 40 and crop_size 32 as numbers, eos_token_id 2 (argmax), context 16, no scale",
        images=clip_images(folder),
        texts=clip_texts(folder),
        encode_images=clip_image_rows(model),
        encode_texts=clip_text_rows(model),
        image_graph="onnx/vision_model.onnx",
        text_graph="onnx/text_model.onnx",
        image_output="image_embeds",
        text_output="text_embeds",
    )


def transformers_images(
    sources: Sources,
    name: str,
    note: str,
    side: int,
    size,
    crop: int,
    seed: int,
    half: bool = False,
    external: str | None = None,
) -> Bundle:
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
        name=name,
        layout=1,
        note=note,
        images=images,
        encode_images=rows,
        image_graph="onnx/vision_model.onnx",
        image_output="image_embeds",
        min_cosine=1 - 1e-5 if half else 1 - 1e-6,
    )


def transformers_clip_half(sources: Sources) -> Bundle:
    note = "half-precision input, weights and output; shortest_edge 36 and crop 32"
    return transformers_images(sources, "transformers-clip-f16", note, 32, {"shortest_edge": 36}, 32, seed=3, half=True)


def transformers_clip_external(sources: Sources) -> Bundle:
    note = "weights in vision_model.onnx_data; shortest_edge 40 and crop 32"
    return transformers_images(
        sources,
        "transformers-clip-external",
        note,
        32,
        {"shortest_edge": 40},
        32,
        seed=4,
        external="vision_model.onnx_data",
    )


def transformers_clip_padded(sources: Sources) -> Bundle:
    note = "shortest_edge 25 and crop 32: smaller sides are padded with zeros, the odd one on top and left"
    return transformers_images(sources, "transformers-clip-padded", note, 32, {"shortest_edge": 25}, 32, seed=5)


def combined(
    sources: Sources,
    name: str,
    graph: str,
    note: str,
    side: int,
    crop: int,
    end: int,
    context: int,
    seed: int,
    scale: float,
    layers: int,
) -> Bundle:
    """One graph for both towers; its scale stands in no file."""
    folder = sources.folder(name)
    model = models.clip(crop, 8, CLIP_VOCABULARY, end, context, seed, scale, layers)
    write_config(folder, model)
    image_processor(folder, {"shortest_edge": side}, {"height": crop, "width": crop})
    vocabularies.write_clip(sources.published_clip, folder, context)
    ids = torch.full((2, 9), CLIP_END)
    pixels = torch.randn(3, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    texts, images, tokens = (
        {0: "text_batch_size"},
        {0: "image_batch_size"},
        {0: "text_batch_size", 1: "sequence_length"},
    )
    dynamic = {
        "input_ids": tokens,
        "attention_mask": tokens,
        # Published graphs leave the sides open too; then only the configs state them.
        "pixel_values": images | ({2: "height", 3: "width"} if graph == "model.onnx" else {}),
        "text_embeds": texts,
        "image_embeds": images,
    }
    dynamic |= {
        "logits_per_image": {0: "image_batch_size", 1: "text_batch_size"},
        "logits_per_text": {0: "text_batch_size", 1: "image_batch_size"},
    }
    models.export(
        models.ClipBoth(model),
        {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)},
        ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
        folder / graph,
        dynamic,
    )
    return Bundle(
        name=name,
        layout=4,
        note=note,
        images=clip_images(folder),
        texts=clip_texts(folder),
        encode_images=clip_image_rows(model),
        encode_texts=clip_text_rows(model),
        image_graph=graph,
        text_graph=graph,
        image_output="image_embeds",
        text_output="text_embeds",
        scale=scale,
        bias=0.0,
    )


def combined_in_folder(sources: Sources) -> Bundle:
    note = "one graph in onnx/; scale 33 in the graph alone"
    return combined(sources, "combined", "onnx/model.onnx", note, 32, 32, CLIP_END, 77, 12, 33.0, models.LAYERS)


def combined_at_root(sources: Sources) -> Bundle:
    note = "one graph at the root; scale 100 in the graph alone; argmax, shortest_edge 44, crop 40, context 12"
    return combined(sources, "combined-root", "model.onnx", note, 44, 40, 2, 12, 13, 100.0, 1)


def siglip_processor(folder: Path, side: int):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    config = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": HALF["mean"],
        "image_processor_type": "SiglipImageProcessor",
    }
    config |= {
        "image_std": HALF["std"],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
    }
    write_json(folder / "preprocessor_config.json", config | {"size": {"height": side, "width": side}})
    return reference.TransformersImages(folder, SiglipImageProcessorPil)


def siglip(
    sources: Sources, name: str, note: str, seed: int, layers: int, scale: float | None, bias: float | None
) -> Bundle:
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
    outputs, pooled = (
        ["last_hidden_state", "pooler_output"],
        {"last_hidden_state": {0: "batch_size"}, "pooler_output": {0: "batch_size"}},
    )
    models.export(
        models.SiglipTower(model.vision_model),
        {"pixel_values": pixels},
        outputs,
        folder / "onnx/vision_model.onnx",
        {"pixel_values": {0: "batch_size"}} | pooled,
    )
    models.export(
        models.SiglipTower(model.text_model),
        {"input_ids": torch.ones(2, 16, dtype=torch.int64)},
        outputs,
        folder / "onnx/text_model.onnx",
        {"input_ids": axes} | pooled,
    )
    return Bundle(
        name=name,
        layout=5,
        note=note,
        images=images,
        texts=reference.SiglipTexts(folder, 16),
        model=model,
        encode_images=lambda values: embeddings(model.get_image_features(pixel_values=values)),
        encode_texts=lambda ids, mask: embeddings(model.get_text_features(input_ids=ids)),
        image_graph="onnx/vision_model.onnx",
        text_graph="onnx/text_model.onnx",
        image_output="pooler_output",
        text_output="pooler_output",
        scale=scale,
        bias=bias,
        activation="sigmoid",
    )


def siglip_stated(sources: Sources) -> Bundle:
    return siglip(sources, "siglip", "scale and bias in diptych.json", 14, models.LAYERS, 12.0, -4.0)


def siglip_bare(sources: Sources) -> Bundle:
    return siglip(sources, "siglip-bare", "no file states scale and bias", 15, 1, None, None)


ALL = [
    transformers_clip,
    transformers_clip_legacy,
    transformers_clip_half,
    transformers_clip_external,
    transformers_clip_padded,
    combined_in_folder,
    combined_at_root,
    siglip_stated,
    siglip_bare,
]
