"""Sampling under hypothesis: a right answer, checked by a law, or a documented exception. Never anything else."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

import shortest_path as sp
from shortest_path.prediction import denoise, target
from shortest_path.solvers import forward_weights, posterior_weights
from tests.strategies import (
    DTYPES,
    FAST,
    attempt,
    close,
    corruptions,
    fuzz,
    image_shapes,
    mild,
    noise,
    odd_numbers,
    odd_objects,
    odd_tensors,
    rotation,
    seeds,
    spectra,
    unit,
)
from tests.worlds import SOLVERS, GaussianDenoiser, point


def nothing(x_t: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
    return torch.zeros_like(x_t)


@fuzz(80)
@given(
    st.data(),
    image_shapes(most=4),
    st.sampled_from(["noise", "data", "velocity"]),
    st.integers(1, 5),
    st.integers(0, 2),
)
def test_gaussian_data_are_sampled_and_scored_exactly(
    data: Any, shape: tuple[int, ...], prediction: Any, steps: int, batch: int
) -> None:
    spectrum = data.draw(spectra(shape, mild))
    corruption = sp.ShortestPathCorruption(spectrum)
    model = GaussianDenoiser(corruption, spectrum.power, prediction)
    solver = sp.solvers.Multistep(corrector=False)
    sampler = sp.Sampler(model, corruption, prediction=prediction, solver=solver, steps=steps)
    first = sampler.times[:1]
    radius = (corruption.signal(first) ** 2 * spectrum.power + corruption.noise(first) ** 2).sqrt()
    x_1 = noise((batch, *shape))
    x_0 = sampler.sample(x_1.shape, x_1=x_1, dtype=torch.float64)
    u_0 = spectrum.power.sqrt() / radius * corruption.basis.analyze(x_1)
    close(x_0, corruption.basis.synthesize(u_0), 1e-7)
    close(sampler.invert(x_0), x_1, 1e-7)
    log_p = -0.5 * (u_0**2 / spectrum.power + (2 * math.pi * spectrum.power).log()).flatten(1).sum(1)
    close(sampler.log_likelihood(x_0), log_p, 1e-6)


@fuzz(80)
@given(
    st.data(),
    image_shapes(most=4),
    st.sampled_from([*SOLVERS.values()]),
    st.sampled_from(["noise", "data", "velocity"]),
    st.sampled_from([None, "uniform", "cosine", "power", "log-snr", "spectrum", "reference"]),
    st.integers(1, 6),
    st.sampled_from(DTYPES),
)
def test_any_sampler_is_finite_and_reproducible(
    data: Any, shape: tuple[int, ...], solver: Any, prediction: Any, grid: Any, steps: int, dtype: Any
) -> None:
    corruption = data.draw(corruptions(shape))
    known = spectrum = None
    if isinstance(corruption, sp.ShortestPathCorruption):
        known = corruption.power
    elif isinstance(corruption, sp.GaussianCorruption) and data.draw(st.booleans()):
        spectrum = data.draw(spectra(shape, mild))
    power = spectrum.power if spectrum else known if known is not None else torch.ones(())
    seen = sp.GaussianCorruption(corruption.schedule, dims=len(shape) - 1) if spectrum else corruption
    if spectrum:
        seen.basis = spectrum.basis
    model = GaussianDenoiser(seen, power, prediction)
    sampler = attempt(
        lambda: sp.Sampler(
            model, corruption, prediction=prediction, solver=solver, grid=grid, steps=steps, spectrum=spectrum
        )
    )
    if sampler is None:
        return
    draw = lambda: sampler.sample((2, *shape), generator=torch.Generator().manual_seed(1), dtype=dtype)  # noqa: E731
    images = attempt(draw)
    if images is not None:
        assert images.shape == (2, *shape)
        assert bool(images.isfinite().all())
        assert torch.equal(images, draw())
        assert torch.equal(
            images,
            list(sampler.trajectory((2, *shape), generator=torch.Generator().manual_seed(1), dtype=dtype))[-1].x_t,
        )


@fuzz(250)
@given(st.data(), odd_tensors | odd_objects | odd_numbers)
def test_a_sampler_explains_wrong_options(data: Any, odd: Any) -> None:
    assume(not (isinstance(odd, int) and odd > 1e6))
    name = data.draw(
        st.sampled_from(
            [
                "model",
                "corruption",
                "prediction",
                "solver",
                "steps",
                "grid",
                "times",
                "spectrum",
                "guidance_scale",
                "guidance_interval",
                "null_conditioning",
            ]
        )
    )
    assume(not (name == "null_conditioning" and odd == {"a": 1}) and odd is not len)
    options: dict[str, Any] = {"solver": "ddim", "prediction": "data"}
    options |= {} if name == "times" else {"steps": 2}
    arguments = {"model": nothing, "corruption": sp.GaussianCorruption(), **options, name: odd}
    if name == "guidance_interval":
        arguments |= {"guidance_scale": 2.0, "null_conditioning": {"y": 0}}
    # An operator of Python explains a string among numbers well enough.
    ours = isinstance(odd, (int, float)) or name not in ("guidance_scale", "guidance_interval")
    call = lambda: sp.Sampler(arguments.pop("model"), arguments.pop("corruption"), **arguments)  # noqa: E731
    if not (isinstance(odd, Tensor) and name in ("guidance_scale", "guidance_interval")):
        attempt(call, ours=ours)


@fuzz(300)
@given(st.data(), odd_tensors | odd_objects | odd_numbers)
def test_sampling_explains_wrong_arguments(data: Any, odd: Any) -> None:
    sampler = sp.Sampler(nothing, sp.GaussianCorruption("flow"), solver="ddim", steps=2, prediction="data")
    shape, x = (2, 1, 3, 3), noise((2, 1, 3, 3))
    assume(not (isinstance(odd, int) and odd > 1e6))
    number = isinstance(odd, (int, float))
    answers = []
    if not isinstance(odd, Tensor):
        answers += [attempt(lambda: sampler.sample(odd)), attempt(lambda: sampler.sample(shape, generator=odd))]
        answers += [
            attempt(lambda: list(sampler.batches(odd, (1, 3, 3)))),
            attempt(lambda: sampler.sample(shape, dtype=odd)),
        ]
        answers += [attempt(lambda: list(sampler.batches(2, (1, 3, 3), seed=odd)))]
        answers += [attempt(lambda: list(sampler.batches(2, (1, 3, 3), batch_size=odd)))]
        answers += [attempt(lambda: sampler.sample(shape, device=odd)) if odd != "" else None]
        answers += [attempt(lambda: sampler.sample(shape, clip=odd), ours=odd != [1, "x"])]
    if number:
        answers += [
            attempt(lambda: sampler.sample(shape, start=odd, x_1=x)),
            attempt(lambda: sampler.sample((2, odd, 3, 3))),
        ]
        answers += [attempt(lambda: sampler.image_to_image(x, start=odd))]
        answers += [
            attempt(lambda: sampler.interpolate(x, x, [odd])),
            attempt(lambda: sampler.log_likelihood(x, probes=odd)),
        ]
    if not number and odd is not None:
        answers += [attempt(lambda: sampler.sample(shape, x_1=odd))]
    for call in (
        sampler.invert,
        sampler.log_likelihood,
        lambda y: sampler.image_to_image(y, start=0.5),
        lambda y: sampler.interpolate(y, x),
    ):
        answers.append(attempt(lambda call=call: call(odd)))
    for answer in answers:
        for tensor in answer if isinstance(answer, list) else [answer]:
            assert tensor is None or bool(tensor.isfinite().all())


@fuzz(100)
@given(st.data(), image_shapes(most=4), st.sampled_from(["noise", "data", "velocity"]), unit, unit, unit)
def test_predictions_and_steps_keep_their_laws(
    data: Any, shape: tuple[int, ...], prediction: Any, t: float, s: float, eta: float
) -> None:
    corruption = data.draw(corruptions(shape))
    s, t = sorted((s, t))
    assume(0.01 < s < t - 0.01 and t < 0.99)
    here, there = point(corruption, t), point(corruption, s)
    ratios = here.signal / here.noise, there.signal / there.noise
    told = all(float(ratio.min()) > 1e-6 and float(ratio.max()) < 1e6 for ratio in ratios)  # else one hides the other
    if told and float(here.signal.min()) > 1e-6 and float(there.noise.min()) > 1e-6:
        u_0, eps = noise((1, *shape)), noise((1, *shape), 1)
        u_t = here.signal * u_0 + here.noise * eps
        found = denoise(prediction, target(prediction, u_0, eps, *here[1:]), u_t, *here[1:])
        close(found.u_0, u_0, 1e-7)
        close(found.eps, eps, 1e-7)
        ratio, sigma = forward_weights(there, here)
        torch.testing.assert_close(
            ratio**2 * there.noise**2 + sigma**2, here.noise**2 * torch.ones_like(sigma), rtol=1e-9, atol=1e-12
        )
        step = posterior_weights(here, there, sigma, eta**2)  # the marginals of equation 1, whatever η
        full = torch.ones_like(step.w_t)
        close(step.w_t * here.signal + step.w_0, there.signal * full, 1e-9)
        close(step.w_t**2 * here.noise**2 + step.sigma**2, there.noise**2 * full, 1e-9)


@fuzz(100)
@given(image_shapes(), st.integers(0, 3), st.floats(1e-3, 1), st.floats(1e-3, 1e3), seeds, st.sampled_from(FAST))
def test_edits_do_what_they_say(
    shape: tuple[int, ...], batch: int, quantile: float, limit: float, seed: int, dtype: torch.dtype
) -> None:
    x, known = noise((batch, *shape), seed, dtype) * 100, noise(shape, seed + 1, dtype)
    bounded = sp.edits.dynamic_threshold(quantile, limit)(x, 0.5)
    assert bounded.shape == x.shape
    assert bool((bounded.abs() <= limit * (1 + 1e-5)).all())
    mask = noise(shape, seed + 2) > 0
    filled = sp.edits.inpaint(known, mask)(x, 0.5)
    torch.testing.assert_close(filled, torch.where(mask, known, x), atol=0, rtol=1e-6)
    turn = rotation(math.prod(shape), seed)[: max(1, math.prod(shape) // 2)].to(dtype)
    measurement = noise((batch, len(turn)), seed + 3, dtype)
    through = sp.edits.project(measurement, lambda z: z.flatten(1) @ turn.T, lambda y: (y @ turn).view(-1, *shape))(
        x, 0.5
    )
    close(through.flatten(1) @ turn.T, measurement, 1e-10 if dtype == torch.float64 else 1e-3)
    both = sp.edits.compose(sp.edits.inpaint(known, mask), sp.edits.dynamic_threshold(quantile, limit))(x, 0.5)
    assert torch.equal(both, sp.edits.dynamic_threshold(quantile, limit)(filled, 0.5))


@fuzz(150)
@given(odd_tensors | odd_objects | odd_numbers, odd_tensors | odd_objects, odd_numbers, odd_numbers)
def test_edits_and_bits_explain_wrong_arguments(first: Any, second: Any, a: float, b: float) -> None:
    x = noise((2, 1, 3, 3))
    edit = attempt(lambda: sp.edits.inpaint(first, second))
    if edit is not None and not (first.is_meta or second.is_meta):
        attempt(lambda: edit(x, 0.5))
    edit = attempt(lambda: sp.edits.dynamic_threshold(a, b))
    assert edit is None or bool(edit(x, 0.5).isfinite().all())
    attempt(lambda: sp.bits_per_dim(first, (3, 4)))
    attempt(lambda: sp.bits_per_dim(x[:, 0, 0, 0], first if not isinstance(first, Tensor) else (a,)))
    bits = attempt(lambda: sp.bits_per_dim(torch.tensor([-10.0]), (3, 4), scale=a))
    assert bits is None or bits.item() == pytest.approx(10 / (12 * math.log(2)) + math.log2(a), rel=1e-5)
