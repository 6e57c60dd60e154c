"""Models whose classes lie beside their weights and in no package, told again: what is done around their transformers.

The transformers themselves are those of a package, since only their shape matters here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class JinaClip(torch.nn.Module):
    """Jina CLIP: hf_model.py and modeling_clip.py of jinaai/jina-clip-implementation.

    `HFTextEncoder.forward` makes a mask of all ids that are not the pad's, and `MeanPooler` takes the mean of those
    rows. `HFVisionEncoder` takes the class token's row. Of v2 both are projected to nothing else, and the exported graph
    gives the rows and their unit rows. Without `hides_padding` all ids are words, as in a graph that lost its mask.
    """

    PAD = 1

    def __init__(self, vocabulary: int, positions: int, side: int, width: int, hides_padding: bool = True):
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel, XLMRobertaConfig, XLMRobertaModel

        shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1, "num_attention_heads": 2}
        text = XLMRobertaConfig(vocab_size=vocabulary, max_position_embeddings=positions, pad_token_id=self.PAD, **shape)
        vision = CLIPVisionConfig(image_size=side, patch_size=8, **shape)
        text._attn_implementation = vision._attn_implementation = "eager"
        self.text = XLMRobertaModel(text, add_pooling_layer=False)
        self.vision = CLIPVisionModel(vision)
        self.hides_padding = hides_padding

    def get_text_features(self, input_ids: torch.Tensor) -> torch.Tensor:
        mask = (input_ids != self.PAD).long() if self.hides_padding else torch.ones_like(input_ids)
        hidden = self.text(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(-1, keepdim=True)

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.vision(pixel_values=pixel_values).last_hidden_state[:, 0]

    def forward(self, input_ids: torch.Tensor, pixel_values: torch.Tensor):
        texts, images = self.get_text_features(input_ids), self.get_image_features(pixel_values)
        unit = [torch.nn.functional.normalize(rows, p=2, dim=-1) for rows in (texts, images)]
        return texts, images, *unit


class JinaTexts(torch.nn.Module):
    """The text half of a `JinaClip`."""

    def __init__(self, model: JinaClip):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_text_features(input_ids)


class Hidden(torch.nn.Module):
    """The last_hidden_state of a model, by the order of its graph's inputs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, values, token_type_ids=None, attention_mask=None):
        if attention_mask is None:
            return self.model(values).last_hidden_state
        output = self.model(input_ids=values, token_type_ids=token_type_ids, attention_mask=attention_mask)
        return output.last_hidden_state


def nomic_rows(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the cards of nomic-embed-text-v1.5 and nomic-embed-vision-v1.5 make of a text's tokens.

    `mean_pooling`, then `layer_norm` without weights; both bring rows to unit length afterwards, the first one after
    cutting them.
    """
    parts = mask.unsqueeze(-1).to(hidden.dtype)
    rows = (hidden * parts).sum(1) / parts.sum(1).clamp(min=1e-9)
    return torch.nn.functional.layer_norm(rows, normalized_shape=(rows.shape[1],))


@contextmanager
def without_causal_mask() -> Iterator[None]:
    """transformers' CLIP with text attention that sees every token, as MobileCLIP's does."""
    from transformers.models.clip import modeling_clip

    own = modeling_clip.create_causal_mask
    modeling_clip.create_causal_mask = lambda *_, **__: None
    try:
        yield
    finally:
        modeling_clip.create_causal_mask = own
