"""Laws of the training loss: the task that it sets, the weights of errors, and the times."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from tests.training.networks import LabelledNet, batches, net
from tests.worlds import CORRUPTIONS, SHAPE, Sharpen, correlated_images, gaussian_world

# CORRUPTIONS has processes that are not to be trained with noise predicted.
pytestmark = pytest.mark.filterwarnings("ignore:no sampler will start from noise")

PREDICTIONS = ["noise", "data", "velocity", "whitened-velocity"]
CHOICES = "'noise', 'data', 'velocity', 'whitened-velocity'"


def spectrum_of(corruption: sp.Corruption) -> tuple[sp.PowerSpectrum, Tensor]:
    power = gaussian_world(corruption).power
    return sp.PowerSpectrum(corruption.basis, power), power


def silent(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x_t)


def white(seed: int, count: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- what the model is trained to return ------------------------------------------------------------------


@pytest.mark.parametrize("weighting", [None, *PREDICTIONS])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_oracles_loss_is_the_bayes_error(corruption: sp.Corruption, prediction: str, weighting: str | None) -> None:
    # The oracle's error is r = α u_0 + β ε. With u_0 = √S, the mean of r² over ε = 1 and ε = −1 is α² S + β², as it is
    # over Gaussian images and noise.
    world, basis = gaussian_world(corruption, prediction), corruption.basis
    spectrum = sp.PowerSpectrum(basis, world.power)
    loss = sp.DiffusionLoss(corruption, prediction, weighting=weighting, spectrum=spectrum)
    x_0 = basis.synthesize(world.power.sqrt().expand(4, *SHAPE))
    eps = basis.synthesize(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(4, 1, 1, 1).expand_as(x_0))
    t = torch.tensor([0.3, 0.3, 0.6, 0.6], dtype=torch.float64)
    signal, noise = corruption.signal(t), corruption.noise(t)
    total = signal**2 * world.power + noise**2
    error = {
        "noise": signal**2 * world.power / total,
        "data": noise**2 * world.power / total,
        "velocity": (signal**2 + noise**2) ** 2 * world.power / total,
        "whitened-velocity": torch.ones_like(total),
    }[weighting or prediction]
    assert loss(world.model, x_0, t=t, eps=eps).item() == pytest.approx(error.mean().item(), rel=1e-9)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_noise_may_be_given_as_coefficients(corruption: sp.Corruption, prediction: str) -> None:
    spectrum, _ = spectrum_of(corruption)
    told = sp.PowerSpectrum(spectrum.basis, spectrum.power, mean=white(2)[0])  # a mean that the corruption may not know
    for known in (spectrum, told):
        loss = sp.DiffusionLoss(corruption, prediction, spectrum=known)
        x_0, u, t = white(0), white(1), torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
        pixels, coefficients = loss.task(x_0, t, corruption.basis.synthesize(u)), loss.task(x_0, t, u, analyzed=True)
        torch.testing.assert_close(coefficients.x_t, pixels.x_t)
        torch.testing.assert_close(coefficients.target, pixels.target)
    alone = sp.corrupt(corruption, x_0, t, u, analyzed=True)
    torch.testing.assert_close(alone, sp.corrupt(corruption, x_0, t, corruption.basis.synthesize(u)))


@pytest.mark.parametrize(("prediction", "transforms"), [("data", 2), ("noise", 3), ("velocity", 3)])
def test_a_task_takes_no_transform_more_than_it_must(
    prediction: str, transforms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    basis = sp.CosineBasis()
    power = sp.PowerSpectrum.power_law(SHAPE, amplitude=1.6, offset=0.1, exponent=2.0, basis=basis)
    loss = sp.DiffusionLoss(sp.ShortestPathCorruption(power), prediction)
    counted = []
    for name in ("spatial_coefficients", "spatial_inverse"):
        whole = getattr(sp.CosineBasis, name)
        monkeypatch.setattr(sp.CosineBasis, name, lambda self, x, whole=whole: counted.append(x) or whole(self, x))
    loss.task(white(0), 0.5, white(1), analyzed=loss.draws_coefficients)
    assert len(counted) == transforms
    counted.clear()
    sp.corrupt(sp.ShortestPathCorruption(power), white(0), 0.5, white(1), analyzed=True)
    assert len(counted) == 2
    spectrum = sp.PowerSpectrum.estimate([0.5 + correlated_images(64)], basis)
    loss = sp.DiffusionLoss(sp.GaussianCorruption(), "whitened-velocity", spectrum=spectrum)
    counted.clear()
    loss.task(white(0), 0.5, white(1))
    images = sum(len(each) for each in counted)  # one is that of the mean
    images = sum(len(each) for each in counted)
    assert images == 3 * len(white(0)) + 1


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_is_the_stated_mixture_in_pixels(corruption: sp.Corruption, prediction: str) -> None:
    spectrum, S = spectrum_of(corruption)
    x_0, eps, t = correlated_images(8), white(0), torch.rand(8, dtype=torch.float64)
    a, s, basis = corruption.signal(t), corruption.noise(t), corruption.basis
    u_0, u_eps = basis.analyze(x_0), basis.analyze(eps)
    target = {
        "noise": u_eps,
        "data": u_0,
        "velocity": a * u_eps - s * u_0,
        "whitened-velocity": (a * S.sqrt() * u_eps - s * u_0 / S.sqrt()) / (a**2 * S + s**2).sqrt(),
    }[prediction]
    loss = sp.DiffusionLoss(corruption, prediction, spectrum=spectrum)
    torch.testing.assert_close(loss.task(x_0, t, eps).target, basis.synthesize(target))
    torch.testing.assert_close(loss(silent, x_0, t=t, eps=eps), target.square().mean())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_trainers_loss_is_the_same(corruption: sp.Corruption, prediction: str) -> None:
    spectrum, _ = spectrum_of(corruption)
    model, x_0, eps, t = net(dropout=0.0), batches(1)[0], white(0, dtype=torch.float32), torch.rand(8)
    loss = sp.DiffusionLoss(corruption, prediction, spectrum=spectrum)
    trainer = sp.DiffusionTrainer(model, corruption, prediction=prediction, spectrum=spectrum, seed=3)
    assert torch.equal(loss(model, x_0, t=t, eps=eps), trainer.loss(x_0, t=t, eps=eps))
    generator = torch.Generator().manual_seed(3)  # and so are the times and the noise
    assert torch.equal(loss(model, x_0, generator=generator), trainer.loss(x_0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_corrupted_images_are_those_of_corrupt(
    corruption: sp.Corruption, prediction: str, dtype: torch.dtype
) -> None:
    spectrum, _ = spectrum_of(corruption)
    x_0, eps, t = correlated_images(4).to(dtype), white(0, 4).to(dtype), torch.rand(4)
    task = sp.DiffusionLoss(corruption, prediction, spectrum=spectrum).task(x_0, t, eps)
    assert task.x_t.dtype == task.target.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(task.x_t.to(dtype), sp.corrupt(corruption, x_0, t, eps))
    assert torch.equal(task.t, t)


def test_an_isotropic_corruption_is_trained_in_the_basis_of_the_spectrum() -> None:
    corruption, x_0, eps, t = sp.GaussianCorruption(), correlated_images(8), white(0), torch.rand(8)
    spectrum = sp.PowerSpectrum.estimate([correlated_images(32)])
    assert spectrum.mean is not None
    a, s = corruption.signal(t).double(), corruption.noise(t).double()
    S = spectrum.power
    u_0, u_eps = spectrum.basis.analyze(x_0 - spectrum.mean), spectrum.basis.analyze(eps)  # whitened data have no mean
    target = (a * S.sqrt() * u_eps - s * u_0 / S.sqrt()) / (a**2 * S + s**2).sqrt()
    loss = sp.DiffusionLoss(corruption, "whitened-velocity", spectrum=spectrum)
    torch.testing.assert_close(loss(silent, x_0, t=t, eps=eps), target.square().mean())
    assert torch.equal(loss.task(x_0, t, eps).x_t, sp.corrupt(corruption, x_0, t, eps))


# --- one place computes equation 1 ------------------------------------------------------------------------


class LoudBasis(sp.CosineBasis):
    def mix(self, x: Tensor, y: Tensor, *weights: tuple[Tensor, Tensor], even: bool = False) -> tuple[Tensor, ...]:
        return tuple(2 * mixed for mixed in super().mix(x, y, *weights, even=even))


class OwnInLoudBasis(Sharpen):
    def __init__(self) -> None:
        super().__init__()
        self.basis = LoudBasis()


class OwnLoud(Sharpen):
    def mix(self, x_0: Tensor, eps: Tensor, *weights: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return tuple(2 * mixed for mixed in self.basis.mix(x_0, eps, *weights))


class LoudBlur(sp.BlurCorruption):
    def mix(self, x_0: Tensor, eps: Tensor, *weights: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return tuple(2 * mixed for mixed in super().mix(x_0, eps, *weights))


LOUD: dict[str, tuple[Callable[[], sp.Corruption], Callable[[], sp.Corruption]]] = {
    "basis": (OwnInLoudBasis, Sharpen),
    "own": (OwnLoud, Sharpen),
    "subclass": (lambda: LoudBlur(4.0, spatial=SHAPE[1:]), CORRUPTIONS["blur"]),
}


@pytest.mark.parametrize("kind", LOUD)
def test_an_overridden_mix_is_obeyed_everywhere(kind: str) -> None:
    loud, plain = (make() for make in LOUD[kind])
    x_0, eps, t = correlated_images(4), white(0, 4), torch.full((4,), 0.5, dtype=torch.float64)
    wanted = 2 * sp.corrupt(plain, x_0, t, eps)
    torch.testing.assert_close(sp.corrupt(loud, x_0, t, eps), wanted)
    ours, theirs = (sp.DiffusionLoss(each, "velocity").task(x_0, t, eps) for each in (loud, plain))
    torch.testing.assert_close(ours.x_t, wanted)
    torch.testing.assert_close(ours.target, 2 * theirs.target)
    seen: list[Tensor] = []

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t)
        return torch.zeros_like(x_t)

    sampler = sp.Sampler(model, loud, prediction="velocity", solver="ddim", steps=4)
    sampler.image_to_image(x_0, start=0.5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0], wanted)


class Lopsided(sp.DiagonalCorruption):
    """Scales in the Fourier basis that differ at k and −k."""

    def __init__(self) -> None:
        super().__init__(sp.FourierBasis())

    def signal(self, t: Tensor) -> Tensor:
        return (1 - t.view(-1, 1, 1, 1)) ** torch.linspace(1, 2, 192, dtype=t.dtype).view(SHAPE)

    def noise(self, t: Tensor) -> Tensor:
        return t.view(-1, 1, 1, 1) ** torch.linspace(2, 1, 192, dtype=t.dtype).view(SHAPE)


class OwnLopsided:
    basis, signal, noise = sp.FourierBasis(), Lopsided.signal, Lopsided.noise


@pytest.mark.parametrize("kind", [Lopsided, OwnLopsided])
def test_scales_may_differ_at_k_and_minus_k(kind: Callable[[], sp.Corruption]) -> None:
    def hartley(x: Tensor) -> Tensor:
        coefficients = torch.fft.fftn(x, dim=(-2, -1), norm="ortho")
        return coefficients.real - coefficients.imag

    def wanted(t: Tensor) -> Tensor:
        return hartley(corruption.signal(t) * hartley(x_0) + corruption.noise(t) * hartley(eps))

    corruption, x_0, eps = kind(), correlated_images(4), white(0, 4)
    t = torch.linspace(0.1, 0.9, 4, dtype=torch.float64)
    torch.testing.assert_close(sp.corrupt(corruption, x_0, t, eps), wanted(t))
    task = sp.DiffusionLoss(corruption, "velocity").task(x_0, t, eps)
    torch.testing.assert_close(task.x_t, wanted(t))
    velocity = corruption.signal(t) * hartley(eps) - corruption.noise(t) * hartley(x_0)
    torch.testing.assert_close(task.target, hartley(velocity))
    times = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    sampler = sp.Sampler(lambda x_t, t: x_0, corruption, prediction="data", solver="ddim", times=times)
    for step in sampler.trajectory(x_0.shape, x_1=wanted(times[:1]), dtype=torch.float64):
        torch.testing.assert_close(step.x_t, wanted(torch.tensor([step.t], dtype=torch.float64)))


# --- weights of errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", PREDICTIONS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ["gaussian-cosine", "blur", "shortest-fourier", "own"])
def test_errors_weigh_as_those_of_the_stated_prediction(name: str, prediction: str, weighting: str) -> None:
    corruption = CORRUPTIONS[name]()
    spectrum, S = spectrum_of(corruption)
    x_0, eps, output = correlated_images(8), white(0), white(1)
    t = torch.linspace(0.2, 0.8, 8, dtype=torch.float64)
    a, s, basis = corruption.signal(t), corruption.noise(t), corruption.basis
    deviation = (a**2 * S + s**2).sqrt()
    rows = {
        "noise": (0 * a, 1 + 0 * a),
        "data": (1 + 0 * a, 0 * a),
        "velocity": (-s, a),
        "whitened-velocity": (-s / (S.sqrt() * deviation), a * S.sqrt() / deviation),
    }
    # The output and x_t are two equations for the clean image and the noise.
    u_0, u_eps, o = (basis.analyze(x) for x in (x_0, eps, output))
    ours, theirs = rows[prediction], rows[weighting]
    equations = torch.stack([torch.stack([(w + 0 * u_0) for w in row], -1) for row in ((a, s), ours)], -2)
    found = torch.linalg.solve(equations, torch.stack([a * u_0 + s * u_eps, o], -1))
    error = theirs[0] * (found[..., 0] - u_0) + theirs[1] * (found[..., 1] - u_eps)
    loss = sp.DiffusionLoss(corruption, prediction, weighting=weighting, spectrum=spectrum)
    torch.testing.assert_close(loss(lambda x_t, t: output, x_0, t=t, eps=eps), error.square().mean())


@pytest.mark.parametrize(
    ("weighting", "function"),
    [
        ("data", lambda t, signal, noise: (noise / signal) ** 2),
        ("velocity", lambda t, signal, noise: ((signal**2 + noise**2) / signal) ** 2),
        ("noise", lambda t, signal, noise: torch.ones_like(t)),
        ("noise", lambda t, signal, noise: torch.ones(SHAPE)),
        ("noise", lambda t, signal, noise: torch.ones(())),
    ],
)
def test_a_function_weighs_squared_errors(
    weighting: str, function: Callable[[Tensor, Tensor, Tensor], Tensor], corruption: sp.Corruption
) -> None:
    x_0, eps, t = correlated_images(8), white(0), torch.linspace(0.2, 0.8, 8, dtype=torch.float64)
    named, own = (sp.DiffusionLoss(corruption, weighting=each) for each in (weighting, function))
    torch.testing.assert_close(own(silent, x_0, t=t, eps=eps), named(silent, x_0, t=t, eps=eps))


def test_weights_of_images_are_those_of_images() -> None:
    # As many images as an image is wide: weights (B,) must not be taken for weights of columns.
    x_0, eps, t = correlated_images(8), white(0), torch.linspace(0.2, 0.9, 8, dtype=torch.float64)
    loss = sp.DiffusionLoss(sp.GaussianCorruption(), weighting=lambda t, signal, noise: t)
    wanted = (t * eps.square().mean((1, 2, 3))).mean()
    torch.testing.assert_close(loss(silent, x_0, t=t, eps=eps), wanted)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (2.0, TypeError, "weighting must return a tensor, got float"),
        (torch.ones(3), ValueError, r"weights \(B,\) or broadcastable to \(8, 3, 8, 8\), got \(3, 1, 1, 1\)"),
        (torch.ones(8, 2, 1, 1), ValueError, r"or broadcastable to \(8, 3, 8, 8\), got \(8, 2, 1, 1\)"),
        (torch.ones(2, 8, 3, 8, 8), ValueError, r"or broadcastable to \(8, 3, 8, 8\), got \(2, 8, 3, 8, 8\)"),
    ],
)
def test_wrong_weights_are_explained(returned: object, error: type[Exception], message: str) -> None:
    loss = sp.DiffusionLoss(sp.GaussianCorruption(), weighting=lambda t, signal, noise: returned)
    with pytest.raises(error, match=message):
        loss(silent, batches(1)[0])


# --- times ------------------------------------------------------------------------------------------------


def times(count: int, *arguments: object, seed: int = 0, **options: object) -> Tensor:
    distribution = sp.training.TimeDistribution(*arguments, **options)
    return distribution.sample(count, torch.Generator().manual_seed(seed), torch.device("cpu"))


def test_uniform_times_fill_the_unit_interval() -> None:
    sample = times(4000, "uniform").sort().values
    torch.testing.assert_close(sample, torch.linspace(0, 1, 4000), atol=0.03, rtol=0)


def test_stratified_times_have_one_in_each_interval() -> None:
    sample = times(64, "stratified")
    assert sorted((sample * 64).floor().tolist()) == list(range(64))
    assert sample.tolist() != sorted(sample.tolist())


def test_discrete_times_are_the_references() -> None:
    sample = times(2000, "discrete", discrete_steps=10).double()
    nearest = (sample[:, None] - sp.grids.Reference()(10)[:-1]).abs().min(1)
    assert nearest.values.max() < 1e-6
    assert torch.bincount(nearest.indices, minlength=10).min() > 120


def test_a_function_maps_uniform_numbers_to_times() -> None:
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(times(4000, torch.square, seed=5), uniform.square())
    logit_normal = times(4000, lambda uniform: torch.special.ndtri(uniform).sigmoid()).logit()
    assert logit_normal.mean().item() == pytest.approx(0, abs=0.06)
    assert logit_normal.std().item() == pytest.approx(1, abs=0.05)
    loss, seen = sp.DiffusionLoss(sp.GaussianCorruption(), time_sampling=lambda uniform: 0.5 + 0 * uniform), []
    loss(lambda x_t, t: seen.append(t) or x_t, batches(1)[0])
    assert torch.equal(seen[0], torch.full((8,), 0.5))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda uniform: uniform[:1], ValueError, r"must return one time for each of 8 numbers, got \(1,\)"),
        (lambda uniform: 0.5, ValueError, "must return one time for each of 8 numbers, got float"),
        (lambda uniform: 2 + uniform, ValueError, r"t must lie in \[0, 1\] \(0 = data, 1 = noise\), got 2"),
        (lambda uniform: (9 * uniform).long(), TypeError, "floating-point tensor of times in .* got torch.int64"),
    ],
)
def test_wrong_times_are_explained(function: object, error: type[Exception], message: str) -> None:
    loss = sp.DiffusionLoss(sp.GaussianCorruption(), time_sampling=function)
    with pytest.raises(error, match=message):
        loss(silent, batches(1)[0])


# --- calls ------------------------------------------------------------------------------------------------


def test_one_time_serves_all_images() -> None:
    loss, x_0, eps, seen = sp.DiffusionLoss(CORRUPTIONS["blur"]()), batches(1)[0], torch.randn(8, *SHAPE), []

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    losses = [loss(model, x_0, t=t, eps=eps) for t in (0.25, torch.tensor(0.25), torch.full((8,), 0.25))]
    assert losses[0] == losses[1] == losses[2]
    assert all(torch.equal(t, torch.full((8,), 0.25)) for t in seen)


def test_the_generator_decides() -> None:
    loss, model, x_0 = sp.DiffusionLoss(CORRUPTIONS["blur"]()), net(dropout=0.0), batches(1)[0]
    first, again, other = (loss(model, x_0, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again != other
    torch.manual_seed(1)  # None is torch's own
    assert loss(model, x_0) == first
    t = loss.times.sample(8, torch.Generator().manual_seed(1), x_0.device)
    eps = torch.randn(x_0.shape, generator=(generator := torch.Generator().manual_seed(1)))
    assert loss(model, x_0, t=t, generator=generator.manual_seed(1)) == loss(model, x_0, t=t, eps=eps)


def test_conditioning_is_passed_on_and_gradients_flow() -> None:
    model, labels, x_0 = LabelledNet(), torch.arange(8) % 4, batches(1)[0]
    loss = sp.DiffusionLoss(sp.GaussianCorruption())(model, x_0, y=labels, size=labels)
    assert model.seen == [{"y": labels, "size": labels}]
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_module_gets_images_in_the_type_of_its_weights(dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    model = net(dropout=0.0).to(dtype)
    model.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    loss = sp.DiffusionLoss(sp.GaussianCorruption())(model, batches(1)[0])
    assert (seen, loss.dtype) == ([dtype], torch.float32)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prediction": "score"}, ValueError, f"unknown prediction 'score'; choose one of {CHOICES}"),
        ({"weighting": "snr"}, ValueError, f"unknown weighting 'snr'; choose one of {CHOICES}, 'likelihood'"),
        ({"weighting": 1.0}, TypeError, "weighting must be a prediction type, 'likelihood' or a function, got float"),
        ({"prediction": "whitened-velocity"}, ValueError, r"pass spectrum=PowerSpectrum.estimate\(batches\)"),
        ({"weighting": "whitened-velocity"}, ValueError, r"pass spectrum=PowerSpectrum.estimate\(batches\)"),
        ({"spectrum": torch.ones(SHAPE)}, TypeError, "spectrum must be a PowerSpectrum, got Tensor"),
        (
            {"time_sampling": "logit"},
            ValueError,
            "unknown time_sampling 'logit'; choose one of 'uniform', 'stratified', 'discrete'",
        ),
        ({"time_sampling": 3}, TypeError, "time_sampling must be a name or a function, got int"),
        ({"time_sampling": "discrete", "discrete_steps": 2}, ValueError, "discrete_steps must be 3 or more, got 2"),
        ({"discrete_steps": 10}, ValueError, "=10 requires time_sampling='discrete', got 'uniform'; omit it"),
        (
            {"time_sampling": torch.square, "discrete_steps": 10},
            ValueError,
            "=10 requires time_sampling='discrete', got",
        ),
    ],
)
def test_wrong_options_are_explained(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sp.DiffusionLoss(CORRUPTIONS["blur"](), **options)
    with pytest.raises(error, match=message):
        sp.DiffusionTrainer(net(), CORRUPTIONS["blur"](), **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x_0": torch.zeros(2, *SHAPE).byte()}, TypeError, "x_0 must be a floating-point tensor, got torch.uint8"),
        ({"x_0": 3}, TypeError, "x_0 must be a torch.Tensor, got int"),
        ({"eps": torch.zeros(1, *SHAPE)}, ValueError, r"eps must have the shape of x_0, \(2, 3, 8, 8\), got \(1, 3"),
        ({"t": 1.5}, ValueError, r"t must lie in \[0, 1\] \(0 = data, 1 = noise\), got 1.5"),
        ({"t": torch.zeros(3)}, ValueError, "t has 3 times for a batch of 2; pass one per image, or a scalar"),
        ({"t": torch.zeros(2, 1)}, ValueError, r"t must be a scalar or have shape \(B,\), got shape \(2, 1\)"),
        ({"model": lambda x_t, t: x_t[:, :1]}, ValueError, r"of the shape of x_t, \(2, 3, 8, 8\), got \(2, 1, 8, 8\)"),
        ({"model": lambda x_t, t: (x_t,)}, TypeError, r"must return a tensor like x_t, got tuple; wrap it, e.g. model"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict, error: type[Exception], message: str) -> None:
    given = {"model": silent, "x_0": torch.zeros(2, *SHAPE), **arguments}
    with pytest.raises(error, match=message):
        sp.DiffusionLoss(CORRUPTIONS["blur"]())(given.pop("model"), given.pop("x_0"), **given)


def test_what_is_no_corruption_is_explained() -> None:
    with pytest.raises(TypeError, match="`corruption` does not implement `Corruption`: Conv2d has no basis, signal"):
        sp.DiffusionLoss(nn.Conv2d(3, 3, 1))  # type: ignore[arg-type]


def test_conditioning_may_have_any_name_but_those_of_the_call() -> None:
    parameters = inspect.signature(sp.DiffusionLoss.__call__).parameters.values()
    assert [each.name for each in parameters if each.kind is each.KEYWORD_ONLY] == ["t", "eps", "generator"]
    loss = sp.DiffusionLoss(sp.GaussianCorruption())
    loss(lambda x_t, t, *, model, x_0: x_t, batches(1)[0], model=1, x_0=2)


def test_noise_that_tells_nothing_of_some_coefficients_is_warned_of() -> None:
    delay = torch.linspace(1, 0, 8, dtype=torch.float64).view(1, 8, 1)
    staggered = sp.StaggeredCorruption(sp.GaussianCorruption("flow"), delay, spread=1.0)
    for corruption in (staggered, sp.HeatDissipationCorruption(24.0, spatial=SHAPE[1:])):
        with pytest.warns(RuntimeWarning, match="no sampler will start from noise: a model that predicts noise cannot"):
            sp.DiffusionTrainer(net(), corruption)
        with pytest.raises(ValueError, match="a model that predicts noise cannot tell the image"):
            sp.Sampler(net(), corruption)
        sp.DiffusionLoss(corruption, "data")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_loss_warns_of_noise_where_no_sampler_starts(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sp.DiffusionLoss(corruption)
    refused = ""
    try:
        sp.Sampler(net(), corruption)
    except ValueError as error:
        refused = f"no sampler will start from noise: {error}"
    assert [str(each.message) for each in told] == [refused] * bool(refused)
