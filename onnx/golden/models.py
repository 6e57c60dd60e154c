"""Tiny models with random weights from the references' own classes, and their export to ONNX.

The weights are drawn so that rows differ from input to input: matrices keep or raise the scale of what passes through
them, and embeddings are as large as what they are added to. With the usual start of training all rows would look alike
and no test could fail.
"""

import math
import sys
import zlib
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from torch_models import OpenClipTower, export  # noqa: E402, F401

# Small, because every bundle lies in the repository.
WIDTH, TEXT_WIDTH, LAYERS, ROW_WIDTH = 24, 16, 2, 24

torch.backends.mha.set_fastpath_enabled(False)


def drawn(model: torch.nn.Module, seed: int, gain: float = 1.6) -> torch.nn.Module:
    """Fills every parameter of `model` from `seed` and its name, and puts it into inference mode."""
    for name, parameter in model.named_parameters():
        if name.endswith(("logit_scale", "logit_bias")):
            continue
        generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(scaled(name, noise, gain))
    return model.eval()


def scaled(name: str, noise: torch.Tensor, gain: float) -> torch.Tensor:
    """The values of one parameter from standard noise."""
    if "norm" in name or "ln_" in name:
        return 0.1 * noise + (1 if name.endswith("weight") else 0)
    if "embedding" in name and "patch" not in name:
        return noise
    if noise.dim() < 2:
        return 0.1 * noise
    fan_in = noise[0].numel() if noise.dim() > 2 else noise.shape[-1]
    return noise * gain / math.sqrt(fan_in)


def clip(side: int, patch: int, vocabulary: int, end: int, context: int, seed: int, scale: float, layers: int = LAYERS):
    """transformers' CLIPModel. `end` is the config's eos_token_id: the true one, or 2 for pooling by argmax."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": vocabulary,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "max_position_embeddings": context,
    }
    text |= {
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": end,
        "pad_token_id": vocabulary - 1,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=ROW_WIDTH)
    config._attn_implementation = "eager"
    model = drawn(CLIPModel(config), seed)
    model.logit_scale.data.fill_(math.log(scale))
    return model


def siglip(side: int, vocabulary: int, context: int, seed: int, scale: float, bias: float, layers: int):
    """transformers' SiglipModel, whose rows are as wide as its towers."""
    from transformers import SiglipConfig, SiglipModel

    shape = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
    }
    text = shape | {
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "pad_token_id": 1,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    config = SiglipConfig(text_config=text, vision_config=shape | {"image_size": side, "patch_size": 8})
    config._attn_implementation = "eager"
    model = drawn(SiglipModel(config), seed)
    model.logit_scale.data.fill_(math.log(scale))
    model.logit_bias.data.fill_(bias)
    return model


def vision(model_class, config, seed: int):
    """A vision transformer of transformers; scales of its layers, where it has any, are about 1."""
    config._attn_implementation = "eager"
    model = drawn(model_class(config), seed)
    for name, parameter in model.named_parameters():
        if name.endswith("lambda1"):
            parameter.data += 1
    return model


def vision_shape(side: int, patch: int) -> dict:
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }


def dinov2(side: int, patch: int, seed: int):
    from transformers import Dinov2Config, Dinov2Model

    return vision(Dinov2Model, Dinov2Config(**vision_shape(side, patch), mlp_ratio=2), seed)


def dinov2_with_registers(side: int, patch: int, registers: int, seed: int):
    """Exported for its table's own side, since opset 17 has no word for how it resizes the table."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    shape = vision_shape(side, patch) | {"mlp_ratio": 2, "num_register_tokens": registers}
    model = vision(Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**shape), seed)
    model.embeddings.interpolate_pos_encoding = lambda embeddings, height, width: model.embeddings.position_embeddings
    return model


def dinov3(patch: int, registers: int, seed: int):
    """Its positions are turns, not a table, so that any side will do."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    shape = vision_shape(4 * patch, patch) | {"intermediate_size": 2 * WIDTH, "num_register_tokens": registers}
    return vision(DINOv3ViTModel, DINOv3ViTConfig(**shape), seed)


def vit(side: int, patch: int, seed: int):
    from transformers import ViTConfig, ViTModel

    return vision(ViTModel, ViTConfig(**vision_shape(side, patch), intermediate_size=2 * WIDTH), seed)


def siglip_vision(side: int, patch: int, has_head: bool, seed: int):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    shape = vision_shape(side, patch) | {"intermediate_size": 2 * WIDTH, "vision_use_head": has_head}
    return vision(SiglipVisionModel, SiglipVisionConfig(**shape), seed)


def clip_vision(side: int, patch: int, seed: int):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return vision(CLIPVisionModel, CLIPVisionConfig(**vision_shape(side, patch), intermediate_size=2 * WIDTH), seed)


def open_clip(model_cfg: dict, seed: int):
    """open_clip's CLIP or CustomTextCLIP, as its factory chooses."""
    import open_clip.model

    is_custom = model_cfg.get("custom_text", False)
    arguments = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    model_class = open_clip.model.CustomTextCLIP if is_custom else open_clip.model.CLIP
    return drawn(model_class(**arguments), seed)


class ClipImage(torch.nn.Module):
    """A CLIPModel's image tower with its projection: image_embeds and last_hidden_state."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        output = self.model.vision_model(pixel_values=pixel_values)
        return self.model.visual_projection(output.pooler_output), output.last_hidden_state


class ClipText(torch.nn.Module):
    """A CLIPModel's text tower with its projection: text_embeds and last_hidden_state."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask=None):
        output = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask)
        return self.model.text_projection(output.pooler_output), output.last_hidden_state


class ClipBoth(torch.nn.Module):
    """A whole CLIPModel, with the outputs in the order of the published exports."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, pixel_values, attention_mask):
        output = self.model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
        return output.logits_per_image, output.logits_per_text, output.text_embeds, output.image_embeds


class SiglipTower(torch.nn.Module):
    """One tower of a SiglipModel: last_hidden_state and pooler_output."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, values):
        output = self.tower(values)
        return output.last_hidden_state, output.pooler_output


class VisionTower(torch.nn.Module):
    """Outputs of an image tower alone, by their names."""

    def __init__(self, model, outputs: list[str]):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixel_values):
        output = self.model(pixel_values=pixel_values)
        return tuple(getattr(output, name) for name in self.outputs)
