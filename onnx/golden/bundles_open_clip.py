"""Bundles of open_clip's models: as immich publishes them (layout 2), and flat (layout 3).

A function for each bundle writes its files and gives the `Bundle` with its reference.
"""

from pathlib import Path

import torch

import models
import reference
import tokenizers_small as vocabularies
from bundle import HALF, IMAGENET, OPENAI, Bundle, Sources, head
from tokenizers_small import CLIP_VOCABULARY, write_json


def immich_folder(sources: Sources, name: str, model, model_cfg: dict, preprocess_cfg: dict) -> Path:
    """Configs and both graphs as immich publishes them: batch of one, ids of 32 bits, normalised inside."""
    folder = sources.folder(name)
    write_json(folder / "config.json", model_cfg)
    write_json(folder / "visual/preprocess_cfg.json", preprocess_cfg)
    side, context = model_cfg["vision_cfg"]["image_size"], model_cfg["text_cfg"]["context_length"]
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    ids = torch.ones(1, context, dtype=torch.int32)
    models.export(
        models.OpenClipTower(model.encode_image, model, True),
        {"image": pixels},
        ["embedding"],
        folder / "visual/model.onnx",
        {},
    )
    models.export(
        models.OpenClipTower(model.encode_text, model, True),
        {"text": ids},
        ["embedding"],
        folder / "textual/model.onnx",
        {},
    )
    return folder


def open_clip_rows(model) -> dict:
    return {"encode_images": model.encode_image, "encode_texts": lambda ids, mask: model.encode_text(ids)}


def vision_cfg(side: int, patch: int) -> dict:
    return {
        "image_size": side,
        "layers": models.LAYERS,
        "width": models.WIDTH,
        "head_width": models.WIDTH // 2,
        "mlp_ratio": 2.0,
        "patch_size": patch,
    }


def text_cfg(context: int, vocabulary: int, **more) -> dict:
    return {
        "context_length": context,
        "vocab_size": vocabulary,
        "width": models.TEXT_WIDTH,
        "heads": 2,
        "layers": models.LAYERS,
        "mlp_ratio": 2.0,
    } | more


def preprocess_cfg(side, interpolation: str, mode: str | None, norm: dict, fill: int = 0) -> dict:
    config = {
        "size": side,
        "mode": "RGB",
        **norm,
        "interpolation": interpolation,
        "resize_mode": mode,
        "fill_color": fill,
    }
    return {key: value for key, value in config.items() if value is not None}


def immich(sources: Sources) -> Bundle:
    model_cfg = {
        "embed_dim": models.ROW_WIDTH,
        "vision_cfg": vision_cfg(42, 7),
        "text_cfg": text_cfg(24, CLIP_VOCABULARY),
    }
    preprocess = preprocess_cfg([42, 42], "bicubic", "shortest", OPENAI)
    model = models.open_clip(model_cfg, seed=6)
    folder = immich_folder(sources, "immich", model, model_cfg, preprocess)
    vocabularies.write_clip(sources.published_clip, folder / "textual", 24)
    return Bundle(
        name="immich",
        layout=2,
        note="side 42, where immich's order of float operations changes sizes; CLIP's vocabulary, context 24, no scale",
        images=reference.ImmichImages(preprocess),
        texts=reference.ImmichTexts(folder / "textual", "<|endoftext|>", 24, False),
        **open_clip_rows(model),
        image_graph="visual/model.onnx",
        text_graph="textual/model.onnx",
        image_output="embedding",
        text_output="embedding",
    )


def immich_canonicalize(sources: Sources) -> Bundle:
    text = text_cfg(
        16,
        vocabularies.vocabulary_size(sources.pieces),
        hf_tokenizer_name="siglip",
        tokenizer_kwargs={"clean": "canonicalize"},
    )
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    model_cfg = {
        "embed_dim": models.ROW_WIDTH,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision_cfg(32, 8),
        "text_cfg": text,
    }
    preprocess = preprocess_cfg(32, "bilinear", "squash", IMAGENET)
    model = models.open_clip(model_cfg, seed=7)
    folder = immich_folder(sources, "immich-canonicalize", model, model_cfg, preprocess)
    vocabularies.write_siglip(sources.pieces, folder / "textual", 16, False, "T5Tokenizer", False)
    head(folder, 20.0, -3.0, "sigmoid")
    return Bundle(
        name="immich-canonicalize",
        layout=2,
        note="squash, bilinear, ImageNet mean and std; SentencePiece, clean = canonicalize, last token pooled",
        images=reference.ImmichImages(preprocess),
        texts=reference.ImmichTexts(folder / "textual", "</s>", 16, True),
        **open_clip_rows(model),
        image_graph="visual/model.onnx",
        text_graph="textual/model.onnx",
        image_output="embedding",
        text_output="embedding",
        scale=20.0,
        bias=-3.0,
        activation="sigmoid",
    )


def open_clip_folder(
    sources: Sources, name: str, model, model_cfg: dict, preprocess: dict, text_name: str | None
) -> Path:
    """open_clip_config.json and the flat graphs, dynamic in batch and sequence, not normalised."""
    folder = sources.folder(name)
    write_json(folder / "open_clip_config.json", {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
    side, context = model_cfg["vision_cfg"]["image_size"], model_cfg["text_cfg"]["context_length"]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    dynamic = {name: {0: "batch_size"} for name in ("image", "image_features", "text_features")}
    models.export(
        models.OpenClipTower(model.encode_image, model, False),
        {"image": pixels},
        ["image_features"],
        folder / "visual.onnx",
        {key: dynamic[key] for key in ("image", "image_features")},
    )
    if text_name:
        ids = torch.ones(2, context, dtype=torch.int64)
        models.export(
            models.OpenClipTower(model.encode_text, model, False),
            {"text": ids},
            ["text_features"],
            folder / text_name,
            {
                "text": {0: "batch_size"} | ({} if model_cfg.get("custom_text") else {1: "sequence_length"}),
                "text_features": {0: "batch_size"},
            },
        )
    return folder


def simple_tokenizer(sources: Sources, context: int) -> reference.OpenClipTexts:
    from open_clip.tokenizer import SimpleTokenizer

    path = sources.scratch / "merges.txt.gz"
    vocabularies.write_open_clip_merges(sources.published_clip, path)
    return reference.OpenClipTexts(SimpleTokenizer(bpe_path=str(path), context_length=context))


def open_clip(sources: Sources) -> Bundle:
    model_cfg = {
        "embed_dim": models.ROW_WIDTH,
        "vision_cfg": vision_cfg(32, 8),
        "text_cfg": text_cfg(77, CLIP_VOCABULARY),
    }
    preprocess = preprocess_cfg(32, "bicubic", "shortest", OPENAI)
    model = models.open_clip(model_cfg, seed=8)
    folder = open_clip_folder(sources, "open-clip", model, model_cfg, preprocess, "text.onnx")
    vocabularies.write_clip(sources.published_clip, folder, 77)
    head(folder, 50.0)
    return Bundle(
        name="open-clip",
        layout=3,
        note="text.onnx, open_clip's own tokenizer, shortest, bicubic, scale in diptych.json",
        images=reference.OpenClipImages(preprocess),
        texts=simple_tokenizer(sources, 77),
        model=model,
        **open_clip_rows(model),
        image_graph="visual.onnx",
        text_graph="text.onnx",
        image_output="image_features",
        text_output="text_features",
        scale=50.0,
        bias=0.0,
    )


def open_clip_squash(sources: Sources) -> Bundle:
    text = text_cfg(20, CLIP_VOCABULARY, no_causal_mask=True)
    model_cfg = {"embed_dim": models.ROW_WIDTH, "custom_text": True, "vision_cfg": vision_cfg(32, 8), "text_cfg": text}
    preprocess = preprocess_cfg([32, 32], "bilinear", "squash", IMAGENET)
    model = models.open_clip(model_cfg, seed=9)
    folder = open_clip_folder(sources, "open-clip-squash", model, model_cfg, preprocess, "textual.onnx")
    vocabularies.write_clip(sources.published_clip, folder, 20)
    return Bundle(
        name="open-clip-squash",
        layout=3,
        note="textual.onnx, no causal mask, so padding is seen; squash, bilinear, ImageNet mean and std; no scale",
        images=reference.OpenClipImages(preprocess),
        texts=simple_tokenizer(sources, 20),
        **open_clip_rows(model),
        image_graph="visual.onnx",
        text_graph="textual.onnx",
        image_output="image_features",
        text_output="text_features",
    )


def open_clip_longest(sources: Sources) -> Bundle:
    model_cfg = {"embed_dim": models.ROW_WIDTH, "vision_cfg": vision_cfg(40, 8), "text_cfg": text_cfg(8, 600)}
    preprocess = preprocess_cfg(40, "bicubic", "longest", {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}, fill=114)
    model = models.open_clip(model_cfg, seed=37)
    open_clip_folder(sources, "open-clip-longest", model, model_cfg, preprocess, None)
    return Bundle(
        name="open-clip-longest",
        layout=3,
        note="image tower alone; longest, bicubic, padded with 114, mean 0 and std 1, side 40",
        images=reference.OpenClipImages(preprocess),
        encode_images=model.encode_image,
        image_graph="visual.onnx",
        image_output="image_features",
    )


def open_clip_siglip(sources: Sources) -> Bundle:
    from open_clip.tokenizer import HFTokenizer

    text = text_cfg(
        16,
        vocabularies.vocabulary_size(sources.pieces),
        hf_tokenizer_name="siglip",
        tokenizer_kwargs={"clean": "canonicalize"},
    )
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    model_cfg = {
        "embed_dim": models.ROW_WIDTH,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision_cfg(32, 8),
        "text_cfg": text,
    }
    preprocess = preprocess_cfg([32, 32], "bicubic", "squash", HALF)
    model = models.open_clip(model_cfg, seed=11)
    folder = open_clip_folder(sources, "open-clip-siglip", model, model_cfg, preprocess, "text.onnx")
    vocabularies.write_siglip(sources.pieces, folder, 16, False, "T5Tokenizer", False)
    head(folder, 15.0, -2.5)
    tokenizer = HFTokenizer(str(folder), context_length=16, clean="canonicalize")
    return Bundle(
        name="open-clip-siglip",
        layout=3,
        note="Hugging Face tokenizer, clean = canonicalize; init_logit_bias makes it sigmoid; squash, bicubic, 0.5",
        images=reference.OpenClipImages(preprocess),
        texts=reference.OpenClipTexts(tokenizer),
        model=model,
        **open_clip_rows(model),
        image_graph="visual.onnx",
        text_graph="text.onnx",
        image_output="image_features",
        text_output="text_features",
        scale=15.0,
        bias=-2.5,
        activation="sigmoid",
    )


ALL = [immich, immich_canonicalize, open_clip, open_clip_squash, open_clip_longest, open_clip_siglip]
