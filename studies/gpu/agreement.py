"""Whether the device computes what the CPU computes: the works of tests/works.py, each solver, grid and basis."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

import shortest_path as sp
from studies.gpu.outcomes import Check, Outcome, judged, right, wrong
from tests.works import IMAGES, OWN_RANDOM, Work, corruption, sampler, seed, works
from tests.worlds import GRIDS, SHAPE, SOLVERS, spectrum

# Float32 results of a few steps, relative to the largest value: both devices compute the scales in float64, and add
# products of float32 in another order.
ROUNDING = 1e-4


def checks(device: torch.device) -> dict[str, Check]:
    """Return a check of each work, by name."""
    todo = works() | more()
    return {f"same as the CPU: {name}": _check(name, work, device) for name, work in todo.items()}


def more() -> dict[str, Work]:
    """Return works that the tests have no need of: deterministic solvers, every grid, every basis."""
    data = spectrum()
    turn = data.basis.channel_rotation
    bases = {
        "pixels": sp.PixelBasis(),
        "rotated cosine": data.basis,
        "Fourier": sp.FourierBasis(2, turn),
        "principal": spectrum("principal").basis,
        "wavelet": sp.bases.WaveletBasis("db2", 1, 2, turn),
        "separable": sp.bases.SeparableBasis(("cosine", "haar")),
    }

    def sampling(**options: object) -> Work:
        def work(device: str) -> Iterator[Tensor]:
            yield sampler(device, **options).sample((2, *SHAPE), generator=seed())

        return work

    def transforming(basis: sp.bases.Basis) -> Work:
        def work(device: str) -> Iterator[Tensor]:
            placed, x = copy.deepcopy(basis).to(device), IMAGES.to(device)
            yield placed.analyze(x)
            yield placed.synthesize(x)

        return work

    made = corruption("shortest-cosine", "cpu")
    return {
        **{f"sample by {name}": sampling(solver=solver) for name, solver in SOLVERS.items()},
        **{f"sample on {name}": sampling(grid=make(made, data)) for name, make in GRIDS.items()},
        **{f"basis {name}": transforming(basis) for name, basis in bases.items()},
    }


def _check(name: str, work: Work, device: torch.device) -> Check:
    def check() -> Outcome:
        with full_precision():
            expected = [each.double() for each in work("cpu")]
            found = [each.detach().cpu().double() for each in work(str(device))]
        if [each.shape for each in found] != [each.shape for each in expected]:
            return wrong(f"shapes {[tuple(each.shape) for each in found]}")
        if not all(each.isfinite().all() for each in found):
            return wrong("not finite")
        if name in OWN_RANDOM and device.type != "cpu":
            return right("finite, of the same shapes; its random numbers are the device's own")
        far = max(difference(*pair) for pair in zip(found, expected, strict=True))
        report = f"largest difference {far:.1e} of the largest value, {ROUNDING:.0e} allowed"
        return judged(far <= ROUNDING, report, far)

    return check


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference relative to the largest expected value; infinite if something is not finite."""
    far = (found.double().cpu() - expected.double().cpu()).abs().max() / expected.double().abs().max().clamp(min=1e-30)
    return float(far.nan_to_num(nan=float("inf")))


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch off TF32, in which a convolution on the device has errors of 1e-3."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
