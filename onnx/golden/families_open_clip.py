"""Bundles of the families that open_clip loads: each folder whole, by open_clip's own factory.

A folder is written as such models are published: `open_clip_config.json`, the tokenizer's files, the weights. The
reference is what `create_model_and_transforms` and `get_tokenizer` make of it, so that its transforms and its tokenizer
are the factory's choice; the graphs are exported from that model. The weights are then taken away again, but for one
bundle that keeps them. Image towers are small ViTs, for MobileCLIP a small FastViT and for PE-Core its ViT with rotary
positions, from timm.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
from timm.models import eva, fastvit

import models
import reference
import tokenizers_families
import tokenizers_small
from bundle import HALF, IMAGENET, OPENAI, Bundle, Sources, head
from bundles_open_clip import preprocess_cfg
from tokenizers_small import CLIP_VOCABULARY, write_json

ZERO = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
WEIGHTS = "open_clip_model.safetensors"
# Smaller than the other bundles' models, since there are many.
WIDTH, ROW_WIDTH = 16, 16


# Attention written out, which the exporter can follow.
timm.layers.set_fused_attn(False)


@timm.models.register_model
def fastvit_golden(num_classes: int, global_pool: str, **published):
    """fastvit_mci0, MobileCLIP's, in small."""
    position = partial(fastvit.RepConditionalPosEnc, spatial_shape=(7, 7))
    return fastvit.FastVit(
        layers=(1, 1, 1, 1),
        embed_dims=(16, 16, 32, 32),
        mlp_ratios=(1, 1, 1, 1),
        se_downsamples=(False, False, True, True),
        pos_embs=(None, None, None, position),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
        lkc_use_act=True,
        cls_ratio=1.0,
        num_classes=num_classes,
        global_pool=global_pool,
    )


@timm.models.register_model
def vit_pe_core_golden(num_classes: int, global_pool: str, **published):
    """vit_pe_core_tiny_patch16_384 in small."""
    small = {"img_size": 20, "patch_size": 5, "embed_dim": WIDTH, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}
    rotary = {"attn_type": "rope", "use_rot_pos_emb": True, "ref_feat_shape": (4, 4), "rope_grid_offset": 1.0}
    pool = {"attn_pool_num_heads": 2, "attn_pool_mlp_ratio": 2.0, "use_pre_transformer_norm": True}
    pool |= {"num_classes": num_classes, "global_pool": global_pool}
    norm = partial(timm.layers.LayerNorm, eps=1e-5)
    return eva.Eva(**small, **rotary, **pool, rope_grid_indexing="xy", norm_layer=norm)


class FactoryImages(reference.OpenClipImages):
    """The transform that open_clip's factory gives beside a model."""

    def __init__(self, transform):
        from open_clip.transform import MaybeConvertMode

        self.transform = transform
        steps = transform.transforms
        self.geometry = steps[: next(place for place, step in enumerate(steps) if isinstance(step, MaybeConvertMode))]


def vision_cfg(side: int, patch: int, **more) -> dict:
    small = {"image_size": side, "layers": 1, "width": WIDTH, "head_width": 8, "mlp_ratio": 2.0, "patch_size": patch}
    return small | more


def text_cfg(context: int, vocabulary: int, **more) -> dict:
    small = {"context_length": context, "vocab_size": vocabulary, "width": WIDTH, "heads": 2, "layers": 1}
    return small | {"mlp_ratio": 2.0} | more


def model_cfg(vision: dict, text: dict, **more) -> dict:
    return {"embed_dim": ROW_WIDTH, "vision_cfg": vision, "text_cfg": text} | more


def published(norm: dict, interpolation: str = "bicubic", mode: str = "shortest") -> dict:
    """preprocess_cfg as open_clip's save_for_hf writes it: without the size, which is the image tower's."""
    return {**norm, "interpolation": interpolation, "resize_mode": mode}


def drawn(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """`models.drawn`, for transformers' names too; more attention, since NLLB pools what is the same in all."""
    for name, values in models.drawn(model, seed).named_parameters():
        if "LayerNorm.weight" in name:
            values.data.add_(1)
        elif "v_proj" in name or "out_proj" in name and "self_attn" in name:
            values.data.mul_(2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.weight.data.mean() < 0.5:
            module.weight.data.add_(1)
    return model


def example_ids(shape: tuple[int, int], kind=torch.int64) -> torch.Tensor:
    """Ids to trace a graph with, and padding, 1: a mask without a 0 in it would be left out of the graph."""
    ids = torch.randint(4, 40, shape, generator=torch.Generator().manual_seed(0), dtype=kind)
    ids[:, shape[1] // 2 :] = 1
    return ids


def tower_of(encode, model: torch.nn.Module, is_normalized: bool) -> torch.nn.Module:
    """A tower in inference mode: the exporter gives a module its mode back, and transformers' have dropout."""
    return models.OpenClipTower(encode, model, is_normalized).eval()


def loaded(folder: Path, config: dict, seed: int, **overrides):
    """The model that the factory makes of the folder, with weights drawn from `seed`, and its transform."""
    write_json(folder / "open_clip_config.json", config)
    name = f"local-dir:{folder}"
    model = drawn(open_clip.create_model(name, load_weights=False, **overrides), seed)
    safetensors.torch.save_file(model.state_dict(), folder / WEIGHTS)
    model, _, transform = open_clip.create_model_and_transforms(name, **overrides)
    return model.eval(), transform


def export(folder: Path, model, side: int | None, context: int | None, text_name: str = "text.onnx") -> None:
    """The flat graphs, of any batch and of the whole context, not normalised."""
    batch = {0: "batch_size"}
    if side:
        pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        tower = tower_of(model.encode_image, model, False)
        axes = {"image": batch, "image_features": batch}
        models.export(tower, {"image": pixels}, ["image_features"], folder / "visual.onnx", axes)
    if context:
        ids = example_ids((2, context))
        tower = tower_of(model.encode_text, model, False)
        axes = {"text": batch, "text_features": batch}
        models.export(tower, {"text": ids}, ["text_features"], folder / text_name, axes)


def factory_bundle(
    folder: Path,
    config: dict,
    seed: int,
    note: str,
    images: bool = True,
    texts: bool = True,
    tokenizer_options: dict | None = None,
    keeps_weights: bool = False,
    overrides: dict | None = None,
    **more,
) -> Bundle:
    """Graphs beside what is in `folder`, and the reference that the factory makes of it."""
    model, transform = loaded(folder, config, seed, **(overrides or {}))
    cfg = config["model_cfg"]
    side = cfg["vision_cfg"]["image_size"] if images else None
    context = cfg["text_cfg"].get("context_length", 77) if texts else None
    export(folder, model, side, context)
    halves = {}
    if images:
        halves |= {"images": FactoryImages(transform), "encode_images": model.encode_image}
        halves |= {"image_graph": "visual.onnx", "image_output": "image_features"}
    if texts:
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", **(tokenizer_options or {}))
        halves |= {"texts": reference.OpenClipTexts(tokenizer), "text_graph": "text.onnx"}
        halves |= {"encode_texts": lambda ids, mask: model.encode_text(ids), "text_output": "text_features"}
    if not keeps_weights:
        (folder / WEIGHTS).unlink()
    return Bundle(name=folder.name, layout=3, note=note, **halves, **more)


def clip_tokenizer(sources: Sources, folder: Path, context: int) -> dict:
    """CLIP's tokenizer files, which open_clip publishes beside its models, and its own merges, cut as they are."""
    tokenizers_small.write_clip(sources.published_clip, folder, context)
    merges = sources.scratch / "merges.txt.gz"
    tokenizers_small.write_open_clip_merges(sources.published_clip, merges)
    return {"bpe_path": str(merges)}


def own_tokenizer(
    sources: Sources,
    name: str,
    side: int,
    preprocess: dict,
    seed: int,
    note: str,
    context: int = 77,
    timm_model: tuple[str, str, str] | None = None,
    **text,
) -> Bundle:
    """A family with open_clip's own tokenizer; `timm_model`: published name, our name, pooling."""
    folder = sources.folder(name)
    options = clip_tokenizer(sources, folder, context)
    text = text_cfg(context, CLIP_VOCABULARY, **text)
    vision, overrides = vision_cfg(side, side // 4), {}
    if timm_model:
        name, small, pool = timm_model
        vision = {"image_size": side, "timm_model_name": name, "timm_pool": pool, "timm_proj": None}
        overrides = {"vision_cfg": vision | {"timm_model_name": small}}
    config = {"model_cfg": model_cfg(vision, text, custom_text=True), "preprocess_cfg": preprocess}
    return factory_bundle(folder, config, seed, note, tokenizer_options=options, overrides=overrides)


def hub(sources: Sources) -> Bundle:
    folder = sources.folder("open-clip-hub")
    options = clip_tokenizer(sources, folder, 77)
    cfg = model_cfg(vision_cfg(28, 7), text_cfg(77, CLIP_VOCABULARY), quick_gelu=True)
    head(folder, 60.0)
    return factory_bundle(
        folder,
        {"model_cfg": cfg, "preprocess_cfg": published(OPENAI)},
        41,
        "as open_clip publishes, with weights; no size but the image tower's, no "
        "hf_tokenizer_name; QuickGELU. EVA, DFN 2B",
        tokenizer_options=options,
        keeps_weights=True,
        scale=60.0,
        bias=0.0,
    )


def mobileclip(sources: Sources) -> Bundle:
    note = "MobileCLIP, MobileCLIP 2 B, S0, S2: mean 0, std 1, bilinear, shortest; no causal mask, padded with 0"
    tower = ("fastvit_mci0", "fastvit_golden", "avg")
    preprocess = published(ZERO, "bilinear")
    return own_tokenizer(sources, "mobileclip", 20, preprocess, 42, note, timm_model=tower, no_causal_mask=True)


def mobileclip2(sources: Sources) -> Bundle:
    note = "MobileCLIP 2 S3, S4: OpenAI's mean and std, bilinear, shortest; no causal mask"
    return own_tokenizer(sources, "mobileclip2", 20, published(OPENAI, "bilinear"), 43, note, no_causal_mask=True)


def mobileclip2_l14(sources: Sources) -> Bundle:
    note = "MobileCLIP 2 L-14: OpenAI's mean and std, bicubic, shortest; no causal mask"
    return own_tokenizer(sources, "mobileclip2-l14", 16, published(OPENAI), 44, note, no_causal_mask=True)


def clipa(sources: Sources) -> Bundle:
    folder = sources.folder("clipa")
    vocabulary = tokenizers_families.write_bert(folder, 512)
    text = text_cfg(32, vocabulary + 50, hf_tokenizer_name="bert-base-uncased")
    text |= {"tokenizer_kwargs": {"strip_sep_token": True}, "pool_type": "last", "no_causal_mask": True}
    vision = vision_cfg(20, 5, no_ln_pre=True, pool_type="avg", final_ln_after_pool=True)
    config = {"model_cfg": model_cfg(vision, text), "preprocess_cfg": published(IMAGENET, "bilinear", "squash")}
    note = (
        "BERT's tokenizer, end token made 0, 32 tokens, last one pooled, no causal mask; ImageNet's "
        "mean and std, bilinear, squash"
    )
    return factory_bundle(folder, config, 45, note)


def pe_core(sources: Sources) -> Bundle:
    note = "PE-Core: 0.5, bilinear, squash; 32 tokens of open_clip's own tokenizer"
    preprocess = published(HALF, "bilinear", "squash")
    tower = ("vit_pe_core_tiny_patch16_384", "vit_pe_core_golden", "map")
    return own_tokenizer(sources, "pe-core", 20, preprocess, 46, note, context=32, timm_model=tower)


def pe_core_bigg(sources: Sources) -> Bundle:
    folder = sources.folder("pe-core-bigg")
    options = clip_tokenizer(sources, folder, 72)
    cfg = model_cfg(vision_cfg(16, 4), text_cfg(72, CLIP_VOCABULARY), custom_text=True)
    config = {"model_cfg": cfg, "preprocess_cfg": published(HALF, "bilinear", "squash")}
    note = "PE-Core bigG's texts: 72 tokens; images as pe-core"
    return factory_bundle(folder, config, 47, note, images=False, tokenizer_options=options)


def dfn_378(sources: Sources) -> Bundle:
    folder = sources.folder("dfn-378")
    text = text_cfg(77, CLIP_VOCABULARY)
    preprocess = published(OPENAI, "bicubic", "squash")
    config = {"model_cfg": model_cfg(vision_cfg(20, 5), text, quick_gelu=True), "preprocess_cfg": preprocess}
    note = "DFN 5B's images: OpenAI's mean and std, bicubic, squash; texts as open-clip-hub. MetaCLIP 2 at 378"
    return factory_bundle(folder, config, 48, note, texts=False)


def siglip2_text(vocabulary: int) -> dict:
    text = text_cfg(64, vocabulary, hf_tokenizer_name="timm/ViT-B-16-SigLIP2")
    text |= {"tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True, "proj_bias": True}
    return text | {"pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}


def siglip2(sources: Sources) -> Bundle:
    folder = sources.folder("open-clip-siglip2")
    vocabulary = tokenizers_families.write_gemma(folder, sources.scratch / "gemma", 64)
    cfg = model_cfg(vision_cfg(20, 5), siglip2_text(vocabulary), init_logit_bias=-10, custom_text=True)
    head(folder, 25.0, -4.0)
    return factory_bundle(
        folder,
        {"model_cfg": cfg, "preprocess_cfg": published(HALF, "bicubic", "squash")},
        61,
        "SigLIP 2: Gemma's tokenizer, lower case by clean = canonicalize, 64 tokens, padded with "
        "0, last one pooled; sigmoid",
        scale=25.0,
        bias=-4.0,
        activation="sigmoid",
    )


def hf_config(sources: Sources, name: str, values: dict) -> str:
    """The config of a small model of transformers, where AutoConfig finds it in place of a published one."""
    folder = sources.scratch / name
    write_json(folder / "config.json", values)
    return str(folder)


def xlm_config(vocabulary: int) -> dict:
    return {
        "model_type": "xlm-roberta",
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 80,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "type_vocab_size": 1,
        "attn_implementation": "eager",
    }


def nllb_config(vocabulary: int) -> dict:
    return {
        "model_type": "m2m_100",
        "vocab_size": vocabulary,
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * WIDTH,
        "decoder_ffn_dim": 2 * WIDTH,
        "max_position_embeddings": 128,
        "scale_embedding": True,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "attn_implementation": "eager",
    }


def hf_text(text: dict, config: str) -> dict:
    """What the factory is told in place of the published name of a text tower, which no folder holds."""
    return {"text_cfg": text | {"hf_model_name": config, "hf_model_pretrained": False}}


def xlm_text(sources: Sources, folder: Path) -> tuple[dict, dict]:
    """text_cfg of an XLM-RoBERTa and what the factory is told; the tokenizer's files."""
    vocabulary = tokenizers_families.write_xlm_roberta(folder, sources.scratch / "xlm", 512)
    text = {"hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base"}
    text |= {"hf_pooler_type": "mean_pooler"}
    return text, hf_text(text, hf_config(sources, "xlm-config", xlm_config(vocabulary)))


def metaclip2(sources: Sources) -> Bundle:
    folder = sources.folder("metaclip2")
    vocabulary = tokenizers_families.write_xlm_roberta(folder, sources.scratch / "xlm", 512)
    text = text_cfg(77, vocabulary, hf_tokenizer_name="facebook/xlm-v-base", pool_type="eos", eos_id=2)
    config = {"model_cfg": model_cfg(vision_cfg(16, 4), text), "preprocess_cfg": published(OPENAI)}
    note = (
        "MetaCLIP 2: XLM-V's tokenizer, of XLM-RoBERTa's kind, before open_clip's text tower; padded "
        "with 1, end token pooled"
    )
    return factory_bundle(folder, config, 62, note)


def xlm_roberta(sources: Sources) -> Bundle:
    folder = sources.folder("open-clip-xlm-roberta")
    text, overrides = xlm_text(sources, folder)
    config = {"model_cfg": model_cfg(vision_cfg(16, 4), text), "preprocess_cfg": published(OPENAI)}
    note = "XLM-RoBERTa with mean pooling; its mask is made of ids that are not <pad>, 1; no context stated, so 77"
    return factory_bundle(folder, config, 50, note, overrides=overrides)


def nllb_text(sources: Sources, folder: Path, kwargs: dict | None = None, **options) -> tuple[dict, dict]:
    """text_cfg of NLLB-CLIP and what the factory is told; the tokenizer's files."""
    vocabulary = tokenizers_families.write_nllb(folder, sources.scratch / "nllb", 1024, **options)
    name = "facebook/nllb-200-distilled-600M"
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "linear"}
    text |= {"hf_pooler_type": "cls_pooler"} | ({"tokenizer_kwargs": kwargs} if kwargs else {})
    return text, hf_text(text, hf_config(sources, "nllb-config", nllb_config(vocabulary)))


def put_language_last(folder: Path) -> None:
    """tokenizer.json as it was saved before 2023: the language behind the end. transformers goes by the class alone."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    single = tokenizer["post_processor"]["single"]
    tokenizer["post_processor"]["single"] = single[1:] + single[:1]
    write_json(path, tokenizer, indent=None)


def nllb(sources: Sources) -> Bundle:
    folder = sources.folder("nllb-clip")
    text, overrides = nllb_text(sources, folder)
    put_language_last(folder)
    cfg = model_cfg(vision_cfg(16, 4), text, custom_text=True, init_logit_bias=-10)
    config = {"model_cfg": cfg, "preprocess_cfg": published(HALF, "bicubic", "squash")}
    note = (
        "NLLB-CLIP: the language before the text, none stated, so eng_Latn, though tokenizer.json puts "
        "it last; sigmoid"
    )
    return factory_bundle(folder, config, 56, note, overrides=overrides, activation="sigmoid")


def nllb_french(sources: Sources) -> Bundle:
    folder = sources.folder("nllb-clip-french")
    text, overrides = nllb_text(sources, folder, {"src_lang": "fra_Latn"})
    config = {"model_cfg": model_cfg(vision_cfg(16, 4), text, custom_text=True), "preprocess_cfg": published(HALF)}
    note = (
        "the texts of nllb-clip with tokenizer_kwargs.src_lang = fra_Latn; `language` there changes "
        "nothing, as transformers sets it back"
    )
    return factory_bundle(folder, config, 56, note, images=False, overrides=overrides)


def nllb_legacy(sources: Sources) -> Bundle:
    folder = sources.folder("nllb-clip-legacy")
    text, overrides = nllb_text(sources, folder, legacy_behaviour=True, src_lang="deu_Latn")
    config = {"model_cfg": model_cfg(vision_cfg(16, 4), text, custom_text=True), "preprocess_cfg": published(HALF)}
    note = "legacy_behaviour: the language, src_lang of tokenizer_config.json, behind the end token"
    return factory_bundle(folder, config, 56, note, images=False, overrides=overrides)


class ImmichLanguageTexts(reference.ImmichTexts):
    """immich's steps for a model whose name begins with nllb: the language is written before the cleaned text."""

    def __init__(self, folder: Path, pad_token: str, context_length: int, language: str):
        super().__init__(folder, pad_token, context_length, False)
        self.language = language

    def cleaned(self, text: str) -> str:
        return self.language + super().cleaned(text)


def immich_text(folder: Path, model, context: int) -> None:
    """A textual graph as immich publishes it: batch of one, ids of 32 bits, normalised inside."""
    tower = tower_of(model.encode_text, model, True)
    ids = example_ids((1, context), torch.int32)
    models.export(tower, {"text": ids}, ["embedding"], folder / "textual/model.onnx", {})


def published_by_immich(sources: Sources, name: str, config: dict, seed: int, **overrides):
    """The model that the factory makes of a config, in immich's folders: its configs, its graphs; the model."""
    folder, scratch = sources.bundles / name, sources.scratch / name
    scratch.mkdir()
    model, _ = loaded(scratch, config, seed, **overrides)
    cfg, side = config["model_cfg"], config["model_cfg"]["vision_cfg"]["image_size"]
    write_json(folder / "config.json", cfg)
    immich_text(folder, model, cfg["text_cfg"].get("context_length", 77))
    if config["preprocess_cfg"]:
        write_json(folder / "visual/preprocess_cfg.json", config["preprocess_cfg"])
        pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        tower = tower_of(model.encode_image, model, True)
        models.export(tower, {"image": pixels}, ["embedding"], folder / "visual/model.onnx", {})
    return model


def immich_siglip2(sources: Sources) -> Bundle:
    folder = sources.folder("immich-siglip2")
    text = siglip2_text(tokenizers_families.write_gemma(folder / "textual", sources.scratch / "gemma", 64))
    cfg = model_cfg(vision_cfg(20, 5), text, init_logit_bias=-10, custom_text=True)
    preprocess = preprocess_cfg([20, 20], "bicubic", "squash", HALF)
    model = published_by_immich(sources, folder.name, {"model_cfg": cfg, "preprocess_cfg": preprocess}, 61)
    return Bundle(
        name=folder.name,
        layout=2,
        note=(
            "SigLIP 2 as immich publishes it: Gemma's tokenizer, clean = canonicalize, padded with 0; "
            "squash, bicubic, 0.5"
        ),
        images=reference.ImmichImages(preprocess),
        texts=reference.ImmichTexts(folder / "textual", "<pad>", 64, True),
        encode_images=model.encode_image,
        encode_texts=lambda ids, mask: model.encode_text(ids),
        image_graph="visual/model.onnx",
        text_graph="textual/model.onnx",
        image_output="embedding",
        text_output="embedding",
        activation="sigmoid",
    )


def immich_xlm_roberta(sources: Sources) -> Bundle:
    folder = sources.folder("immich-xlm-roberta")
    text, overrides = xlm_text(sources, folder / "textual")
    config = {"model_cfg": model_cfg(vision_cfg(16, 4), text), "preprocess_cfg": {}}
    model = published_by_immich(sources, folder.name, config, 50, **overrides)
    return Bundle(
        name=folder.name,
        layout=2,
        note=(
            "XLM-RoBERTa's texts as immich publishes them: no context stated, so 77; the mask is made "
            "within the graph"
        ),
        texts=reference.ImmichTexts(folder / "textual", "<pad>", 77, False),
        encode_texts=lambda ids, mask: model.encode_text(ids),
        text_graph="textual/model.onnx",
        text_output="embedding",
    )


def immich_nllb_of(sources: Sources, name: str, language: str, note: str) -> Bundle:
    folder = sources.folder(name)
    text, overrides = nllb_text(sources, folder / "textual")
    cfg = model_cfg(vision_cfg(16, 4), text, custom_text=True)
    model = published_by_immich(sources, name, {"model_cfg": cfg, "preprocess_cfg": {}}, 56, **overrides)
    if language:
        write_json(folder / "diptych.json", {"text": {"language": language}})
    return Bundle(
        name=name,
        layout=2,
        note=note,
        texts=ImmichLanguageTexts(folder / "textual", "<pad>", 77, language),
        encode_texts=lambda ids, mask: model.encode_text(ids),
        text_graph="textual/model.onnx",
        text_output="embedding",
    )


def immich_nllb(sources: Sources) -> Bundle:
    note = "NLLB-CLIP's texts as immich publishes them, without a language: what tokenizer.json adds"
    return immich_nllb_of(sources, "immich-nllb", "", note)


def immich_nllb_german(sources: Sources) -> Bundle:
    note = "the same with deu_Latn, in diptych.json, before each text and besides what tokenizer.json adds"
    return immich_nllb_of(sources, "immich-nllb-german", "deu_Latn", note)


class MClip(torch.nn.Module):
    """M-CLIP's text tower: XLM-RoBERTa, the mean over what the mask keeps, a linear layer."""

    def __init__(self, config: dict):
        super().__init__()
        from transformers import XLMRobertaConfig, XLMRobertaModel

        self.transformer = XLMRobertaModel(XLMRobertaConfig(**config), add_pooling_layer=False)
        self.LinearTransformation = torch.nn.Linear(WIDTH, ROW_WIDTH)

    def forward(self, input_ids, attention_mask):
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask)[0]
        mean = (states * attention_mask.unsqueeze(2)).sum(1) / attention_mask.sum(1)[:, None]
        return self.LinearTransformation(mean)


class MClipTexts(reference.ImmichTexts):
    """immich's steps for M-CLIP, which takes a mask."""

    def ids_and_mask(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = [self.tokenizer.encode(self.cleaned(text)) for text in texts]
        ids, mask = [text.ids for text in encoded], [text.attention_mask for text in encoded]
        return np.array(ids, dtype=np.int64), np.array(mask, dtype=np.int64)


def immich_mclip(sources: Sources) -> Bundle:
    folder = sources.folder("immich-mclip")
    vocabulary = tokenizers_families.write_xlm_roberta(folder / "textual", sources.scratch / "xlm", 512)
    # The config is that of the image tower's model, whose own text tower and vocabulary are left out.
    cfg = model_cfg(vision_cfg(16, 4), text_cfg(77, vocabulary // 2))
    preprocess = preprocess_cfg([16, 16], "bicubic", "shortest", OPENAI)
    write_json(folder / "config.json", cfg)
    write_json(folder / "visual/preprocess_cfg.json", preprocess)
    image_model = models.open_clip(cfg, seed=52)
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tower = tower_of(image_model.encode_image, image_model, True)
    models.export(tower, {"image": pixels}, ["embedding"], folder / "visual/model.onnx", {})
    model = drawn(MClip(xlm_config(vocabulary)), seed=53)
    ids = example_ids((1, 77), torch.int32)
    inputs = {"input_ids": ids, "attention_mask": (ids != 1).to(torch.int32)}
    models.export(model, inputs, ["embedding"], folder / "textual/model.onnx", {})
    return Bundle(
        name="immich-mclip",
        layout=2,
        note="M-CLIP as immich publishes it: ids and mask, a vocabulary that config.json does not state",
        images=reference.ImmichImages(preprocess),
        texts=MClipTexts(folder / "textual", "<pad>", 77, False),
        encode_images=image_model.encode_image,
        encode_texts=model,
        image_graph="visual/model.onnx",
        text_graph="textual/model.onnx",
        image_output="embedding",
        text_output="embedding",
    )


ALL = [
    hub,
    mobileclip,
    mobileclip2,
    mobileclip2_l14,
    clipa,
    pe_core,
    pe_core_bigg,
    dfn_378,
    siglip2,
    metaclip2,
    xlm_roberta,
    nllb,
    nllb_french,
    nllb_legacy,
    immich_nllb,
    immich_nllb_german,
    immich_mclip,
    immich_siglip2,
    immich_xlm_roberta,
]
