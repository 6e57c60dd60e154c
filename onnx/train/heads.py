"""The trained parts: what stands between the frozen halves and the shared space of 384 dimensions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from halves import GRID_CELLS, GRID_WIDTH, PHOTO_WIDTH, TEXT_WIDTH

EMBEDDING_WIDTH = 384


class EncoderBlock(nn.Module):
    """A block of the vision transformer (Dosovitskiy et al. 2021): attention and an MLP, each after a layer norm."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.attention_output = nn.Linear(width, width)
        self.expand_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, wanted: int) -> Tensor:
        """The first `wanted` tokens, after they have looked at all."""
        normed = self.attention_norm(hidden)
        query = self.query(normed[:, :wanted]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(normed).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        attended = (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
        hidden = hidden[:, :wanted] + self.dropout(self.attention_output(attended))
        return hidden + self.dropout(self.contract(functional.gelu(self.expand(self.expand_norm(hidden)))))


class PooledHead(nn.Module):
    """Pooled features to an embedding: a linear layer and one residual MLP."""

    def __init__(self, width: int = 768, hidden: int = 1024, dropout: float = 0.0):
        super().__init__()
        self.input_norm = nn.LayerNorm(PHOTO_WIDTH)
        self.input = nn.Linear(PHOTO_WIDTH, width)
        self.middle_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.output = nn.Linear(width, EMBEDDING_WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled: Tensor) -> Tensor:
        hidden = self.input(self.dropout(self.input_norm(pooled)))
        expanded = functional.gelu(self.expand(self.middle_norm(hidden)))
        return self.output(hidden + self.contract(self.dropout(expanded)))


class GridTransformer(nn.Module):
    """The hybrid vision transformer (section 3.1 there): the cells of the grid are its patches.

    The class token also takes the pooled features; the last block computes that token alone.
    """

    def __init__(self, blocks: int, width: int = 384, heads: int = 6, dropout: float = 0.0):
        super().__init__()
        self.grid_norm = nn.LayerNorm(GRID_WIDTH)
        self.grid_input = nn.Linear(GRID_WIDTH, width)
        self.pooled_norm = nn.LayerNorm(PHOTO_WIDTH)
        self.pooled_input = nn.Linear(PHOTO_WIDTH, width)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1 + GRID_CELLS, width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, dropout) for _ in range(blocks))
        self.output_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, EMBEDDING_WIDTH)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, pooled: Tensor, grid: Tensor) -> Tensor:
        class_token = self.class_token + self.pooled_input(self.pooled_norm(pooled))
        patches = self.grid_input(self.grid_norm(grid))
        hidden = torch.cat([class_token[:, None].to(patches.dtype), patches], 1) + self.positions
        for number, block in enumerate(self.blocks, 1):
            hidden = block(hidden, 1 if number == len(self.blocks) else 1 + GRID_CELLS)
        return self.output(self.output_norm(hidden[:, 0]))


class ImageHead(nn.Module):
    """The sum of the pooled head and, with one block or more, the transformer, which begins at zero."""

    def __init__(self, blocks: int, dropout: float):
        super().__init__()
        self.pooled = PooledHead(dropout=dropout)
        self.transformer = GridTransformer(blocks, dropout=dropout / 2) if blocks else None

    def forward(self, pooled: Tensor, grid: Tensor | None) -> Tensor:
        return self.join(pooled, self.transformer(pooled, grid) if self.transformer is not None else 0.0)

    def join(self, pooled: Tensor, transformed: Tensor | float) -> Tensor:
        """The embedding, where the transformer's output is there already."""
        return functional.normalize((self.pooled(pooled) + transformed).float(), dim=-1)


class TextHead(nn.Module):
    """A sentence vector to an embedding: a linear layer that begins as the identity, and a residual MLP that begins at zero."""

    def __init__(self, hidden: int = 1536, dropout: float = 0.1):
        super().__init__()
        self.straight = nn.Linear(TEXT_WIDTH, EMBEDDING_WIDTH)
        self.expand = nn.Linear(TEXT_WIDTH, hidden)
        self.contract = nn.Linear(hidden, EMBEDDING_WIDTH)
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.straight.weight)
        nn.init.zeros_(self.straight.bias)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, sentence: Tensor) -> Tensor:
        expanded = functional.gelu(self.expand(sentence * 8.0))
        embedding = self.straight(sentence) + self.contract(self.dropout(expanded))
        return functional.normalize(embedding.float(), dim=-1)


class Heads(nn.Module):
    """Both heads and the scale of the similarities."""

    def __init__(self, blocks: int, dropout: float = 0.0):
        super().__init__()
        self.blocks = blocks
        self.image = ImageHead(blocks, dropout)
        self.text = TextHead()
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=100.0)
