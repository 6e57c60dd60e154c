"""Bundles of an image tower alone (layout 6): one graph of a family that has no text tower.

A function for each bundle writes its files and gives the `Bundle` with its reference, for each kind of row.
"""

from collections.abc import Callable
from pathlib import Path

import torch

import models
import reference
from bundle import HALF, IMAGENET, OPENAI, Bundle, Sources
from bundles_transformers import write_config
from tokenizers_small import write_json

FACTOR = 0.00392156862745098


def processor(folder: Path, name: str, values: dict, **more) -> None:
    """preprocessor_config.json, as far as all families state it alike."""
    config = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": values["mean"],
        "image_processor_type": name,
        "image_std": values["std"],
        "rescale_factor": FACTOR,
    }
    write_json(folder / "preprocessor_config.json", dict(sorted((config | more).items())))


def kinds(model, leading: int | None, names: str) -> dict[str, Callable]:
    """Each kind of row, out of what the model gives; `leading` tokens come before those of patches."""
    every = {
        "cls": lambda output: output.last_hidden_state[:, 0],
        "mean": lambda output: output.last_hidden_state[:, leading:].mean(1),
        "pooled": lambda output: output.pooler_output,
        "patches": lambda output: output.last_hidden_state[:, leading:],
    }
    encode = lambda take: lambda values: take(model(pixel_values=values))
    return {name: encode(every[name]) for name in names.split()}


def export(model, folder: Path, graph: str, side: tuple[int, int], outputs: list[str], is_single: bool) -> None:
    pixels = torch.randn(1 if is_single else 2, 3, *side, generator=torch.Generator().manual_seed(0))
    dynamic = {} if is_single else {name: {0: "batch_size"} for name in ["pixel_values", *outputs]}
    # The exporter puts back the mode that it finds, and in training DINOv3 draws its positions.
    tower = models.VisionTower(model, outputs).eval()
    models.export(tower, {"pixel_values": pixels}, outputs, folder / graph, dynamic)


def vision(
    folder: Path,
    model,
    images,
    kinds: dict[str, Callable],
    usual: str,
    note: str,
    outputs: list[str],
    side: tuple[int, int],
    graph: str,
    is_single: bool = False,
) -> Bundle:
    write_config(folder, model)
    export(model, folder, graph, side, outputs, is_single)
    return Bundle(
        name=folder.name,
        layout=6,
        note=note,
        images=images,
        model=model,
        encode_images=kinds[usual],
        image_graph=graph,
        kinds=kinds,
        activation="sigmoid" if "siglip" in folder.name else "softmax",
    )


def dinov2(sources: Sources) -> Bundle:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    folder = sources.folder("vision-dinov2")
    crop = {"crop_size": {"height": 14, "width": 21}, "do_center_crop": True, "do_convert_rgb": True}
    processor(folder, "BitImageProcessor", IMAGENET, resample=3, size={"shortest_edge": 16}, **crop)
    model = models.dinov2(14, 7, seed=31)
    note = "class token and 2 x 3 patches of a table of 2 x 2; shortest_edge 16 and crop 14 x 21; last_hidden_state alone"
    return vision(
        folder,
        model,
        reference.TransformersImages(folder, BitImageProcessorPil),
        kinds(model, 1, "cls mean pooled patches"),
        "cls",
        note,
        ["last_hidden_state"],
        (14, 21),
        "onnx/model.onnx",
    )


def dinov2_with_registers(sources: Sources) -> Bundle:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    folder = sources.folder("vision-dinov2-registers")
    crop = {"crop_size": {"height": 16, "width": 16}, "do_center_crop": True, "do_convert_rgb": True}
    processor(folder, "BitImageProcessor", IMAGENET, resample=3, size={"shortest_edge": 18}, **crop)
    model = models.dinov2_with_registers(16, 8, registers=4, seed=32)
    note = "class token, 4 registers, 2 x 2 patches; last_hidden_state and pooler_output; a graph of one image at a time"
    return vision(
        folder,
        model,
        reference.TransformersImages(folder, BitImageProcessorPil),
        kinds(model, 5, "cls mean pooled patches"),
        "cls",
        note,
        ["last_hidden_state", "pooler_output"],
        (16, 16),
        "onnx/model.onnx",
        is_single=True,
    )


def dinov3(sources: Sources) -> Bundle:
    folder = sources.folder("vision-dinov3")
    # Published so, with null for what the class decides.
    nulls = {name: None for name in ("crop_size", "do_center_crop", "do_convert_rgb", "device", "return_tensors")}
    more = nulls | {"data_format": "channels_first", "default_to_square": True}
    processor(
        folder, "DINOv3ViTImageProcessorFast", IMAGENET, resample=2, size={"height": 12, "width": 16}, **more
    )
    model = models.dinov3(4, registers=4, seed=33)
    note = "class token, 4 registers, 3 x 4 patches; resized as floats after the rescale"
    return vision(
        folder,
        model,
        reference.AutoImages(folder, "DINOv3ViTImageProcessor"),
        kinds(model, 5, "cls mean pooled patches"),
        "cls",
        note,
        ["last_hidden_state", "pooler_output"],
        (12, 16),
        "onnx/model.onnx",
    )


def vit(sources: Sources) -> Bundle:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = sources.folder("vision-vit")
    processor(folder, "ViTImageProcessor", HALF, resample=2, size={"height": 16, "width": 16})
    model = models.vit(16, 8, seed=34)
    note = "class token and 2 x 2 patches; a layer above the class token as pooler_output, which is not the usual row"
    return vision(
        folder,
        model,
        reference.TransformersImages(folder, ViTImageProcessorPil),
        kinds(model, 1, "cls mean pooled patches"),
        "cls",
        note,
        ["last_hidden_state", "pooler_output"],
        (16, 16),
        "model.onnx",
    )


def siglip(sources: Sources, name: str, note: str, names: str, usual: str, seed: int) -> Bundle:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    folder = sources.folder(name)
    processor(folder, "SiglipImageProcessor", HALF, resample=3, size={"height": 16, "width": 16})
    has_head = "pooled" in names
    model = models.siglip_vision(16, 8, has_head, seed)
    if not has_head:
        write_json(folder / "diptych.json", {"image": {"rows": usual}})
    return vision(
        folder,
        model,
        reference.TransformersImages(folder, SiglipImageProcessorPil),
        kinds(model, 0, names),
        usual,
        note,
        ["last_hidden_state", "pooler_output"][: 1 + has_head],
        (16, 16),
        "onnx/model.onnx",
    )


def siglip_with_head(sources: Sources) -> Bundle:
    note = "2 x 2 patches and no class token; a head that attends to all patches as pooler_output"
    return siglip(sources, "vision-siglip", note, "mean pooled patches", "pooled", 35)


def siglip_without_head(sources: Sources) -> Bundle:
    note = "vision_use_head is false: no pooler_output; diptych.json states the mean of all patches"
    return siglip(sources, "vision-siglip-headless", note, "mean patches", "mean", 36)


def clip(sources: Sources) -> Bundle:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = sources.folder("vision-clip")
    crop = {"crop_size": {"height": 16, "width": 16}, "do_center_crop": True, "do_convert_rgb": True}
    processor(folder, "CLIPImageProcessor", OPENAI, resample=3, size={"shortest_edge": 16}, **crop)
    model = models.clip_vision(16, 8, seed=37)
    note = "class token and 2 x 2 patches before the last norm; the class token behind it as pooler_output"
    return vision(
        folder,
        model,
        reference.TransformersImages(folder, CLIPImageProcessorPil),
        kinds(model, 1, "cls mean pooled patches"),
        "pooled",
        note,
        ["last_hidden_state", "pooler_output"],
        (16, 16),
        "onnx/model.onnx",
    )


ALL = [dinov2, dinov2_with_registers, dinov3, vit, siglip_with_head, siglip_without_head, clip]
