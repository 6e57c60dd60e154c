"""The tuned blocks of the image half as matrix products, which train several times faster than convolutions on a CPU.

Batch norms are folded into the weights and no longer follow the photos. Hidden states are [channels, photos, cells]: a
pointwise convolution is then one product, and a depthwise one is, for each channel, a product with the matrix that a 3 x 3
or 5 x 5 kernel makes on a grid this small.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import photos
from halves import FIRST_TUNED_BLOCK, TRUNK_SIDE, PhotoBackbone, load_photo_backbone


def fold_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Move a batch norm into the convolution before it and leave it without effect."""
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    convolution.weight.data = convolution.weight.data * factor[:, None, None, None]
    bias = norm.bias - norm.running_mean * factor
    convolution.bias = nn.Parameter(bias.detach())


def fold_batch_norms(network: nn.Module) -> None:
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        pairs += [(block, "_expand_conv", "_bn0"), (block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for owner, convolution, norm in pairs:
        if hasattr(owner, convolution):
            fold_batch_norm(getattr(owner, convolution), getattr(owner, norm))
            setattr(owner, norm, nn.Identity())


@dataclass
class Grid:
    """A convolution's window on a square grid, padded as TensorFlow's 'same'."""

    side: int
    kernel: int
    stride: int

    @property
    def output_side(self) -> int:
        return -(-self.side // self.stride)

    def places(self) -> Tensor:
        """[kernel cells, input cells * output cells]: 1 where a kernel cell leads from an input to an output cell."""
        missing = max((self.output_side - 1) * self.stride + self.kernel - self.side, 0)
        span, out = torch.arange(self.side), torch.arange(self.output_side)
        offset = span[:, None] + missing // 2 - self.stride * out[None, :]
        along = (offset == torch.arange(self.kernel)[:, None, None]).float()
        both = torch.einsum("yio,xjp->yxijop", along, along)
        return both.reshape(self.kernel**2, self.side**2 * self.output_side**2)


class Pointwise(nn.Module):
    """A 1 x 1 convolution."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.detach().flatten(1).clone())
        self.bias = nn.Parameter(convolution.bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.weight, hidden.flatten(1)).unflatten(1, hidden.shape[1:])

    def store(self, convolution: nn.Conv2d) -> None:
        convolution.weight.data = self.weight.detach().clone()[:, :, None, None]
        convolution.bias.data = self.bias.detach().clone()


class Depthwise(nn.Module):
    """A depthwise convolution."""

    def __init__(self, convolution: nn.Conv2d, grid: Grid):
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.detach().flatten(1).clone())
        self.bias = nn.Parameter(convolution.bias.detach().clone())
        self.cells = (grid.side**2, grid.output_side**2)
        self.register_buffer("places", grid.places(), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        matrices = (self.weight @ self.places).unflatten(1, self.cells)
        return torch.baddbmm(self.bias[:, None, None], hidden, matrices)

    def store(self, convolution: nn.Conv2d) -> None:
        convolution.weight.data = self.weight.detach().clone().view_as(convolution.weight)
        convolution.bias.data = self.bias.detach().clone()


def relu6(hidden: Tensor) -> Tensor:
    return functional.hardtanh(hidden, 0.0, 6.0)


class Block(nn.Module):
    """An inverted residual block: expand, depthwise, project."""

    def __init__(self, block: nn.Module, side: int):
        super().__init__()
        kernel, stride = block._depthwise_conv.kernel_size[0], block._depthwise_conv.stride[0]
        grid = Grid(side, kernel, stride)
        self.side = grid.output_side
        self.expand = Pointwise(block._expand_conv)
        self.depthwise = Depthwise(block._depthwise_conv, grid)
        self.project = Pointwise(block._project_conv)
        self.has_skip = stride == 1 and block._expand_conv.in_channels == block._project_conv.out_channels

    def forward(self, hidden: Tensor) -> Tensor:
        changed = self.project(relu6(self.depthwise(relu6(self.expand(hidden)))))
        return hidden + changed if self.has_skip else changed

    def store(self, block: nn.Module) -> None:
        self.expand.store(block._expand_conv)
        self.depthwise.store(block._depthwise_conv)
        self.project.store(block._project_conv)


class Tail(nn.Module):
    """Everything of the image half after the trunk: [batch, 88, 12, 12] to pooled features and grid."""

    def __init__(self, backbone: PhotoBackbone):
        """Starts as the published weights, whose batch norms must be folded."""
        super().__init__()
        side, blocks = TRUNK_SIDE, []
        for block in backbone.network._blocks[FIRST_TUNED_BLOCK:]:
            blocks.append(Block(block, side))
            side = blocks[-1].side
        self.blocks = nn.ModuleList(blocks)
        self.last = Pointwise(backbone.network._conv_head)

    def forward(self, trunk: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [batch, 1280] and the grid [batch, 36, 352]."""
        hidden = trunk.flatten(2).transpose(0, 1).contiguous()
        for block in self.blocks:
            hidden = block(hidden)
        pooled = relu6(self.last(hidden)).float().mean(2).T
        return pooled, hidden.permute(1, 2, 0)

    def store(self, backbone: PhotoBackbone) -> None:
        """Write the weights into the half they came from."""
        for ours, theirs in zip(self.blocks, backbone.network._blocks[FIRST_TUNED_BLOCK:], strict=True):
            ours.store(theirs)
        self.last.store(backbone.network._conv_head)


def load_tail(halves: Path) -> tuple[PhotoBackbone, Tail]:
    """The image half as it was published, its batch norms folded, and its tail."""
    backbone = load_photo_backbone(halves, photos.IMAGE_SIZE)
    fold_batch_norms(backbone.network)
    return backbone, Tail(backbone)
