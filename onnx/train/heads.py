"""The trained parts: what stands between the frozen halves and the shared space of 384 dimensions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from halves import GRID_CELLS, GRID_WIDTH, PHOTO_WIDTH, TEXT_WIDTH

EMBEDDING_WIDTH = 384


class ClassAttentionBlock(nn.Module):
    """A pre-norm transformer block in which the class token alone looks at the grid and changes (CaiT, section 3)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(GRID_WIDTH, 2 * width)
        self.attention_output = nn.Linear(width, width)
        self.expand_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def attend(self, class_token: Tensor, grid: Tensor) -> Tensor:
        query = self.query(class_token).unflatten(-1, (self.heads, 1, -1))
        key, value = self.key_value(grid).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        return self.attention_output((scores.softmax(-1).to(value.dtype) @ value).flatten(1))

    def forward(self, class_token: Tensor, grid: Tensor) -> Tensor:
        class_token = class_token + self.dropout(self.attend(self.attention_norm(class_token), grid))
        expanded = functional.gelu(self.expand(self.expand_norm(class_token)))
        return class_token + self.dropout(self.contract(expanded))


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


class GridHead(nn.Module):
    """Class attention over the grid of the image half; the class token begins as the pooled features."""

    def __init__(self, blocks: int, width: int = 384, heads: int = 6, dropout: float = 0.0):
        super().__init__()
        self.grid_norm = nn.LayerNorm(GRID_WIDTH)
        self.positions = nn.Parameter(torch.randn(GRID_CELLS, GRID_WIDTH) * 0.02)
        self.class_norm = nn.LayerNorm(PHOTO_WIDTH)
        self.class_input = nn.Linear(PHOTO_WIDTH, width)
        self.blocks = nn.ModuleList(ClassAttentionBlock(width, heads, dropout) for _ in range(blocks))
        self.output_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, EMBEDDING_WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled: Tensor, grid: Tensor) -> Tensor:
        class_token = self.class_input(self.dropout(self.class_norm(pooled)))
        grid = self.grid_norm(grid) + self.positions
        for block in self.blocks:
            class_token = block(class_token, grid)
        return self.output(self.output_norm(class_token))


class ImageHead(nn.Module):
    """The sum of the pooled head and, with one block or more, the grid head."""

    def __init__(self, blocks: int, dropout: float):
        super().__init__()
        self.pooled = PooledHead(dropout=dropout)
        self.grid = GridHead(blocks, dropout=dropout / 2) if blocks else None

    def forward(self, pooled: Tensor, grid: Tensor | None) -> Tensor:
        embedding = self.pooled(pooled)
        if self.grid is not None:
            embedding = embedding + self.grid(pooled, grid)
        return functional.normalize(embedding.float(), dim=-1)


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
        self.image = ImageHead(blocks, dropout)
        self.text = TextHead()
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))

    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=100.0)
