"""Wrappers of networks: what the network sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import shortest_path as sp
from shortest_path.models import WhitenedInput
from tests.worlds import correlated_images, spectrum


class Net(nn.Module):
    """A network of twice the channels."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, 3, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(self.layer(x) + t.view(-1, 1, 1, 1))


class Given(nn.Module):
    """Keeps what it is given, and returns the first channels."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.x, self.t = x, t
        return x[:, :3]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_what_is_shown_is_white_at_every_time(alone: bool, told: bool) -> None:
    x_0 = correlated_images(4000, seed=3) + 0.5  # a mean that the corruption may not know
    measured = sp.PowerSpectrum.estimate([x_0])
    corruption = sp.ShortestPathCorruption(measured) if told else sp.GaussianCorruption("cosine")
    network = Given()
    model = WhitenedInput(network, corruption, measured, alone=alone)
    t = torch.linspace(0.05, 0.95, len(x_0))
    x_t = sp.corrupt(corruption, x_0.float(), t, torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(model(x_t, t), network.x[:, :3])
    seen = network.x if alone else network.x[:, 3:]
    assert alone or torch.equal(network.x[:, :3], x_t)
    u = measured.basis.analyze(seen)
    assert u.mean(0).abs().max() < 0.12
    assert (u.var(0) - 1).abs().max() < 0.25
    one = WhitenedInput(network, corruption, measured).whiten(x_t[:2], t[:1])
    torch.testing.assert_close(one[0], seen[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_cast_takes_the_network_and_rounds_no_table(dtype: torch.dtype) -> None:
    measured = sp.PowerSpectrum.estimate([correlated_images(200, seed=3) + 0.5])
    corruption = sp.ShortestPathCorruption(measured)
    torch.manual_seed(0)
    model = WhitenedInput(Net(), corruption, measured)
    x_t, t = torch.randn(4, *measured.shape), torch.rand(4)
    whitened = model.whiten(x_t, t)
    model.to(dtype)
    assert model.network.layer.weight.dtype == dtype
    assert torch.equal(model.whiten(x_t, t), whitened)
    torch.testing.assert_close(model.power.double(), measured.power, rtol=1e-6, atol=0)
    sampler = sp.Sampler(model, corruption, prediction="data", steps=2)
    assert sampler.sample(x_t.shape).isfinite().all()
    seen: list[torch.dtype] = []
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    sp.DiffusionLoss(corruption, "data")(model, x_t)
    assert seen == [dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiles_without_graph_breaks(dtype: torch.dtype) -> None:
    measured = spectrum()
    model = WhitenedInput(Net(), sp.ShortestPathCorruption(measured), measured).to(dtype)
    x_t, t = torch.randn(2, *measured.shape), torch.rand(2)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x_t, t), model(x_t, t))


class Layer(nn.Conv2d):
    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def test_it_can_be_shared(tmp_path: Path) -> None:
    measured = spectrum()
    corruption = sp.ShortestPathCorruption(measured)
    model = WhitenedInput(Layer(6, 3, 1), corruption, measured)
    options = {"prediction": "whitened-velocity", "spectrum": measured, "steps": 3}
    sp.Sampler(model, corruption, **options).save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=r"is a Layer, which no registered class can load"):
        sp.Sampler.from_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b")
    again = WhitenedInput.from_pretrained(tmp_path / "b", Layer(6, 3, 1))
    assert torch.equal(again.network.weight, model.network.weight)
    assert not again.alone
    t = torch.tensor([0.3])
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(again.whiten(x, t), model.whiten(x, t))


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "none": lambda net: net,
    "compiled": lambda net: torch.compile(net, backend="eager"),  # type: ignore[dict-item]
    "data parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("whitened", [False, True])
def test_wrappers_of_torch_are_left_out_of_what_is_saved_and_may_be_around_what_is_loaded(
    whitened: bool, name: str, tmp_path: Path
) -> None:
    measured = spectrum()
    corruption = sp.ShortestPathCorruption(measured)

    def make(around: str, inner: str) -> nn.Module:
        net = WRAPPERS[inner](Net(6 if whitened else 3))
        return WRAPPERS[around](WhitenedInput(net, corruption, measured) if whitened else net)

    options = {"prediction": "whitened-velocity", "spectrum": measured, "steps": 2}
    sampler = sp.Sampler(make(name, "none"), corruption, **options)
    sampler.save_pretrained(tmp_path)
    assert isinstance(sampler.model, nn.Module)
    noise = torch.randn(1, 3, 8, 8)
    for given in (make("none", "none"), make(name, "none"), make("none", name), Net(6 if whitened else 3)):
        again = sp.Sampler.from_pretrained(tmp_path, given)
        assert isinstance(again.model, nn.Module)
        assert again.model is given or (isinstance(again.model, WhitenedInput) and again.model.network is given)
        assert not again.model.training
        for ours, theirs in zip(again.model.parameters(), sampler.model.parameters(), strict=True):
            assert torch.equal(ours, theirs)
        if name != "compiled":  # compiling takes seconds
            assert torch.equal(*(each.sample((1, 3, 8, 8), x_1=noise) for each in (sampler, again)))


def test_a_wrapper_of_another_kind_is_refused(tmp_path: Path) -> None:
    measured, gaussian = spectrum(), sp.GaussianCorruption()
    corruption = sp.ShortestPathCorruption(measured)
    model = WhitenedInput(Net(3), corruption, measured, alone=True)
    sp.Sampler(model, corruption, prediction="data", steps=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has alone=True, got a model with alone=False"):
        sp.Sampler.from_pretrained(tmp_path, WhitenedInput(Net(3), corruption, measured))
    with pytest.raises(ValueError, match="has another corruption or spectrum than .*; pass its network alone"):
        sp.Sampler.from_pretrained(tmp_path, WhitenedInput(Net(3), gaussian, measured, alone=True))
    again = sp.Sampler.from_pretrained(tmp_path, Net(3))
    assert isinstance(again.model, WhitenedInput)
    assert again.model.alone


def test_tables_of_another_corruption_or_spectrum_are_not_loaded_in_silence(tmp_path: Path) -> None:
    def make(scale: float, mean: float | None = None) -> WhitenedInput:
        measured = spectrum().tempered(scale)
        if mean is not None:
            measured = sp.PowerSpectrum(measured.basis, measured.power, mean=torch.full((3, 8, 8), mean))
        return WhitenedInput(Net(3), sp.ShortestPathCorruption(measured), measured, alone=True)

    make(0.5).load_state_dict(make(0.5).state_dict())
    with pytest.raises(RuntimeError, match="power is of another corruption or spectrum; make the model with those of"):
        make(1.0).load_state_dict(make(0.5).state_dict())
    with pytest.raises(RuntimeError, match="mean is of another corruption or spectrum"):
        make(1.0, mean=0.0).load_state_dict(make(1.0, mean=0.5).state_dict())
    trained, whole = make(0.5), make(1.0)
    trained.save_pretrained(tmp_path)
    whole.load_pretrained(tmp_path)
    assert torch.equal(whole.power, trained.power)
    assert whole.spectrum.power.equal(trained.spectrum.power)
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([0.5])
    assert torch.equal(whole(x, t), trained(x, t))


def test_a_model_on_the_meta_device_is_filled_by_its_state() -> None:
    def make() -> WhitenedInput:
        measured = spectrum()
        return WhitenedInput(Net(3), sp.ShortestPathCorruption(measured), measured, alone=True)

    x_t, t = torch.randn(2, 3, 8, 8), torch.tensor([0.2, 0.7])
    model, empty = make(), make().to("meta").to_empty(device="cpu")
    assert empty.power.isnan().all()  # and not whatever the memory held
    empty.load_state_dict(model.state_dict())
    assert torch.equal(empty(x_t, t), model(x_t, t))


def test_alone_is_true_or_false() -> None:
    number: Any = 1
    with pytest.raises(TypeError, match="alone must be True or False, got 1"):
        WhitenedInput(Net(3), sp.GaussianCorruption(), spectrum(), alone=number)


@pytest.mark.parametrize("power", [1e-50, 1e-38, 1e39])
def test_a_power_that_float32_does_not_hold_is_refused(power: float) -> None:
    wide = sp.PowerSpectrum(sp.CosineBasis(), torch.full((1, 4, 4), power, dtype=torch.float64))
    corruption = sp.ShortestPathCorruption(wide)
    with pytest.raises(ValueError, match=r"WhitenedInput computes in float32 and requires power between 1e-37 and"):
        WhitenedInput(Net(), corruption, wide)
    loss, x_0 = sp.DiffusionLoss(corruption, "whitened-velocity"), torch.zeros(2, 1, 4, 4)
    for images in (x_0, x_0.half()):
        with pytest.raises(ValueError, match=r"'whitened-velocity' of such images computes in float32 .*; scale the"):
            loss.task(images, 0.5, torch.randn_like(images))
    task = loss.task(x_0.double(), torch.rand(2), torch.randn(2, 1, 4, 4, dtype=torch.float64))
    assert bool(task.target.isfinite().all())


@pytest.mark.parametrize("power", [1.1e-37, 0.9e37])
def test_powers_that_float32_just_holds_are_whitened(power: float) -> None:
    edge = sp.PowerSpectrum(sp.CosineBasis(), torch.full((1, 4, 4), power, dtype=torch.float64))
    corruption = sp.ShortestPathCorruption(edge)
    t, x_0 = torch.linspace(0, 1, 9), torch.randn(9, 1, 4, 4) * power**0.5
    task = sp.DiffusionLoss(corruption, "whitened-velocity").task(x_0, t, torch.randn_like(x_0))
    for found in (task.target, WhitenedInput(Net(), corruption, edge).whiten(x_0, t)):
        assert bool(found.isfinite().all())
