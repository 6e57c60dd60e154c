"""Bundles of families that are published for transformers: SigLIP 2.

A function for each bundle writes its files and gives the `Bundle` with its reference.
"""

import json
from pathlib import Path

import torch

import models
import reference
import tokenizers_published as published
from bundle import Bundle, Sources, head
from bundles_transformers import embeddings, siglip_processor, write_config
from tokenizers_small import write_json


def without(path: Path, *keys: str) -> None:
    """A JSON file without keys, dotted, that published files leave to the class's default."""
    config = json.loads(path.read_text())
    for key in keys:
        *folders, last = key.split(".")
        inner = config
        for folder in folders:
            inner = inner[folder]
        del inner[last]
    write_json(path, config, indent=2)


def export_siglip_image(model, folder: Path, side: int) -> None:
    """The graph as published for SigLIP: last_hidden_state and pooler_output."""
    outputs = ["last_hidden_state", "pooler_output"]
    pooled = {name: {0: "batch_size"} for name in outputs}
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    models.export(
        models.SiglipTower(model.vision_model),
        {"pixel_values": pixels},
        outputs,
        folder / "onnx/vision_model.onnx",
        {"pixel_values": {0: "batch_size"}} | pooled,
    )


def export_siglip_text(model, folder: Path, context: int) -> None:
    """The same for texts: ids without a mask."""
    outputs = ["last_hidden_state", "pooler_output"]
    pooled = {name: {0: "batch_size"} for name in outputs}
    models.export(
        models.SiglipTower(model.text_model),
        {"input_ids": torch.ones(2, context, dtype=torch.int64)},
        outputs,
        folder / "onnx/text_model.onnx",
        {"input_ids": {0: "batch_size", 1: "sequence_length"}} | pooled,
    )


def siglip2_model(folder: Path, tokenizer_class: str, seed: int):
    """A SigLIP model with Gemma's tokenizer beside it, and a config that leaves out what is the class's default."""
    vocabulary = published.write_gemma(folder, tokenizer_class)
    model = models.siglip(32, vocabulary, 64, seed, 18.0, -6.0, 1)
    write_config(folder, model)
    without(folder / "config.json", "text_config.max_position_embeddings", "text_config.pad_token_id")
    return model


def siglip2_texts(folder: Path, tokenizer_class: str) -> reference.TransformersTexts:
    """The tokenizer that transformers takes for these files, cut and padded as its processor and pipeline do it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == tokenizer_class
    return reference.TransformersTexts(tokenizer, "max_length", 64)


def siglip2(sources: Sources) -> Bundle:
    """SigLIP 2 of a fixed size: SigLIP's config and processor, Gemma's tokenizer, 64 tokens that no file states."""
    folder = sources.folder("siglip2")
    model = siglip2_model(folder, "Siglip2Tokenizer", 51)
    images = siglip_processor(folder, 32)
    head(folder, 18.0, -6.0)
    export_siglip_image(model, folder, 32)
    export_siglip_text(model, folder, 64)
    return Bundle(
        name="siglip2",
        layout=5,
        note="SigLIP 2, fixed size: Siglip2Tokenizer lower-cases, which its tokenizer.json does not; 64 tokens by family",
        images=images,
        texts=siglip2_texts(folder, "Siglip2Tokenizer"),
        encode_images=lambda values: embeddings(model.get_image_features(pixel_values=values)),
        encode_texts=lambda ids, mask: embeddings(model.get_text_features(input_ids=ids)),
        image_graph="onnx/vision_model.onnx",
        text_graph="onnx/text_model.onnx",
        image_output="pooler_output",
        text_output="pooler_output",
        scale=18.0,
        bias=-6.0,
        activation="sigmoid",
    )


def siglip2_gemma(sources: Sources) -> Bundle:
    """The text tower with the class that was named before there was a Siglip2Tokenizer."""
    folder = sources.folder("siglip2-gemma")
    model = siglip2_model(folder, "GemmaTokenizer", 54)
    export_siglip_text(model, folder, 64)
    return Bundle(
        name="siglip2-gemma",
        layout=5,
        note="SigLIP 2, text tower alone: GemmaTokenizer keeps capitals, whatever do_lower_case says",
        texts=siglip2_texts(folder, "GemmaTokenizer"),
        encode_texts=lambda ids, mask: embeddings(model.get_text_features(input_ids=ids)),
        text_graph="onnx/text_model.onnx",
        text_output="pooler_output",
        activation="sigmoid",
    )


ALL = [siglip2, siglip2_gemma]
