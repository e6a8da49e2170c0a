"""Steps of large images are taken in parts of their coefficients: the same steps, in less memory."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.live_bytes import LiveBytes
from benchmarks.peak_memory import corruption_for, still
from shortest_path.sampling import _parts, _reverse
from tests.worlds import CORRUPTIONS, INFORMED, SHAPE, SOLVERS, TO_NOISE, correlated_images, gaussian_world, spectrum

_AT_ONCE = 16  # of 192 coefficients in 8 rows, or of 64 that are alike in all channels
EVERY = {**SOLVERS, **INFORMED}


class Louder(sp.ShortestPathCorruption):
    """A user's own, which overrides the scales that its base class computes."""

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, noise = super().scales(t)
        return signal, 1.5 * noise


def model(x_t: Tensor, t: Tensor) -> Tensor:
    return 0.6 * x_t + t.view(-1, 1, 1, 1).to(x_t)


def taken(monkeypatch: pytest.MonkeyPatch, at_once: int) -> list[int]:
    """Let steps be taken in parts of some coefficients; return a list of the numbers of parts, one of each run."""
    monkeypatch.setattr(_parts, "_SMALL", 0)
    monkeypatch.setitem(_parts._AT_ONCE, "cpu", at_once)
    parts: list[int] = []

    def counted(*arguments: Any) -> Any:
        found = _parts.rows_of(*arguments)
        parts.append(len(found))
        return found

    monkeypatch.setattr(_reverse, "rows_of", counted)
    return parts


def check(sampler: sp.Sampler, monkeypatch: pytest.MonkeyPatch, *, parts: int, **options: Any) -> None:
    def sample() -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return sampler.sample((2, *SHAPE), generator=generator, dtype=torch.float64, **options)

    expected = sample()
    with monkeypatch.context() as patch:
        found = taken(patch, _AT_ONCE)
        torch.testing.assert_close(sample(), expected, rtol=1e-12, atol=1e-12)
    assert sum(found) == parts


@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
def test_steps_in_parts_are_the_steps(solver: str, prediction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    law = spectrum()
    seen = sp.PowerSpectrum(law.basis, law.power, mean=correlated_images(1)[0])  # which the corruption was not told
    blur = sp.BlurCorruption(4.0, spatial=SHAPE[1:])
    cases = [(sp.ShortestPathCorruption(law), None, 4), (sp.ShortestPathCorruption(law), seen, 4)]
    cases += [(sp.GaussianCorruption("linear"), seen, 4)]
    if solver not in INFORMED and prediction != "whitened-velocity":
        cases += [(blur, None, 4)]
    for corruption, known, parts in cases:
        sampler = sp.Sampler(
            model, corruption, prediction=prediction, solver=EVERY[solver], grid="uniform", steps=4, spectrum=known
        )
        check(sampler, monkeypatch, parts=parts)


@pytest.mark.parametrize("name", TO_NOISE)
def test_every_corruption_is_sampled_in_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corruption = CORRUPTIONS[name]()
    data = gaussian_world(corruption, "velocity")
    sampler = sp.Sampler(data.model, corruption, prediction="velocity", steps=4, grid="uniform")
    with monkeypatch.context() as patch:
        found = taken(patch, _AT_ONCE)
        sampler.sample((1, *SHAPE), x_1=torch.zeros(1, *SHAPE))
    check(sampler, monkeypatch, parts=sum(found), x_1=correlated_images(2))


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "whitened-velocity"])
def test_images_are_encoded_in_parts(prediction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    law, x_0 = spectrum(), correlated_images(2)
    seen = sp.PowerSpectrum(law.basis, law.power, mean=correlated_images(1)[0])
    for known in (None, seen):
        corruption = sp.ShortestPathCorruption(law)
        sampler = sp.Sampler(model, corruption, prediction=prediction, spectrum=known, steps=4)

        def encoded(sampler: sp.Sampler = sampler) -> tuple[Tensor, Tensor]:
            return sampler.invert(x_0), sampler.log_likelihood(x_0, generator=torch.Generator().manual_seed(0))

        expected = encoded()
        with monkeypatch.context() as patch:
            taken(patch, _AT_ONCE)
            torch.testing.assert_close(encoded(), expected, rtol=1e-11, atol=1e-11)


def test_edits_see_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for solver in ("multistep", "ddim"):
        sampler = sp.Sampler(model, sp.ShortestPathCorruption(spectrum()), solver=solver, steps=4)
        check(sampler, monkeypatch, parts=4, denoised_callback=sp.edits.dynamic_threshold(), clip=(-1, 1))


def test_scales_that_a_subclass_overrides_are_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    corruption = Louder(spectrum())
    assert not sp.corruptions.computes_picked(corruption)
    check(sp.Sampler(model, corruption, steps=4, grid="uniform"), monkeypatch, parts=4)


def test_encoding_a_large_image_holds_less_than_its_numbers_would() -> None:
    shape = (1, 3, 512, 512)
    sampler, x_0 = sp.Sampler(still, corruption_for(shape), steps=3), torch.randn(*shape)
    for work, bound in ((sampler.invert, 21.0), (sampler.log_likelihood, 24.0)):
        with LiveBytes() as live:
            work(x_0)
        assert live.peak < bound * x_0.nbytes


def test_what_a_model_keeps_of_its_output_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pixels no transform lies between the output and the clean images, which are found in its memory."""
    kept: list[Tensor] = []

    def keeping(x_t: Tensor, t: Tensor) -> Tensor:
        kept.append(torch.ones_like(x_t))
        return kept[-1]

    parts = taken(monkeypatch, _AT_ONCE)
    delay = torch.linspace(0, 1, 64, dtype=torch.float64).reshape(1, *SHAPE[1:])
    corruption = sp.StaggeredCorruption(sp.GaussianCorruption("flow"), delay, spread=0.5)
    for prediction in ("velocity", "data"):
        sampler = sp.Sampler(keeping, corruption, prediction=prediction, solver="ddim", steps=4, grid="uniform")
        sampler.sample((1, *SHAPE))
    assert parts == [4, 4]
    assert all(bool((output == 1).all()) for output in kept)


def test_a_solver_that_does_not_say_so_steps_all_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        def start(self, power: Tensor | None, at: Any) -> Any:
            return lambda u_t, u_0, here, there, noise: u_0 if there.time == 0 else u_t / u_t.norm()

    check(sp.Sampler(model, sp.ShortestPathCorruption(spectrum()), solver=Own(), steps=3), monkeypatch, parts=0)


def test_a_solver_may_draw_noise_more_than_once_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        elementwise = True

        def start(self, power: Tensor | None, at: Any) -> Any:
            return lambda u_t, u_0, here, there, noise: u_0 + there.noise * (noise() + 2 * noise() - noise())

    check(sp.Sampler(model, sp.ShortestPathCorruption(spectrum()), solver=Own(), steps=3), monkeypatch, parts=4)


def test_sampling_from_too_little_noise_is_refused_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken(monkeypatch, _AT_ONCE)
    sampler = sp.Sampler(model, sp.ShortestPathCorruption(spectrum()), steps=3)
    with pytest.raises(ValueError, match="sampling cannot start from noise"):
        sampler.sample((1, *SHAPE), start=0.01)


@pytest.mark.parametrize(("solver", "bound"), [("multistep", 7.5), ("ddim", 4.5), ("ancestral", 5.5)])
def test_sampling_a_large_image_holds_few_of_its_size(solver: str, bound: float) -> None:
    shape = (1, 3, 512, 512)
    sampler = sp.Sampler(still, corruption_for(shape), solver=solver, steps=3)
    x_1 = torch.randn(*shape)
    with LiveBytes() as live:
        sampler.sample(shape, x_1=x_1)
    assert live.peak < bound * x_1.nbytes


@pytest.mark.parametrize("name", ["shortest-cosine", "gaussian-cosine"])
@pytest.mark.parametrize("solver", EVERY)
def test_a_run_holds_nothing_when_it_ends(name: str, solver: str) -> None:
    if name == "gaussian-cosine" and solver in INFORMED:
        return
    sampler = sp.Sampler(model, CORRUPTIONS[name](), solver=EVERY[solver], steps=3)
    sampler.sample((1, *SHAPE))
    gc.disable()  # a cycle would wait for the collector, with all that it holds
    try:
        with LiveBytes() as live:
            sampler.sample((1, *SHAPE))
        assert live.now == 0
    finally:
        gc.enable()
