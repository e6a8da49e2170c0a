"""Agreement of the reference code and this library: x_t, reverse steps and signal-to-noise ratios."""

from __future__ import annotations

import types
from typing import Any

import mpmath  # torch itself depends on it, through sympy
import numpy as np
import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.generated_images import generated_images
from benchmarks.reference import BATCH, CONSTANTS, SHAPE, grid

SAME_X_T, SAME_STEP = 1e-4, 1e-3  # tolerances, for the reference's float32 cumulative products


def largest_corrupt_difference(reference: Any, ours: sp.ShortestPathCorruption, steps: int) -> float:
    """Corrupt the same images with the same noise at times over all of [0, 1]; return the largest difference."""
    torch.manual_seed(0)
    x_0 = generated_images(BATCH)
    index = torch.linspace(0, steps - 1, BATCH).round().long()
    eps, theirs = reference.q_sample(x_0, index)
    return (ours.corrupt(x_0, grid(steps)[index], eps) - theirs).abs().max().item()


def largest_step_difference(
    fourier: types.ModuleType, reference: Any, ours: sp.ShortestPathCorruption, steps: int
) -> float:
    """Take a reverse step from the same images with the same noise at several times; return the largest difference."""
    x_0, times = generated_images(BATCH), sp.grids.Reference()(steps)
    draw_noise = fourier.pixel_and_fourier_noise
    worst = 0.0
    for index in (0, 1, steps // 10, steps // 2, 9 * steps // 10, steps - 1):
        pair = times[steps - 1 - index : steps + 1 - index]
        eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
        x_t = ours.corrupt(x_0, float(pair[0]), eps)
        predicted = eps + 0.1 * torch.randn(x_0.shape, generator=torch.Generator().manual_seed(2))
        sampler = sp.Sampler(lambda x, t, answer=predicted: answer, ours, solver="ancestral", times=pair)
        mine = sampler.sample(x_0.shape, x_1=x_t, generator=torch.Generator().manual_seed(3))
        # Our sampler makes white noise in coefficients: pass the same noise, in pixels, to the reference.
        noise = ours.basis.synthesize(torch.randn(x_0.shape, generator=torch.Generator().manual_seed(3)))
        try:
            fourier.pixel_and_fourier_noise = lambda *_, white=noise, **__: (white, torch.fft.fft2(white, norm="ortho"))
            position = torch.full((BATCH,), index)
            theirs = reference.p_sample(lambda x, t, answer=predicted: answer, x_t, position)["sample"]
        finally:
            fourier.pixel_and_fourier_noise = draw_noise
        worst = max(worst, (mine - theirs).abs().max().item())
    return worst


def check_same(x_t_error: float, step_error: float) -> None:
    """Stop unless both sides compute the same thing."""
    if not (x_t_error <= SAME_X_T and step_error <= SAME_STEP):
        raise SystemExit(
            f"the two sides differ: x_t by {x_t_error:.2g} (tolerance {SAME_X_T:g}), a reverse step "
            f"by {step_error:.2g} (tolerance {SAME_STEP:g}); is the clone the original, unmodified?"
        )


def snr_errors(reference: Any, ours: sp.ShortestPathCorruption, steps: int) -> tuple[float, float, float]:
    """Return the largest relative error of a_t² / s_t² over all times and coefficients.

    Returns:
        The reference's error, with its float32 cast in q_sample; our error in float32; and the change by rounding t to
        float32, which is no error of either.
    """
    log_power = sp.PowerSpectrum.power_law(SHAPE, **CONSTANTS).power[:1].log()
    check_closed_form(log_power, steps)
    exact, rounded = grid(steps), grid(steps).float()
    worst_reference, worst_ours, worst_rounding = 0.0, 0.0, 0.0
    for begin in range(0, steps, 250):
        part = slice(begin, begin + 250)
        truth = closed_form_snr(log_power, exact[part])
        truth_rounded = closed_form_snr(log_power, rounded[part].double())
        tables = reference.sqrt_alphas_cumprod, reference.sqrt_one_minus_alphas_cumprod
        theirs = squared_ratio(*(table[part, :1] for table in tables))
        mine = squared_ratio(*(scale.numpy() for scale in ours.scales(rounded[part])))
        worst_reference = max(worst_reference, (theirs / truth - 1).abs().max().item())
        worst_ours = max(worst_ours, (mine / truth_rounded - 1).abs().max().item())
        worst_rounding = max(worst_rounding, (truth_rounded / truth - 1).abs().max().item())
    return worst_reference, worst_ours, worst_rounding


def squared_ratio(signal: np.ndarray, noise: np.ndarray) -> Tensor:
    """Return (a/s)² in float64 of scales rounded to float32."""
    a, s = (torch.from_numpy(scale).float().double() for scale in (signal, noise))
    return (a / s) ** 2


def closed_form_snr(log_power: Tensor, t: Tensor) -> Tensor:
    """Return a_t² / s_t² = expm1((1 − t) L) / (exp((1 − t) L) expm1(t L)), float64."""
    time = t[:, None, None, None]
    rest = (1 - time) * log_power
    return torch.expm1(rest) / (torch.exp(rest) * torch.expm1(time * log_power))


def check_closed_form(log_power: Tensor, steps: int) -> None:
    """Stop unless the float64 closed form agrees with 50 digits of the textbook form (1 − S^(1−t)) / (S^(1−t) − S)."""
    few_times, few_powers = grid(steps)[:: max(steps // 16, 1)], log_power.flatten().sort().values[::128]
    values = closed_form_snr(few_powers[None, :, None], few_times)[:, 0, :, 0]
    with mpmath.workdps(50):
        for i, t in enumerate(few_times.tolist()):
            for j, exponent in enumerate(few_powers.tolist()):
                later = mpmath.exp((1 - mpmath.mpf(t)) * mpmath.mpf(exponent))
                exact = (1 - later) / (later - mpmath.exp(exponent))
                if abs(values[i, j].item() / exact - 1) > 1e-12:
                    raise SystemExit(f"the closed form in float64 is off by more than 1e-12 at t = {t}, L = {exponent}")
