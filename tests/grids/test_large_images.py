"""Grids and checks of large images look at a part of the coefficients, which must stand for all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.grids import _coefficients

SIZE = (96, 96)


def law() -> sp.PowerSpectrum:
    return sp.PowerSpectrum.power_law((1, *SIZE), amplitude=300.0, offset=0.5, exponent=2.5, basis=sp.CosineBasis())


class Own:
    """A user's corruption: three members, evaluated for all coefficients at once."""

    def __init__(self) -> None:
        self.basis = sp.CosineBasis()
        self.frequency = self.basis.frequencies(SIZE)[None] / 96
        self.most = 0

    def noise(self, t: Tensor) -> Tensor:
        self.most = max(self.most, len(t))
        return t.view(-1, 1, 1, 1) ** (0.5 + self.frequency.to(t.dtype))

    def signal(self, t: Tensor) -> Tensor:
        return (1 - self.noise(t) ** 2).clamp(min=0).sqrt()


LARGE: dict[str, Callable[[], sp.Corruption]] = {
    "shortest": lambda: sp.ShortestPathCorruption(law()),
    "blur": lambda: sp.BlurCorruption(spatial=SIZE),
    "coloured": lambda: sp.GaussianCorruption("cosine", noise=law().tempered(0.5)),
    "white": lambda: sp.GaussianCorruption("cosine"),
    "staggered": lambda: sp.StaggeredCorruption(
        sp.ShortestPathCorruption(law()), law().basis.frequencies(SIZE)[None] / 70, spread=0.5
    ),
    "clock": lambda: sp.ClockCorruption(law(), lambda t: torch.pi / 2 * t**2),
    "own": Own,
}


@pytest.mark.parametrize("name", LARGE)
def test_a_part_of_the_coefficients_gives_the_times_of_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def grids() -> list[Tensor]:
        corruption = LARGE[name]()
        return [grid(20) for grid in (sp.grids.Spectrum(corruption, law().power), sp.grids.LogSnr(corruption))]

    by_part = grids()
    monkeypatch.setattr(_coefficients, "_MOST", 10**9)
    for found, expected in zip(by_part, grids(), strict=True):
        step = -expected.diff()
        far = (found - expected).abs()[1:] / step
        assert float(far.max()) < 2e-2, far


def test_few_coefficients_are_all_looked_at() -> None:
    assert _coefficients.evenly((3, 32, 32)) is None
    pick, count = _coefficients.by_power(torch.rand(3, 32, 32))
    assert pick is None
    assert count.item() == 1


@pytest.mark.parametrize("shape", [(3, 48, 64), (1, 20_000), (70_000,)])
def test_a_weighted_sum_over_the_part_is_that_over_all(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    power = torch.exp(3 * torch.randn(shape, generator=generator, dtype=torch.float64))
    pick, count = _coefficients.by_power(power)
    assert pick is not None
    chosen = pick(power)
    assert chosen.shape == (*[1] * (len(shape) - 1), 4096)
    assert int(count.sum()) == power.numel()
    for function in (lambda s: s, lambda s: s.sqrt(), lambda s: torch.log1p(s)):
        assert float((count * function(chosen)).sum()) == pytest.approx(float(function(power).sum()), rel=2e-3)
    batch = torch.stack([power, 2 * power])
    torch.testing.assert_close(pick(batch), torch.stack([chosen, 2 * chosen]))
    torch.testing.assert_close(pick(torch.ones(5, *[1] * len(shape))), torch.ones(5, *chosen.shape))


def test_evenly_spread_coefficients_are_of_every_channel() -> None:
    pick = _coefficients.evenly((3, 64, 64))
    assert pick is not None
    channel = torch.arange(3.0).view(3, 1, 1).expand(3, 64, 64)
    share = torch.bincount(pick(channel).flatten().long()) / 4096
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=1e-3, rtol=0)


def test_a_users_corruption_is_not_evaluated_at_all_times_at_once() -> None:
    corruption = Own()
    sp.Sampler(lambda x, t: x, corruption, prediction="data", spectrum=law())
    assert corruption.most == 1


def test_a_ratio_that_rises_is_found_in_large_images() -> None:
    class Rising(Own):
        def noise(self, t: Tensor) -> Tensor:
            return (t * (1.5 - t)).view(-1, 1, 1, 1) * (1 + self.frequency.to(t.dtype))

    with pytest.raises(ValueError, match="the signal-to-noise ratio of Rising rises with t somewhere"):
        sp.Sampler(lambda x, t: x, Rising(), prediction="data", grid="uniform", steps=20)


def test_a_vanished_signal_of_one_coefficient_is_found_in_large_images() -> None:
    delay = torch.ones(1, *SIZE)
    delay[0, 37, 53] = 0
    corruption = sp.StaggeredCorruption(sp.GaussianCorruption("flow"), delay, spread=0.5)
    # The coefficient without delay ends at t = 1 / (1 + w).
    with pytest.raises(ValueError, match=r"cannot tell the image where signal\(t\) = 0, here t = 0.7; .* t ≤ 0\.666"):
        sp.Sampler(lambda x, t: x, corruption, times=[0.7, 0.3, 0.0])
    sp.Sampler(lambda x, t: x, corruption, times=[0.6666, 0.3, 0.0])
