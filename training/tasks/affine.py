"""Random rotation, shift and scale of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["random_affine"]


def random_affine(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, shift and scale each image at random, with bilinear interpolation and zeros outside.

    At strength 1 the standard deviations are 0.25 rad of rotation, 3 % of the width of shift and 8 % of
    scale.

    Parameters
    ----------
    images
        (batch, height, width).
    strength
        Multiplies all three.
    """
    draws = torch.randn(len(images), 4, generator=generator).to(images.device) * strength
    angle, scale, shift = 0.25 * draws[:, 0], 1 + 0.08 * draws[:, 1], 0.06 * draws[:, 2:]
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    grid = F.affine_grid(
        torch.cat([matrix, shift[:, :, None]], 2), [len(images), 1, *images.shape[1:]], align_corners=False
    )
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
