"""Threads that share a corruption, a basis, a spectrum or a sampler get what one thread gets, bit for bit."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path._model import evaluating
from tests.worlds import CORRUPTIONS, SHAPE, correlated_images, gaussian_world, spectrum

THREADS = 8


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def together(work: Callable[[int], Any]) -> list[Any]:
    """Return the answers of 8 threads that begin at the same moment; errors come through."""
    barrier = threading.Barrier(THREADS)

    def begin(index: int) -> Any:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def same(found: list[list[Tensor]], expected: list[list[Tensor]]) -> bool:
    pairs = [pair for ours, theirs in zip(found, expected, strict=True) for pair in zip(ours, theirs, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


def images_of(index: int, size: int = 8) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(index), dtype=torch.float64)


@pytest.mark.parametrize("name", ["blur", "shortest-cosine", "shortest-fourier", "shortest-principal"])
def test_one_corruption(name: str) -> None:
    shared = CORRUPTIONS[name]()

    def work(corruption: sp.Corruption, index: int) -> list[Tensor]:
        x, eps = images_of(index), images_of(index + 100)
        return [
            sp.corrupt(corruption, x.to(dtype), (index + k) / 40, eps.to(dtype))
            for k in range(30)
            for dtype in (torch.float32, torch.float64)
        ]

    expected = [work(CORRUPTIONS[name](), index) for index in range(THREADS)]
    found = together(lambda index: work(shared, index))
    assert same(found, expected)


@pytest.mark.parametrize("kind", [sp.CosineBasis, sp.FourierBasis, sp.PixelBasis])
def test_one_basis_whose_caches_fill(kind: type[sp.bases.Basis]) -> None:
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q

    def work(basis: sp.bases.Basis, index: int) -> list[Tensor]:
        # Each thread comes upon the sizes in another order, so that all of them build and all of them read.
        return [basis.analyze(images_of(index, 2 + (size + 5 * index) % 40)) for size in range(40)]

    for _ in range(5):
        expected = [work(kind(2, rotation), index) for index in range(THREADS)]
        shared = kind(2, rotation)
        found = together(lambda index, shared=shared: work(shared, index))
        assert same(found, expected)


def test_a_basis_is_copied_while_another_thread_fills_its_cache() -> None:
    """Copying the dictionary of matrices used to fail: it changed size during iteration."""
    basis, stop = sp.CosineBasis(1), threading.Event()
    grew = 0

    def fill() -> None:
        nonlocal grew
        while not stop.is_set():
            basis._cache.clear()
            for size in range(1, 60):
                basis.analyze(torch.ones(1, size))
            grew += 1

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        for _ in range(300):
            copy.deepcopy(basis)
            pickle.loads(pickle.dumps(basis))
            basis.with_channel_rotation(torch.eye(3))
    finally:
        stop.set()
        thread.join()
    assert grew
    assert not copy.deepcopy(basis)._cache


def test_new_weights_take_the_place_of_what_was_cached() -> None:
    turn = torch.eye(4, dtype=torch.float64)
    basis, x = sp.PrincipalBasis(turn, 1), torch.arange(4.0).view(1, 1, 4)  # float32: the cast matrix is cached
    assert basis.analyze(x).flatten().tolist() == [0, 1, 2, 3]
    basis.load_state_dict(sp.PrincipalBasis(turn.flip(0), 1).state_dict())
    assert basis.analyze(x).flatten().tolist() == [3, 2, 1, 0]


def test_one_spectrum(tmp_path: Path) -> None:
    shared = spectrum("cosine")

    def work(index: int) -> list[Any]:
        answers: list[Any] = []
        for k in range(5):
            path = tmp_path / "one.npz"  # all threads write and read one file: it is replaced whole
            shared.save(path)
            answers += [sp.PowerSpectrum.load(path).power, shared.radial_average()[1]]
            # LAPACK's least squares differ in the last digit from call to call, in one thread too.
            answers += [torch.tensor(shared.fit_power_law(k % 3)[:3]).round(decimals=3), shared.tempered(0.5).power]
            corruption = sp.ShortestPathCorruption(shared)
            answers.append(torch.tensor(sp.gaussian_kl(corruption, shared, steps=3 + index)))
        return answers

    expected = [work(index) for index in range(THREADS)]
    found = together(work)
    assert same(found, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]


@pytest.mark.parametrize("solver", ["ancestral", "ddim", "multistep"])
@pytest.mark.parametrize("name", ["shortest-fourier"])
def test_one_sampler(name: str, solver: Any) -> None:
    corruption = CORRUPTIONS[name]()
    world = gaussian_world(corruption)
    sampler = sp.Sampler(world.model, corruption, solver=solver, steps=4)

    def work(index: int) -> list[Tensor]:
        answers = []
        for k in range(2):
            generator = torch.Generator().manual_seed(100 * index + k)
            x = sampler.sample((1, *SHAPE), generator=generator, clip=(-9, 9) if k % 2 else None)
            answers.append(x)
            if solver != "ancestral":
                answers += [sampler.invert(x), sampler.log_likelihood(x, generator=generator)]
        return answers

    expected = [work(index) for index in range(THREADS)]
    found = together(work)
    assert same(found, expected)
    assert world.model.training  # as it was


class Dropping(nn.Module):
    """Returns its input in eval mode, and noise in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Dropout(0.5), nn.Identity())

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.inner(x_t)
        return answer


def test_a_model_in_eval_mode_stays_there_and_errors_restore() -> None:
    model = Dropping().eval()
    with evaluating(model), evaluating(model):
        assert not model.training
    assert not model.training
    model.train()

    def fail() -> None:
        with evaluating(model), evaluating(model):
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert model.training


def test_parts_of_an_estimate_from_threads() -> None:
    images = correlated_images(64)
    parts = [sp.spectra.SpectrumEstimator("fourier") for _ in range(THREADS)]
    together(lambda index: [parts[index].update(batch) for batch in images[index::THREADS].split(2)])
    alone = sp.spectra.SpectrumEstimator("fourier")
    for index in range(THREADS):
        for batch in images[index::THREADS].split(2):
            alone.update(batch)
    for part in parts[1:]:
        parts[0].merge(part)
    torch.testing.assert_close(parts[0].spectrum().power, alone.spectrum().power, rtol=1e-10, atol=0)
