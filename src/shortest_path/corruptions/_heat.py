"""Pure blur: heat dissipation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_sizes
from ..bases import CosineBasis
from ._elementwise import ElementwiseCorruption, Pick
from ._heat_kernel import check_positive, heat_kernel, laplacian_eigenvalues
from ._registry import register


@register
class HeatDissipationCorruption(ElementwiseCorruption):
    """Pure blur with a little constant noise, diagonal in the cosine basis.

        a_t = exp(−λ σ(t)²/2),    s_t = noise_level,    σ(t) = min_blur^(1−t) max_blur^t

    At t = 1 an image is blurred, not noise: sampling starts from blurred training images, so pass them
    to `Sampler.sample` as `x_1`.

    Args:
        max_blur: Final blur in pixels; 24 is the paper's for CIFAR-10.
        min_blur: Blur at t = 0 in pixels.
        noise_level: Standard deviation of the noise at every time.
        spatial: Size of the spatial axes.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Raises:
        ValueError: a parameter out of range, or `t` outside [0, 1].

    Source: Rissanen et al. 2022, arXiv:2206.13397, equations 2, 9 and appendix B.
    """

    argument_names = ("max_blur", "min_blur", "noise_level", "spatial", "channel_rotation")
    eigenvalues: Tensor

    def __init__(
        self,
        max_blur: float = 24.0,
        min_blur: float = 0.5,
        noise_level: float = 0.01,
        *,
        spatial: Sequence[int] = (32, 32),
        channel_rotation: Tensor | None = None,
    ) -> None:
        check_positive(max_blur=max_blur, min_blur=min_blur, noise_level=noise_level)
        spatial = check_sizes("spatial", spatial, "(one size per axis)")
        if min_blur > max_blur:
            raise ValueError(f"min_blur must not exceed max_blur, got {min_blur} > {max_blur}")
        super().__init__(CosineBasis(len(spatial), channel_rotation))
        self.max_blur = max_blur
        self.min_blur = min_blur
        self.noise_level = noise_level
        self.register_buffer("eigenvalues", laplacian_eigenvalues(spatial), persistent=False)

    @override
    def arguments(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in self.argument_names[:3]}
        ours = {"spatial": tuple(self.eigenvalues.shape[1:]), "channel_rotation": self.basis.channel_rotation}
        return own | ours

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        blur = self.min_blur ** (1 - time) * self.max_blur**time
        return heat_kernel(pick(self.eigenvalues).to(time.dtype), blur), torch.full_like(time, self.noise_level)

    @override
    def extra_repr(self) -> str:
        return f"max_blur={self.max_blur}, min_blur={self.min_blur}, noise_level={self.noise_level}"
