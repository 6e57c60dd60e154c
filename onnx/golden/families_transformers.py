"""Bundles of families that are published for transformers: SigLIP 2, Chinese-CLIP, Jina CLIP, TinyCLIP, MobileCLIP, DFN
and nomic's pair.

A function for each bundle writes its files and gives the `Bundle` with its reference.
"""

import json
import math
import zlib
from pathlib import Path

import torch

import models
import reference
import remote
import tokenizers_published as published
from bundle import OPENAI, Bundle, Sources, head
from bundles_transformers import (
    clip_image_rows,
    clip_images,
    clip_text_rows,
    clip_texts,
    embeddings,
    export_clip_image,
    export_clip_text,
    image_processor,
    siglip_processor,
    transformers_images,
    write_config,
)
from tokenizers_small import CLIP_END, CLIP_VOCABULARY, write_clip, write_json


def drawn(model: torch.nn.Module, seed: int, gain: float = 1.6) -> torch.nn.Module:
    """`models.drawn`, which knows no norms by BERT's name for them."""
    model = models.drawn(model, seed, gain)
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(models.scaled(name.lower(), noise, gain))
    return model


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


def text_shape(vocabulary: int, context: int) -> dict:
    """The config of a small text transformer of one layer."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": models.TEXT_WIDTH,
        "intermediate_size": 2 * models.TEXT_WIDTH,
        "max_position_embeddings": context,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }


def vision_shape(side: int) -> dict:
    """The config of a small vision transformer of one layer."""
    return {
        "hidden_size": models.WIDTH,
        "intermediate_size": 2 * models.WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": 8,
    }


def export_both(module, folder: Path, side: int, has_mask: bool, outputs: list[str], logits: list[str]) -> None:
    """One graph that takes texts and images, each in a batch of its own."""
    ids = torch.full((2, 9), 5)
    ids[:, 0] = 2
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "pixel_values": pixels}
    tokens, images = {0: "text_batch_size", 1: "sequence_length"}, {0: "image_batch_size"}
    dynamic = {"input_ids": tokens, "pixel_values": images}
    if has_mask:
        inputs["attention_mask"] = torch.ones_like(ids)
        dynamic["attention_mask"] = tokens
    dynamic |= {name: {0: "text_batch_size"} if "text" in name else images for name in outputs}
    if logits:
        dynamic |= {logits[0]: {0: "image_batch_size", 1: "text_batch_size"}}
        dynamic |= {logits[1]: {0: "text_batch_size", 1: "image_batch_size"}}
    # Export leaves a module in the mode that it was in, and these drop values while training.
    models.export(module.eval(), inputs, logits + outputs, folder / "onnx/model.onnx", dynamic)


def chinese_clip(sources: Sources) -> Bundle:
    """Chinese-CLIP: BERT's tokenizer, which states 512 tokens, where training had 52; images are squashed."""
    from transformers import AutoTokenizer, ChineseCLIPConfig, ChineseCLIPModel
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil

    folder = sources.folder("chinese-clip")
    vocabulary = published.write_bert(folder, 512, published.BERT_CHARACTERS)
    config = ChineseCLIPConfig(
        text_config=text_shape(vocabulary, 512), vision_config=vision_shape(24), projection_dim=models.ROW_WIDTH
    )
    config._attn_implementation = "eager"
    model = drawn(ChineseCLIPModel(config), 63)
    model.logit_scale.data.fill_(math.log(50.0))
    write_config(folder, model)
    image_processor(
        folder,
        {"height": 24, "width": 24},
        None,
        do_center_crop=False,
        do_convert_rgb=None,
        do_rescale=None,
        feature_extractor_type="ChineseCLIPFeatureExtractor",
        image_processor_type=None,
        rescale_factor=None,
    )
    outputs = ["text_embeds", "image_embeds"]
    export_both(models.ClipBoth(model), folder, 24, True, outputs, ["logits_per_image", "logits_per_text"])
    return Bundle(
        name="chinese-clip",
        layout=4,
        note="Chinese-CLIP: WordPiece, 52 tokens by family where its files state 512; squash, no crop; scale in the graph",
        images=reference.TransformersImages(folder, ChineseCLIPImageProcessorPil),
        texts=reference.TransformersTexts(AutoTokenizer.from_pretrained(folder), True, 52),
        model=model,
        encode_images=clip_image_rows(model),
        encode_texts=clip_text_rows(model),
        image_graph="onnx/model.onnx",
        text_graph="onnx/model.onnx",
        image_output="image_embeds",
        text_output="text_embeds",
        scale=50.0,
        bias=0.0,
    )


def jina_config(width: int) -> dict:
    """config.json as published for Jina CLIP v2, whose classes are its own."""
    return {
        "add_projections": False,
        "architectures": ["JinaCLIPModel"],
        "logit_scale_init_value": 2.6592,
        "matryoshka_dimensions": [8, 16, width],
        "model_type": "jina_clip",
        "projection_dim": width,
        "text_config": {"embed_dim": width, "model_type": "jina_clip_text", "pooler_type": "mean_pooler"},
        "truncate_dim": None,
        "vision_config": {"embed_dim": width, "image_size": 24, "model_type": "jina_clip_vision", "patch_size": 8},
    }


def jina_folder(sources: Sources, name: str, hides_padding: bool, seed: int):
    """A Jina CLIP model with its configs and its tokenizer, which states a length that the texts exceed."""
    folder = sources.folder(name)
    vocabulary = published.write_xlm_roberta(sources.pieces, folder, 64)
    model = drawn(remote.JinaClip(vocabulary, 66, 24, models.WIDTH, hides_padding), seed)
    write_json(folder / "config.json", jina_config(models.WIDTH), indent=2)
    return folder, model


def jina_texts(folder: Path) -> reference.TransformersTexts:
    from transformers import XLMRobertaTokenizer

    return reference.TransformersTexts(XLMRobertaTokenizer.from_pretrained(folder), True, 64)


def jina_clip(sources: Sources) -> Bundle:
    """Jina CLIP v2: one graph whose text half makes its mask of the ids; open_clip's pre-processing by other names."""
    folder, model = jina_folder(sources, "jina-clip", True, 62)
    preprocess = {"fill_color": 0, "interpolation": "bicubic", "resize_mode": "shortest", "size": 24} | OPENAI
    names = {"image_processor_type": "JinaCLIPImageProcessor", "processor_class": "JinaCLIPProcessor"}
    write_json(folder / "preprocessor_config.json", preprocess | names)
    plain = ["text_embeddings", "image_embeddings"]
    export_both(model, folder, 24, False, plain + [f"l2norm_{output}" for output in plain], [])
    return Bundle(
        name="jina-clip",
        layout=4,
        note="Jina CLIP v2: ids without a mask, which the graph makes of the pad's id; XLM-RoBERTa's pieces; open_clip's pixels",
        images=reference.OpenClipImages(preprocess),
        texts=jina_texts(folder),
        encode_images=model.get_image_features,
        encode_texts=lambda ids, mask: model.get_text_features(ids),
        image_graph="onnx/model.onnx",
        text_graph="onnx/model.onnx",
        image_output="image_embeddings",
        text_output="text_embeddings",
    )


def jina_clip_unmasked(sources: Sources) -> Bundle:
    """The same texts with a graph that takes padding for words, so that none may reach it."""
    folder, model = jina_folder(sources, "jina-clip-unmasked", False, 64)
    axes = {"input_ids": {0: "text_batch_size", 1: "sequence_length"}, "text_embeddings": {0: "text_batch_size"}}
    ids = {"input_ids": torch.full((2, 9), 5)}
    texts = remote.JinaTexts(model).eval()
    models.export(texts, ids, ["text_embeddings"], folder / "onnx/model.onnx", axes)
    return Bundle(
        name="jina-clip-unmasked",
        layout=4,
        note="text tower alone, whose graph takes ids without a mask and padding for words: texts run unpadded",
        texts=jina_texts(folder),
        encode_texts=lambda ids, mask: model.get_text_features(ids),
        text_graph="onnx/model.onnx",
        text_output="text_embeddings",
        is_unpadded=True,
    )


def tinyclip(sources: Sources) -> Bundle:
    """TinyCLIP: CLIP's classes and files, small; graphs as optimum exports them, with a mask."""
    folder = sources.folder("tinyclip")
    model = models.clip(24, 8, CLIP_VOCABULARY, CLIP_END, 77, 65, 50.0, 1)
    write_config(folder, model)
    image_processor(folder, {"shortest_edge": 24}, {"height": 24, "width": 24})
    write_clip(sources.published_clip, folder, 77)
    export_clip_image(model, folder, 24)
    export_clip_text(model, folder, with_mask=True)
    return Bundle(
        name="tinyclip",
        layout=1,
        note="TinyCLIP: CLIP's own files and graphs with a mask; no scale",
        images=clip_images(folder),
        texts=clip_texts(folder),
        encode_images=clip_image_rows(model),
        encode_texts=clip_text_rows(model),
        image_graph="onnx/vision_model.onnx",
        text_graph="onnx/text_model.onnx",
        image_output="image_embeds",
        text_output="text_embeds",
    )


def dfn(sources: Sources) -> Bundle:
    note = "DFN: CLIP's own files, a side that is resized to and cropped as a number"
    return transformers_images(sources, "dfn", note, 24, 24, 24, seed=66)


def mobileclip(sources: Sources) -> Bundle:
    """MobileCLIP as published for transformers: images are not normalised, texts see all of their padding.

    It was trained with open_clip's padding, id 0; the tokenizer beside it is CLIP's, whose pad is the end token.
    """
    from transformers import AutoTokenizer

    folder = sources.folder("mobileclip-transformers")
    model = models.clip(24, 8, CLIP_VOCABULARY, 2, 20, 67, 100.0, 1)
    write_config(folder, model)
    image_processor(folder, {"shortest_edge": 24}, {"height": 24, "width": 24}, do_normalize=False, resample=2)
    write_clip(sources.published_clip, folder, 20)
    export_clip_image(model, folder, 24)
    with remote.without_causal_mask():
        export_clip_text(model, folder, with_mask=False)
    texts = reference.TransformersTexts(AutoTokenizer.from_pretrained(folder), "max_length", 20)

    def encode_texts(ids, mask):
        with remote.without_causal_mask():
            return embeddings(model.get_text_features(input_ids=ids))

    return Bundle(
        name="mobileclip-transformers",
        layout=1,
        note="MobileCLIP: bilinear, not normalised; no causal mask, so texts are padded with id 0 as in training",
        images=clip_images(folder),
        texts=reference.PaddedWith(texts, 0),
        encode_images=clip_image_rows(model),
        encode_texts=encode_texts,
        image_graph="onnx/vision_model.onnx",
        text_graph="onnx/text_model.onnx",
        image_output="image_embeds",
        text_output="text_embeds",
    )


def nomic_vision(sources: Sources) -> Bundle:
    """The image half of nomic's pair: a graph of images alone, whose class token's row is an image's."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    folder = sources.folder("nomic-vision")
    config = CLIPVisionConfig(**vision_shape(24) | {"hidden_size": models.TEXT_WIDTH})
    config._attn_implementation = "eager"
    model = drawn(CLIPVisionModel(config), 68)
    published = {"architectures": ["NomicVisionModel"], "img_size": 24, "model_type": "nomic_bert"}
    write_json(folder / "config.json", published | {"n_embd": models.TEXT_WIDTH, "patch_size": 8}, indent=2)
    image_processor(folder, {"height": 24, "width": 24}, None, do_center_crop=False)
    outputs = {name: {0: "batch_size"} for name in ("pixel_values", "last_hidden_state")}
    pixels = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    graph = folder / "onnx/model.onnx"
    models.export(remote.Hidden(model).eval(), {"pixel_values": pixels}, ["last_hidden_state"], graph, outputs)
    return Bundle(
        name="nomic-vision",
        layout=4,
        note="nomic's vision half: last_hidden_state alone, of which the class token's row is taken",
        images=clip_images(folder),
        encode_images=lambda values: model(pixel_values=values).last_hidden_state[:, 0],
        image_graph="onnx/model.onnx",
        image_output="last_hidden_state",
        pool_images=lambda hidden: hidden[:, 0],
    )


def nomic_text(sources: Sources) -> Bundle:
    """The text half: BERT's tokenizer, a prefix, the mean of all tokens, a norm of the values."""
    from transformers import BertTokenizer, NomicBertConfig, NomicBertModel

    folder = sources.folder("nomic-text")
    vocabulary = published.write_bert(folder, 8192)
    shape = text_shape(vocabulary, 64)
    config = NomicBertConfig(**shape)
    config._attn_implementation = "eager"
    # Strong enough that rows differ in spite of the prefix that all begin with.
    model = drawn(NomicBertModel(config), 69, gain=6.0)
    own = {"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "n_embd": models.TEXT_WIDTH}
    write_json(folder / "config.json", own | {"n_positions": 8192, "vocab_size": vocabulary}, indent=2)
    published.write_sentence(folder, models.TEXT_WIDTH, "mean", 40)
    axes = {0: "batch_size", 1: "sequence_length"}
    ids = torch.full((2, 9), 5)
    inputs = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)}
    dynamic = {name: axes for name in [*inputs, "last_hidden_state"]}
    graph = folder / "onnx/model.onnx"
    models.export(remote.Hidden(model).eval(), inputs, ["last_hidden_state"], graph, dynamic)
    texts = reference.TransformersTexts(BertTokenizer.from_pretrained(folder), True, 40)
    return Bundle(
        name="nomic-text",
        layout=4,
        note="nomic's text half: search_query before each text, mean by 1_Pooling, normed values, token_type_ids",
        texts=reference.Prefixed(texts, "search_query: "),
        encode_texts=lambda ids, mask: remote.nomic_rows(model(input_ids=ids, attention_mask=mask)[0], mask),
        text_graph="onnx/model.onnx",
        text_output="last_hidden_state",
        pool_texts=remote.nomic_rows,
    )


ALL = [
    siglip2,
    siglip2_gemma,
    chinese_clip,
    jina_clip,
    jina_clip_unmasked,
    tinyclip,
    dfn,
    mobileclip,
    nomic_vision,
    nomic_text,
]
