"""Every model that open_clip ships a config for: the settings that preparing inputs depends on, and what open_clip
makes of them. What only shapes the model (widths, layers and so on) is left out.

The transform is built by open_clip from the config and the tag's pre-processing, and taken apart; the tokenizer is the
one that `get_tokenizer` chooses, with the files of Hugging Face's left out, since what is compared are its settings.
"""

import contextlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

# What shapes the text tower alone.
SHAPE = """
width heads layers mlp_ratio act_kwargs norm_kwargs proj_bias proj_type embed_cls output_tokens
hf_proj_type hf_pooler_type no_causal_mask pool_type eos_id
""".split()

CLEANINGS = {"_clean_lower": "lower", "_clean_whitespace": "whitespace", "_clean_canonicalize": "canonicalize"}


def settings(model_cfg: dict) -> dict:
    """A model's config without what only shapes it."""
    text = {key: value for key, value in model_cfg["text_cfg"].items() if key not in SHAPE}
    vision = {"image_size": model_cfg["vision_cfg"]["image_size"]}
    bias = {key: value for key, value in model_cfg.items() if key == "init_logit_bias"}
    return {"vision_cfg": vision, "text_cfg": text} | bias


def preprocess_cfg(tag: dict | None) -> dict:
    """What save_for_hf writes of a tag's pre-processing."""
    return {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode")} if tag else {}


def images(model_cfg: dict, preprocess: dict) -> dict:
    """The steps of open_clip's transform; the size is the image tower's, as its factory sees to."""
    cfg = merge_preprocess_dict(asdict(PreprocessCfg()), preprocess) | {"size": model_cfg["vision_cfg"]["image_size"]}
    steps = image_transform_v2(PreprocessCfg(**cfg), is_train=False).transforms
    resize, normalize = steps[0], steps[-1]
    crops = [list(step.size) for step in steps if type(step).__name__ == "CenterCrop"]
    return {
        "resize": resize.size if isinstance(resize.size, int) else list(resize.size),
        "filter": resize.interpolation.value,
        "crop": crops[0] if crops else None,
        "mean": list(normalize.mean),
        "std": list(normalize.std),
    }


def texts(model_cfg: dict) -> dict:
    """The settings of open_clip's tokenizer."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
        stack.enter_context(mock.patch("transformers.AutoTokenizer.from_pretrained", return_value=object()))
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    is_own = isinstance(tokenizer, SimpleTokenizer)
    return {
        "is_open_clips": is_own,
        "context": tokenizer.context_length,
        "clean": CLEANINGS[tokenizer.clean_fn.__name__],
        "strips_sep": not is_own and tokenizer.strip_sep_token,
    }


def write(golden: Path) -> None:
    """open-clip-configs.jsonl: a line for each config that differs, with the models and tags that have it."""
    lines: dict[str, list[str]] = {}
    for model in open_clip.list_models():
        for tag in list_pretrained_tags_by_model(model) or [None]:
            preprocess = preprocess_cfg(get_pretrained_cfg(model, tag) if tag else None)
            model_cfg = settings(open_clip.get_model_config(model))
            config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
            made = {"config": config, "images": images(model_cfg, preprocess), "texts": texts(model_cfg)}
            lines.setdefault(json.dumps(made, separators=(",", ":")), []).append(f"{model} {tag or '-'}")
    with (golden / "open-clip-configs.jsonl").open("w") as file:
        for made, names in lines.items():
            file.write(json.dumps({"names": names} | json.loads(made), separators=(",", ":")) + "\n")
