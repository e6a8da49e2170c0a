"""Laws of path lengths and of the exact Gaussian analysis."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path._blocks import geodesic_length
from shortest_path._covariance import channel_blocks, covariance_path
from shortest_path._covariance import dense as covariance
from shortest_path.corruptions import both_scales
from shortest_path.geometry import _fisher
from tests.worlds import CORRUPTIONS, ENDS, SHAPE, SHORTEST, TO_NOISE, correlated_images, spectrum

SMALL = (2, 4, 4)


def small_spectrum(basis: str = "cosine", channels: str = "rotate") -> sp.PowerSpectrum:
    return sp.PowerSpectrum.estimate([correlated_images(200, SMALL)], basis, channels)


# --- distances --------------------------------------------------------------------------------------------


def test_distance_is_the_geodesics_length() -> None:
    variances = torch.tensor([[0.1, 1.0, 20.0]], dtype=torch.float64)
    assert sp.fisher_distance(variances, 1.0) == pytest.approx(
        math.sqrt(0.5 * (math.log(0.1) ** 2 + math.log(20) ** 2))
    )


def test_distance_is_a_metric_and_ignores_the_basis() -> None:
    one, two = small_spectrum(), sp.PowerSpectrum.estimate([correlated_images(200, SMALL, seed=5)])
    assert sp.fisher_distance(one, two) == pytest.approx(sp.fisher_distance(two, one))
    assert sp.fisher_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert sp.fisher_distance(one, two) <= sp.fisher_distance(one, 1.0) + sp.fisher_distance(1.0, two)
    eigenvalues = torch.linalg.eigvals(torch.linalg.solve(covariance(one), covariance(two))).real
    assert sp.fisher_distance(one, two) == pytest.approx(math.sqrt(0.5 * eigenvalues.log().square().sum().item()))


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
def test_distance_to_white_noise_from_the_full_matrix(basis: str) -> None:
    measured = small_spectrum(basis)
    eigenvalues = torch.linalg.eigvalsh(covariance(measured))
    expected = math.sqrt(0.5 * eigenvalues.log().square().sum().item())
    assert sp.fisher_distance(measured, 1.0) == pytest.approx(expected, rel=1e-9)


def test_distance_across_bases() -> None:
    cosine, fourier = small_spectrum("cosine"), small_spectrum("fourier")
    assert sp.fisher_distance(cosine, fourier) > 0.1
    assert sp.fisher_distance(small_spectrum("cosine"), small_spectrum("cosine", "independent")) < 1e-6


def test_nearly_equal_channels_are_not_singular() -> None:
    cross = torch.tensor([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]], dtype=torch.float64).view(2, 2, 1)
    law = sp.PowerSpectrum(sp.CosineBasis(1), torch.ones(2, 1, dtype=torch.float64), cross=cross)
    flow = sp.GaussianCorruption("flow", dims=1)
    length = math.sqrt(0.5 * (math.log(2) ** 2 + math.log(1e-9) ** 2))
    assert sp.fisher_distance(law, 1.0) == pytest.approx(length, rel=1e-6)
    assert sp.path_length(flow, law) > length
    law.cross[0, 1] = law.cross[1, 0] = 1 - 1e-14
    with pytest.raises(ValueError, match="a covariance is singular to the rounding of float64"):
        sp.path_length(flow, law)


# --- path lengths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHORTEST)
def test_the_shortest_path_is_as_long_as_the_geodesic_of_its_spectrum(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    model = sp.PowerSpectrum(corruption.basis, corruption.power.expand(SHAPE))
    final = sp.PowerSpectrum(corruption.basis, ENDS[name].power) if name in ENDS else 1.0
    assert sp.path_length(corruption, model) == pytest.approx(sp.fisher_distance(model, final), rel=1e-8)


@pytest.mark.parametrize("name", TO_NOISE)
def test_no_path_is_shorter_than_the_geodesic(name: str) -> None:
    measured = spectrum("fourier" if isinstance(CORRUPTIONS[name]().basis, sp.FourierBasis) else "cosine")
    corruption = CORRUPTIONS[name]()
    if isinstance(corruption.basis, sp.PrincipalBasis):
        measured = spectrum("principal")
    ends = covariance_path(corruption, measured)
    assert sp.path_length(corruption, measured) >= geodesic_length(ends.at(0.0), ends.at(1.0)) * (1 - 1e-6)


def test_length_does_not_depend_on_the_clock() -> None:
    measured = spectrum()
    lengths = [sp.path_length(sp.GaussianCorruption(schedule), measured) for schedule in ("cosine", _slow, _fast)]
    assert lengths == pytest.approx([lengths[0]] * 3, rel=1e-5)


def _slow(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(torch.pi / 2 * t**3), torch.sin(torch.pi / 2 * t**3)


def _fast(t: Tensor) -> tuple[Tensor, Tensor]:
    return (1 - t).sqrt(), t.sqrt()


def test_length_is_the_integral_of_the_fisher_speed() -> None:
    corruption, measured = sp.BlurCorruption(2.0, spatial=SMALL[1:]), small_spectrum()
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    blocks = channel_blocks(measured)
    total = torch.zeros((), dtype=torch.float64)
    frames = torch.autograd.functional.jvp(
        lambda time: torch.stack(
            [
                corruption.signal(time).expand(-1, 2, -1, -1) ** 2,
                corruption.noise(time).expand(-1, 2, 4, 4) ** 2,
            ]
        ),
        t,
        torch.ones_like(t),
    )
    (signal_2, noise_2), (d_signal_2, d_noise_2) = ([part.flatten(2) for part in pair.unbind()] for pair in frames)
    eye = torch.eye(2, dtype=torch.float64)
    for f in range(16):
        # Blur scales both channels alike, so Σ_t = a² Σ_0 + s² I at each frequency.
        state = signal_2[:, 0, f, None, None] * blocks[f] + noise_2[:, 0, f, None, None] * eye
        speed = d_signal_2[:, 0, f, None, None] * blocks[f] + d_noise_2[:, 0, f, None, None] * eye
        ratio = torch.linalg.solve(state, speed)
        total = total + 0.5 * (ratio @ ratio).diagonal(dim1=1, dim2=2).sum(1)
    assert sp.path_length(corruption, measured) == pytest.approx(total.sqrt().mean().item(), rel=1e-5)


def test_a_jump_counts_as_the_geodesic_across_it() -> None:
    jump = sp.GaussianCorruption(lambda t: (torch.where(t < 0.3, 0.9, 0.5), torch.where(t < 0.3, 0.1, 0.5)))
    measured = small_spectrum()
    ends = covariance_path(jump, measured)
    assert sp.path_length(jump, measured) == pytest.approx(geodesic_length(ends.at(0.0), ends.at(1.0)))


def test_a_path_that_does_not_settle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    law = sp.PowerSpectrum.power_law((1, 4), amplitude=1.0, offset=0.5, exponent=1.0)
    flow = sp.GaussianCorruption("flow", dims=1)
    length = sp.path_length(flow, law)
    monkeypatch.setattr(_fisher, "_HALVINGS", 100)
    assert sp.path_length(flow, law) == length  # a smooth path takes fewer
    assert sp.path_length(flow, law, rtol=0.5) == pytest.approx(length, rel=5e-6)  # Richardson
    times: list[Tensor] = []

    def rough(t: Tensor) -> tuple[Tensor, Tensor]:
        times.append(t)
        return (1 - t) * (1 + 0.1 * torch.cos(1e9 * t)), t

    def missing(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(t > 0.7, torch.nan, 1 - t), t

    for schedule in (rough, missing):
        with pytest.raises(ValueError, match=r"did not settle to rtol=0.0001 in 100 halvings, near t = .*no NaN"):
            sp.path_length(sp.GaussianCorruption(schedule, dims=1), law)
    assert len(times) < 300


# --- the exact analysis -----------------------------------------------------------------------------------


def dense_kl(corruption: sp.Corruption, data: Tensor, shape: tuple[int, ...], steps: int, large: bool) -> float:
    """The same analysis with full matrices in pixels, written independently from the posterior's formulas."""
    size = len(data)
    basis_matrix = corruption.basis.analyze(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1).T
    target = basis_matrix @ data @ basis_matrix.T
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        pair = (corruption.signal(t[None]), corruption.noise(t[None]))
        return tuple(scale[0].expand(shape).flatten() for scale in pair)  # type: ignore[return-value]

    state = torch.diag(at(times[0])[1] ** 2)
    power = getattr(corruption, "power", None)
    if power is not None:
        state = state + torch.diag(at(times[0])[0] ** 2 * power.expand(shape).flatten())
    for t, s in itertools.pairwise(times):
        (a_t, s_t), (a_s, s_s) = at(t), at(s)
        seen = torch.diag(a_t) @ target @ torch.diag(a_t) + torch.diag(s_t**2)
        denoiser = target @ torch.diag(a_t) @ torch.linalg.inv(seen)
        if s == 0:
            state = denoiser @ state @ denoiser.T
            break
        ratio = a_t / a_s
        variance = s_t**2 - ratio**2 * s_s**2
        step = torch.diag(ratio * s_s**2 / s_t**2) + torch.diag(a_s * variance / s_t**2) @ denoiser
        state = step @ state @ step.T + torch.diag(variance if large else variance * s_s**2 / s_t**2)
    product = torch.linalg.solve(target, state)
    return 0.5 * (product.trace() - size - torch.linalg.slogdet(product).logabsdet).item()


@pytest.mark.parametrize("basis", ["cosine", "fourier", "principal"])
@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("own_basis", [True, False])
def test_kl_equals_that_of_full_matrices(basis: str, variance: str, own_basis: bool) -> None:
    measured, solver = small_spectrum(basis), sp.solvers.Ancestral(variance=variance)
    path = measured if own_basis else small_spectrum("fourier" if basis == "cosine" else "cosine")
    for corruption in (
        sp.ShortestPathCorruption(path),
        sp.GaussianCorruption("cosine"),
        sp.BlurCorruption(3.0, spatial=SMALL[1:]),
    ):
        expected = dense_kl(corruption, covariance(measured), SMALL, 12, variance == "large")
        assert sp.gaussian_kl(corruption, measured, steps=12, solver=solver) == pytest.approx(expected, rel=1e-8)


def test_complex_cross_spectra_count_in_full() -> None:
    # Channels that are shifted copies of one another have complex cross-spectra.
    x = correlated_images(200, (1, 4, 6))
    shifted = torch.cat([x, x.roll(1, -1) + 0.1 * torch.randn_like(x)], 1)
    measured = sp.PowerSpectrum.estimate([shifted], "fourier", "independent")
    assert measured.cross.imag.abs().max() > 0.01
    corruption = sp.ShortestPathCorruption(measured)
    expected = dense_kl(corruption, covariance(measured), (2, 4, 6), 9, True)
    assert sp.gaussian_kl(corruption, measured, steps=9) == pytest.approx(expected, rel=1e-8)


def test_kl_of_known_process() -> None:
    # One coefficient, DDIM, one step: û_0 is all there is, so P = S²a²s²/(a²S+s²)² → KL in closed form.
    power = torch.tensor([[3.0]], dtype=torch.float64)
    measured = sp.PowerSpectrum(sp.CosineBasis(1), power)
    times = torch.tensor([0.5, 0.0])
    corruption = sp.GaussianCorruption(lambda t: (0.2 * (1 - t), t), dims=1)
    a, s = 0.1, 0.5
    variance = (a * 3 / (a * a * 3 + s * s)) ** 2 * s * s / 3
    expected = 0.5 * (variance - 1 - math.log(variance))
    assert sp.gaussian_kl(corruption, measured, solver="ddim", times=times) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["gaussian-cosine", "gaussian-flow", "gaussian-callable", *SHORTEST])
def test_kl_falls_towards_zero_with_the_steps(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    measured = spectrum(
        {sp.FourierBasis: "fourier", sp.PrincipalBasis: "principal"}.get(type(corruption.basis), "cosine")
    )
    values = [sp.gaussian_kl(corruption, measured, steps=steps) for steps in (25, 100, 400)]
    assert values[0] > values[1] > values[2] > 0
    if (
        name in SHORTEST and name != "shortest-reference"
    ):  # with its own spectrum ancestral sampling is of first order, so four times the steps leave 1/16 of the KL
        assert values[2] < 0.1 * values[1]


def test_any_deviation_from_the_measured_spectrum_is_worse() -> None:
    measured = spectrum()
    best = sp.ShortestPathCorruption(measured)
    length, kl = sp.path_length(best, measured), sp.gaussian_kl(best, measured)
    for scale in (0.9, 1.1):
        other = sp.ShortestPathCorruption(measured.tempered(scale))
        assert sp.path_length(other, measured) > length
        assert sp.gaussian_kl(other, measured) > kl


def test_any_other_exponent_is_worse() -> None:
    law = {"amplitude": 0.5, "offset": 0.3, "exponent": 2.0}
    measured = sp.PowerSpectrum.power_law((3, 16, 16), **law)
    best = sp.ShortestPathCorruption(measured)
    for exponent in (1.5, 2.5):
        other = sp.ShortestPathCorruption(sp.PowerSpectrum.power_law((3, 16, 16), **(law | {"exponent": exponent})))
        assert sp.path_length(other, measured) > sp.path_length(best, measured)
        assert sp.gaussian_kl(other, measured) > sp.gaussian_kl(best, measured)


def test_rotating_the_channels_pays() -> None:
    rotated, independent = spectrum(), spectrum(channels="independent")
    kl = [sp.gaussian_kl(sp.ShortestPathCorruption(s), rotated) for s in (rotated, independent)]
    assert kl[0] < kl[1] / 10
    lengths = [sp.path_length(sp.ShortestPathCorruption(s), rotated) for s in (rotated, independent)]
    assert lengths[0] < lengths[1]


def test_an_asymmetric_scale_is_not_treated_as_one_per_frequency() -> None:
    class Lopsided:
        basis = sp.FourierBasis(1)

        def signal(self, t: Tensor) -> Tensor:
            return (1 - t.view(-1, 1, 1)) ** torch.tensor([1.0, 1.0, 2.0, 3.0], dtype=t.dtype)

        def noise(self, t: Tensor) -> Tensor:
            return t.view(-1, 1, 1)

    measured = sp.PowerSpectrum.estimate([correlated_images(100, (2, 4))], "fourier")
    expected = dense_kl(Lopsided(), covariance(measured), (2, 4), 5, True)
    assert sp.gaussian_kl(Lopsided(), measured, steps=5) == pytest.approx(expected, rel=1e-8)


def shifted_channels() -> sp.PowerSpectrum:
    """A spectrum with complex cross-covariances: the second channel is like the first, one pixel further."""
    x = correlated_images(200, (1, 4, 4))
    shifted = torch.cat([x, x.roll(1, -1) + 0.3 * torch.randn_like(x)], 1)
    return sp.PowerSpectrum.estimate([shifted], "fourier", "independent")


@pytest.mark.parametrize("own_scales", [True, False])
def test_scales_may_be_alike_at_k_and_minus_k_for_some_of_the_time(own_scales: bool) -> None:
    """Delays that have begun and ended at t = ½, where all scales are alike."""
    measured, delay = shifted_channels(), torch.zeros(1, 4, 4, dtype=torch.float64)
    delay[0, 0, 1] = delay[0, 1, 0] = delay[0, 1, 1] = 0.3
    white = sp.PowerSpectrum(sp.FourierBasis(), torch.ones(2, 4, 4, dtype=torch.float64))
    corruption: sp.Corruption = sp.StaggeredCorruption(sp.GaussianCorruption("flow", noise=white), delay, spread=7.0)
    if own_scales:
        corruption = Part(corruption, 1.0)
    half = torch.tensor([0.5])
    assert torch.equal(*(sp.FourierBasis().mirror(corruption.noise(half)), corruption.noise(half)))
    assert covariance_path(corruption, measured).data.shape == (1, 32, 32)
    basis, data = corruption.basis, covariance(measured)
    matrix = basis.analyze(torch.eye(32, dtype=torch.float64).reshape(32, 2, 4, 4)).flatten(1).T
    target, states = matrix @ data @ matrix.T, []
    for t in (1 - torch.cos(torch.pi * torch.linspace(0, 1, 801, dtype=torch.float64))) / 2:
        signal, noise = (scale[0].expand(2, 4, 4).flatten() for scale in both_scales(corruption, t[None]))
        states.append(torch.diag(signal) @ target @ torch.diag(signal) + torch.diag(noise**2))
    chords = [geodesic_length(one[None], two[None]) for one, two in itertools.pairwise(states)]
    assert sp.path_length(corruption, measured) == pytest.approx(sum(chords), rel=2e-4)


def test_distance_to_variances_that_differ_at_k_and_minus_k() -> None:
    measured = shifted_channels()
    variances = torch.rand(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.2
    basis = measured.basis
    matrix = basis.analyze(torch.eye(32, dtype=torch.float64).reshape(32, 2, 4, 4)).flatten(1).T
    theirs = matrix.T @ torch.diag(variances.flatten()) @ matrix
    ratios = torch.linalg.eigvals(torch.linalg.solve(covariance(measured), theirs)).real
    expected = math.sqrt(0.5 * ratios.log().square().sum().item())
    assert sp.fisher_distance(measured, variances) == pytest.approx(expected, rel=1e-9)


# --- times of even length ---------------------------------------------------------------------------------


class Part:
    """The part of a corruption's path from the data to time `end`, by the clock of `end · t`."""

    def __init__(self, corruption: sp.Corruption, end: float) -> None:
        self.basis, self._corruption, self._end = corruption.basis, corruption, end

    def signal(self, t: torch.Tensor) -> torch.Tensor:
        return self._corruption.signal(self._end * t)

    def noise(self, t: torch.Tensor) -> torch.Tensor:
        return self._corruption.noise(self._end * t)


@pytest.mark.parametrize("name", ["gaussian-linear", "shortest-fourier"])
def test_every_step_of_the_fisher_grid_has_the_same_length(name: str) -> None:
    corruption, measured = CORRUPTIONS[name](), spectrum(basis="fourier" if "fourier" in name else "cosine")
    times = sp.grids.Fisher(corruption, measured)(5)
    assert (times[0], times[-1]) == (1, 0)
    lengths = [sp.path_length(Part(corruption, end), measured, rtol=1e-5) for end in times[:-1].tolist()] + [0.0]
    steps = [longer - shorter for longer, shorter in itertools.pairwise(lengths)]
    assert steps == pytest.approx([lengths[0] / 5] * 5, rel=1e-3)


def test_the_fisher_grid_agrees_with_the_closed_form_of_isotropic_noise() -> None:
    corruption, measured = sp.GaussianCorruption("flow"), spectrum()
    times = sp.grids.Fisher(corruption, measured)(40)
    assert measured.cross is not None
    power = torch.linalg.eigvalsh(measured.cross.movedim((0, 1), (-2, -1))).flatten()
    states = [corruption.signal(t).flatten() ** 2 * power + corruption.noise(t).flatten() ** 2 for t in times[:, None]]
    steps = torch.tensor([sp.fisher_distance(p, q) for p, q in itertools.pairwise(states)])
    assert steps[:-1].max() / steps[:-1].min() < 1.01
    assert 0.9 < steps[-1] / steps[0] < 1  # a chord of the same arc, where the path bends most


def test_on_the_geodesic_the_fisher_grid_is_uniform() -> None:
    measured = spectrum()
    diagonal = sp.PowerSpectrum(measured.basis, measured.power)
    times = sp.grids.Fisher(sp.ShortestPathCorruption(measured), diagonal)(7, start=0.9)
    torch.testing.assert_close(times, torch.linspace(0.9, 0, 8, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_sampler_takes_the_fisher_grid() -> None:
    corruption, measured = sp.GaussianCorruption("cosine"), spectrum()
    grid = sp.grids.Fisher(corruption, measured)
    sampler = sp.Sampler(lambda x_t, t: x_t, corruption, solver="ancestral", steps=6, grid=grid)
    assert torch.equal(sampler.times, grid(6, start=0.999))  # noise cannot be predicted where nothing else is left


# --- wrong input ------------------------------------------------------------------------------------------


def test_large_images_in_another_basis_are_an_error() -> None:
    measured = sp.PowerSpectrum.estimate([torch.rand(4, 1, 40, 40)], "fourier")
    with pytest.raises(ValueError, match="up to 1024 values a sample, got 1600; estimate the spectrum in the corrup"):
        sp.gaussian_kl(sp.BlurCorruption(spatial=(40, 40)), measured)
    with pytest.raises(ValueError, match="estimate the spectrum in the corruption's basis"):
        sp.fisher_distance(measured, sp.PowerSpectrum.estimate([torch.rand(4, 1, 40, 40)]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: sp.gaussian_kl(sp.GaussianCorruption(), s, solver="heun"), "unknown solver 'heun'"),
        (lambda s: sp.gaussian_kl(sp.GaussianCorruption(), s, steps=0), "steps must be 1 or more, got 0"),
        (lambda s: sp.gaussian_kl(sp.GaussianCorruption(), s, times=torch.tensor([0.0, 1.0])), "falls strictly"),
        (lambda s: sp.gaussian_kl(sp.BlurCorruption(), s), "does not broadcast against images of shape"),
        (lambda s: sp.path_length(sp.GaussianCorruption(dims=1), s), "does not broadcast against images of shape"),
        (lambda s: sp.fisher_distance(s, -1.0), "variances must be positive and finite"),
        (lambda s: sp.fisher_distance(s, spectrum()), "images of different shapes"),
        (lambda s: sp.grids.Fisher(sp.BlurCorruption(), s), "does not broadcast against images of shape"),
        (lambda s: sp.grids.Fisher(sp.GaussianCorruption(), s)(0), "steps must be 1 or more, got 0"),
        (
            lambda s: sp.grids.Fisher(sp.GaussianCorruption(lambda t: (t * 0 + 1, t * 0)), s)(3),
            "the path of GaussianCorruption has no length",
        ),
    ],
)
def test_wrong_arguments_are_explained(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(small_spectrum())  # type: ignore[operator]


@pytest.mark.parametrize("rtol", ["1e-3", None])
def test_a_tolerance_that_is_no_number_is_refused(rtol: object) -> None:
    with pytest.raises(TypeError, match=f"rtol must be a number, got {rtol!r}"):
        sp.path_length(sp.GaussianCorruption(), small_spectrum(), rtol=rtol)  # type: ignore[arg-type]


def test_principal_spectra_have_no_channel_blocks() -> None:
    with pytest.raises(ValueError, match="mixes channels with pixels"):
        channel_blocks(small_spectrum("principal"))
