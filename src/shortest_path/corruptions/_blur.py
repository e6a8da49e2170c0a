"""Blur and noise together: diffusion with blurring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from .._checks import check_fraction, check_sizes
from ..bases import CosineBasis
from ._elementwise import ElementwiseCorruption, Pick
from ._heat_kernel import check_positive, heat_kernel, laplacian_eigenvalues
from ._registry import register


@register
class BlurCorruption(ElementwiseCorruption):
    """Blur and noise together, diagonal in the cosine basis.

        λ_k = Σ_axes (π k / N)²,    σ(t) = σ_max sin²(πt/2),    d_t = (1 − d_min) exp(−λ σ(t)²/2) + d_min
        a_t = d_t cos φ_t,    s_t = sin φ_t,    φ_t = ℓ_0 t + ℓ_1

    which is √sigmoid(±logsnr(t)) with logsnr(t) = −2 log tan φ_t running from `log_snr_max` to −`log_snr_max`.

    Args:
        max_blur: σ_max, the standard deviation of the final blur in pixels; 20 is the paper's for CIFAR-10.
        min_scale: d_min, the fraction of every frequency that blurring leaves.
        spatial: Size of the spatial axes.
        log_snr_max: Largest log signal-to-noise ratio, reached at t = 0.
        channel_rotation: Orthonormal (C, C) rotation of the channels, or None.

    Raises:
        ValueError: a parameter out of range, or `t` outside [0, 1].

    Source: Hoogeboom & Salimans 2022, arXiv:2209.05557, section 4 and appendix A.
    """

    argument_names = ("max_blur", "min_scale", "log_snr_max", "spatial", "channel_rotation")
    eigenvalues: Tensor

    def __init__(
        self,
        max_blur: float = 20.0,
        min_scale: float = 1e-3,
        *,
        spatial: Sequence[int] = (32, 32),
        log_snr_max: float = 10.0,
        channel_rotation: Tensor | None = None,
    ) -> None:
        check_positive(max_blur=max_blur, log_snr_max=log_snr_max)
        spatial = check_sizes("spatial", spatial, "(one size per axis)")
        check_fraction("min_scale", min_scale)
        super().__init__(CosineBasis(len(spatial), channel_rotation))
        self.max_blur = max_blur
        self.min_scale = min_scale
        self.log_snr_max = log_snr_max
        self.register_buffer("eigenvalues", laplacian_eigenvalues(spatial), persistent=False)

    @override
    def arguments(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in self.argument_names[:3]}
        ours = {"spatial": tuple(self.eigenvalues.shape[1:]), "channel_rotation": self.basis.channel_rotation}
        return own | ours

    @override
    def _scales(self, time: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        blur = self.max_blur * torch.sin(math.pi / 2 * time) ** 2
        kept = (1 - self.min_scale) * heat_kernel(pick(self.eigenvalues).to(time.dtype), blur) + self.min_scale
        # cos φ_t as the sine of the angle at 1 − t: never below 0, where φ_1 rounds to more than π/2.
        return torch.sin(self._angle(1 - time)) * kept, torch.sin(self._angle(time))

    @override
    def extra_repr(self) -> str:
        return f"max_blur={self.max_blur}, min_scale={self.min_scale}, spatial={tuple(self.eigenvalues.shape[1:])}"

    def _angle(self, t: Tensor) -> Tensor:
        first = math.atan(math.exp(-self.log_snr_max / 2))
        return first + (math.pi / 2 - 2 * first) * t
