"""Data that are no photographs: the whole way from a spectrum to samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.bases import SeparableBasis, WaveletBasis
from shortest_path.corruptions import ClockCorruption, StaggeredCorruption


def _white(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def field(count: int) -> Tensor:
    """Two quantities on a globe's grid: periodic longitude (the second axis), mirrored latitude, 6×16."""
    basis = SeparableBasis(("cosine", "fourier"))
    smooth = basis.synthesize(_white(count, 2, 6, 16) / (0.5 + basis.frequencies((6, 16))))
    return smooth + torch.linspace(-1, 1, 6).double().view(1, 1, 6, 1)  # warmer in the south


def signals(count: int) -> Tensor:
    """Three channels of 40 samples: a random tone in noise."""
    phase = 2 * math.pi * torch.rand(count, 3, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cos(phase + 0.7 * torch.arange(40)) + 0.1 * _white(count, 3, 40)


def frames(count: int) -> Tensor:
    """Four frames of 6×6 of a texture that changes slowly."""
    basis = sp.CosineBasis(3)
    return basis.synthesize(_white(count, 1, 4, 6, 6) / (0.3 + basis.frequencies((4, 6, 6))))


_SEGMENTS = ["abcfed", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgecd", "abc", "abcdefg", "abcdfg"]
_STROKES = {
    "a": (slice(1, 2), slice(2, 6)),
    "b": (slice(1, 4), slice(5, 6)),
    "c": (slice(3, 7), slice(5, 6)),
    "d": (slice(6, 7), slice(2, 6)),
    "e": (slice(3, 7), slice(2, 3)),
    "f": (slice(1, 4), slice(2, 3)),
    "g": (slice(3, 4), slice(2, 6)),
}


def digits(count: int) -> Tensor:
    """Digits of seven segments on 8×8, in [−1, 1], moved by up to a pixel, in strokes of varying strength."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 1, 8, 8, dtype=torch.float64)
    for index in range(count):
        digit = int(torch.randint(10, (), generator=generator))
        for segment in _SEGMENTS[digit]:
            images[index, 0][_STROKES[segment]] = 0.6 + 0.4 * float(torch.rand((), generator=generator))
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
        images[index] = images[index].roll(shift, (-2, -1))
    return 2 * images - 1


def vectors(count: int) -> Tensor:
    """Six correlated measurements without space."""
    mixing = torch.linalg.qr(_white(1, 6, 6)[0]).Q * torch.tensor([3, 2, 1, 0.5, 0.2, 0.1]).double()
    return _white(count, 6) @ mixing.T + torch.tensor([1.0, 0, -2, 0, 0, 0.5]).double()


DATA: dict[str, tuple[Callable[[int], Tensor], sp.bases.Basis | str]] = {
    "field, periodic in one axis": (field, SeparableBasis(("cosine", "fourier"))),
    "field, wavelets": (field, WaveletBasis("haar", levels=1)),
    "signals": (signals, "fourier"),
    "signals, wavelets": (signals, WaveletBasis("db2", dims=1)),
    "frames": (frames, SeparableBasis(("cosine", "pixel", "pixel"))),
    "frames, cosine": (frames, "cosine"),
    "digits": (digits, "cosine"),
    "digits, principal": (digits, "principal"),
    "vectors": (vectors, "cosine"),
    "vectors, principal": (vectors, "principal"),
}
MADE: dict[str, Callable[[sp.PowerSpectrum], sp.Corruption]] = {
    "shortest path": sp.ShortestPathCorruption,
    "to another end": lambda data: sp.ShortestPathCorruption(data, final=data.tempered(0.5)),
    "coloured noise": lambda data: sp.GaussianCorruption("cosine", noise=data.tempered(0.5)),
    "clock": lambda data: ClockCorruption(data, lambda t: math.pi / 2 * t),
    "staggered": lambda data: StaggeredCorruption(
        sp.ShortestPathCorruption(data), (data.power < data.power.median()).double(), spread=0.5
    ),
}


class Linear(torch.nn.Module):
    """The best linear denoiser in a basis, told the spectrum: predicts data."""

    def __init__(self, corruption: sp.Corruption, data: sp.PowerSpectrum) -> None:
        super().__init__()
        self.corruption, self.data = corruption, data

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        assert self.data.mean is not None
        mean, basis = self.data.mean, self.corruption.basis
        a, s = self.corruption.signal(t), self.corruption.noise(t)
        gain = a * self.data.power / (a**2 * self.data.power + s**2)
        return mean + basis.synthesize(gain * basis.analyze(x_t - mean))


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("name", DATA)
def test_samples_have_the_mean_and_the_spectrum_of_the_data(name: str, made: str) -> None:
    make, basis = DATA[name]
    x_0 = make(400)
    data = sp.PowerSpectrum.estimate([x_0], basis, "independent", check_range=False)  # type: ignore[arg-type]
    assert data.mean is not None
    torch.testing.assert_close(data.mean, x_0.mean(0))
    corruption = MADE[made](data)
    sampler = sp.Sampler(Linear(corruption, data), corruption, prediction="data", steps=4, spectrum=data)
    samples = sampler.sample((1000, *data.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    measured = data.basis.analyze(samples - data.mean).square().mean(0)
    # Mean squares of 1000 normal numbers err by 4.5 %; the largest error of hundreds by less than 4.5 times that.
    assert float((measured / data.power - 1).abs().max()) < 0.21
    error = data.basis.analyze(samples.mean(0) - data.mean) / (data.power / 1000).sqrt()
    assert float(error.abs().max()) < 5
    torch.testing.assert_close(
        sampler.sample(x_0.shape, x_1=sampler.invert(x_0), dtype=torch.float64), x_0, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", DATA)
def test_a_training_lowers_the_loss(name: str) -> None:
    make, basis = DATA[name]
    x_0 = make(64).float()
    data = sp.PowerSpectrum.estimate([x_0], basis, check_range=False)  # type: ignore[arg-type]
    size = x_0[0].numel()
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(size + 1, 64), torch.nn.SiLU(), torch.nn.Linear(64, size))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.layers(torch.cat([x.flatten(1), t[:, None].to(x.dtype)], 1)).view_as(x)

    trainer = sp.DiffusionTrainer(
        Net(), sp.ShortestPathCorruption(data), prediction="velocity", learning_rate=3e-3, check_range=False
    )
    losses: list[float] = []
    trainer.fit([x_0], steps=100, callbacks=[lambda trainer, step: losses.append(float(step.loss))], progress=False)
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    images = trainer.sampler(steps=3).sample((2, *data.shape))
    assert bool(images.isfinite().all())
