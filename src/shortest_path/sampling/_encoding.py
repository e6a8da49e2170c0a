"""Images to noise by the probability-flow ODE: encoding, likelihood, and interpolation between encodings.

In the rotation form (`shortest_path.solvers.Rotation`) the whitened coefficients y follow dy = v̂ dθ, so that

    log p(u_0) = log N(y_1; 0, σ² / r_1²) + ∫ Σ_f ∂v̂_f/∂y_f dθ_f − Σ_f log r_0

with r_0 and r_1 the radii at the data and at the first time, and σ² the variance of the noise from which samples start,
r_1² where the data's power is known. Everything Gaussian is then in the first and last terms, without any error; only
what is not Gaussian is integrated, with random signs ε for the trace (Hutchinson):

    ∂v̂_f/∂y_f ≈ ε_f (εᵀ ∂v̂/∂y)_f

Source: Song et al. 2021, arXiv:2011.13456, appendix D.2; Grathwohl et al. 2019, arXiv:1810.01367; per coefficient,
docs/theory.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_floating, check_numbers, check_sizes
from .._exact import exact_dtype
from ..corruptions import Point
from ..solvers import Rotation, extrapolation

_MOST_NOISE = (
    2.0  # that a model may find in images without noise, in units of the noise; on average it finds less than 1
)


class Encoded(NamedTuple):
    """Whitened noise y_1, the radii at both ends, and the integral of the trace for every image (B,)."""

    y_1: Tensor
    radius_0: Tensor
    radius_1: Tensor
    log_volume: Tensor


def encode(
    u_0: Tensor,
    steps: int,
    numbers: Callable[..., Sequence[Tensor]],
    denoise: Callable[[Tensor, int], Tensor],
    *,
    from_data: bool,
    predicts_data: bool = False,
    probes: Sequence[Tensor] = (),
) -> Encoded:
    """Follow the ODE from images to noise: predicted by Adams–Bashforth, corrected by the trapezoidal rule.

    Calls the model once a step, where the step ends, and with `from_data` nowhere else.

    Args:
        u_0: Coefficients at the first time, (B, C, *spatial).
        steps: Number of steps.
        numbers: `numbers(find, *ks)` returns what `find` makes of the scales at some of the rising times, each of
            k = 0 … steps, in the type of `u_0`: `find(power, *points)` is elementwise. A power that is not the data's
            costs accuracy, not correctness.
        denoise: Returns û_0 for coefficients at the k-th time.
        from_data: Whether the first time is the data's end, where v̂ is 0/0: the first step then takes the later slope.
        predicts_data: Whether the model's output is û_0. The slope then has a limit at the data's end only if the model
            returns images without noise as they are; a warning tells if it does not.
        probes: Random signs for the trace, each of the shape of `u_0`.
    """

    def slope(y: Tensor, k: int) -> tuple[Tensor, Tensor]:
        radius, of_state, of_data = numbers(_slopes, k)

        def along(y: Tensor) -> Tensor:
            u_t = radius * y
            return (of_state * u_t).addcmul_(of_data, denoise(u_t, k))

        if not probes:
            return along(y), y.new_zeros(()).expand_as(y)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            v = along(y)
            trace = torch.zeros_like(y)
            for index, probe in enumerate(probes):
                more = index + 1 < len(probes)
                trace += probe * torch.autograd.grad(v, y, probe, retain_graph=more)[0]
        return v.detach(), trace / len(probes)

    (radius_0,), (radius_1,) = numbers(_radius, 0), numbers(_radius, steps)
    y = u_0 / radius_0
    log_volume = y.new_zeros(len(y))
    now = None if from_data else slope(y, 0)
    extrapolated = None if now is None else now[0]
    noise_found = None
    for k in range(1, steps + 1):
        (turn,) = numbers(_turn, k - 1, k)
        then = slope(y if extrapolated is None else y + turn * extrapolated, k)
        if now is None and predicts_data:
            noise_found = _noise_found(y, then[0], turn)
        mean = then if now is None else ((now[0] + then[0]) / 2, (now[1] + then[1]) / 2)
        y = torch.addcmul(y, turn, mean[0])
        log_volume = log_volume + (turn * mean[1]).flatten(1).sum(1)
        extrapolated = then[0]
        if now is not None and k < steps:
            (weight,) = numbers(_weight, k - 1, k, k + 1)
            extrapolated = then[0] + weight * (then[0] - now[0])
        now = then
    if noise_found is not None:  # at the end, as a GPU would wait here
        _warn_of_noise(noise_found)
    return Encoded(y, radius_0, radius_1, log_volume)


def _noise_found(y: Tensor, slope: Tensor, angle: Tensor) -> Tensor:
    """Return the root mean square of η̂ = sin θ y + cos θ v̂ over the coefficients that have begun; v̂ is 0 elsewhere."""
    found = torch.sin(angle) * y + torch.cos(angle) * slope
    return (found.square().sum() / (angle > 0).expand(y.shape).sum()).sqrt()


def _warn_of_noise(found: Tensor) -> None:
    if (size := found.item()) > _MOST_NOISE:
        warnings.warn(
            f"right after the images' end of time the model takes them for noisy, by {size:.3g} times the noise that "
            "is there: a model that predicts 'data' must return images without noise as they are, or what is encoded "
            "and its likelihood change with the steps; pass times that end above 0",
            RuntimeWarning,
            stacklevel=5,
        )


def _radius(power: Tensor, at: Point) -> tuple[Tensor, ...]:
    return (Rotation(power).whitened(at).radius,)


def _slopes(power: Tensor, at: Point) -> tuple[Tensor, ...]:
    """Return r, and the weights of the slope; see `Rotation`."""
    form = Rotation(power)
    return form.whitened(at).radius, *form.slope_weights(at)


def _turn(power: Tensor, start: Point, end: Point) -> tuple[Tensor, ...]:
    return (Rotation(power).length(start, end),)


def _weight(power: Tensor, before: Point, here: Point, there: Point) -> tuple[Tensor, ...]:
    form = Rotation(power)
    behind = form.length(before, here)
    return (extrapolation(form.length(here, there), behind, form.most),)


def log_density(encoded: Encoded, deviation: Tensor) -> Tensor:
    """Return log p(u_0) in nats, (B,).

    Args:
        encoded: Images that were encoded with probes.
        deviation: That of the noise from which samples start, broadcastable to coefficients: r_1 where the form knows
            the data's power.
    """
    stretch = (encoded.radius_1 / deviation).to(encoded.y_1)
    z = (stretch * encoded.y_1).flatten(1)
    normal = -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))
    return normal + encoded.log_volume + (stretch / encoded.radius_0).log().expand_as(encoded.y_1[:1]).sum()


def bits_per_dim(log_likelihood: Tensor, shape: Sequence[int], *, scale: float = 127.5) -> Tensor:
    """Return log-likelihoods as bits per dimension of images stored in whole levels.

        −log₂ p(x) / D + log₂ scale

    Args:
        log_likelihood: log p(x) in nats, as `Sampler.log_likelihood` returns it.
        shape: Shape of one image, (C, *spatial).
        scale: Levels in a unit of x: 127.5 for 8-bit images in [-1, 1]. Add uniform noise of one level to such images
            before their likelihood is taken: a density of whole levels has no bound.

    Raises:
        TypeError: `log_likelihood` is not a floating-point tensor, or `shape` not made of whole numbers.
        ValueError: a size below 1, or `scale` not positive and finite.

    Example:
        >>> bits_per_dim(torch.tensor([-1000.0]), (3, 8, 8))
        tensor([14.5084])
    """
    check_floating(log_likelihood, "log_likelihood")
    sizes = check_sizes("shape", shape)
    check_numbers(scale=scale)
    if min(sizes, default=0) < 1 or not 0 < scale < math.inf:
        raise ValueError(f"every size and scale must be positive and finite, got shape {sizes} and scale {scale}")
    size = math.prod(sizes)
    return -log_likelihood / (size * math.log(2)) + math.log2(scale)


def spherical(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """Return the point between a and b on the arc from one to the other, image by image: where noise keeps its length.

    Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    exact = exact_dtype(a.device)
    flat = a.flatten(1).to(exact), b.flatten(1).to(exact)
    cosine = torch.nn.functional.cosine_similarity(*flat).clamp(-1, 1)
    angle = torch.acos(cosine)
    straight = angle.sin() < 1e-6
    safe = torch.where(straight, torch.ones_like(angle), angle)
    of_a = torch.where(
        straight, torch.full_like(angle, 1 - fraction), torch.sin((1 - fraction) * safe) / torch.sin(safe)
    )
    of_b = torch.where(straight, torch.full_like(angle, fraction), torch.sin(fraction * safe) / torch.sin(safe))
    sides = (-1, *(1,) * (a.ndim - 1))
    return of_a.to(a.dtype).view(sides) * a + of_b.to(a.dtype).view(sides) * b
