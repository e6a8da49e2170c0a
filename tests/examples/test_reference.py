"""The paper's code: its network, its checkpoints, its chains and its flags."""

from __future__ import annotations

import math
import os
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, group_norm

import shortest_path as sp
from benchmarks.reference import import_reference
from examples.recipe.reference import converted
from examples.recipe.runs import CONSTANTS, load_run, make_corruption, make_network, time_sampling, unet_of
from examples.recipe.settings import CONFIGS, Settings, parse
from examples.recipe.times import EvenTimes, ScaledIndex
from shortest_path.training import TimeDistribution
from tests.examples.commands import refused, run

CLONE = os.environ.get("SHORTEST_PATH_REFERENCE", "")
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in their code
needs_clone = pytest.mark.skipif(
    not CLONE, reason="SHORTEST_PATH_REFERENCE does not name a clone of mtkresearch/shortest-path-diffusion"
)
SMALL = ("--size=8", "--widths=[32,64]", "--blocks=1", "--attention=[4]", "--head-channels=16", "--channels-last=false")
LAW = sp.PowerSpectrum.power_law((3, 8, 8), **CONSTANTS)


def settings(name: str = "reference", *words: str) -> Settings:
    return parse(["--config", str(CONFIGS / f"{name}.yaml"), *words])


def theirs() -> dict[str, Tensor]:
    """Return random weights of their network of `SMALL`, whose names and shapes follow from their description.

    Blocks are numbered in the order of the features: on the way down the first layer, each level's blocks and the
    halving of its size; on the way up each level's blocks, one more than down, the last with the doubling.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def residual(name: str, before: int, after: int) -> None:
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * after, 128)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attention(name: str) -> None:
        layer(f"{name}.norm", 64)
        layer(f"{name}.qkv", 192, 64, 1)
        layer(f"{name}.proj_out", 64, 64, 1)

    layer("time_embed.0", 128, 32)
    layer("time_embed.2", 128, 128)
    layer("input_blocks.0.0", 32, 3, 3, 3)
    residual("input_blocks.1.0", 32, 32)
    layer("input_blocks.2.0.op", 32, 32, 3, 3)
    residual("input_blocks.3.0", 32, 64)
    attention("input_blocks.3.1")
    residual("middle_block.0", 64, 64)
    attention("middle_block.1")
    residual("middle_block.2", 64, 64)
    residual("output_blocks.0.0", 64 + 64, 64)
    attention("output_blocks.0.1")
    residual("output_blocks.1.0", 64 + 32, 64)
    attention("output_blocks.1.1")
    layer("output_blocks.1.2.conv", 64, 64, 3, 3)
    residual("output_blocks.2.0", 64 + 32, 32)
    residual("output_blocks.3.0", 32 + 32, 32)
    layer("out.0", 32)
    layer("out.2", 3, 32, 3, 3)
    torch.manual_seed(0)
    return {name: torch.randn(shape) / max(1, math.prod(shape[1:])) ** 0.5 for name, shape in shapes.items()}


def unet(chosen: Settings) -> torch.nn.Module:
    return unet_of(make_network(chosen, make_corruption(chosen, LAW), LAW, classes=0))


# The network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "reference-ddpm"])
def test_the_network_has_as_many_parameters_and_begins_with_zero(name: str) -> None:
    whole = settings(name)
    law = sp.PowerSpectrum.power_law((3, 32, 32), **CONSTANTS)
    with torch.device("meta"):
        network = make_network(whole, make_corruption(whole, law), law, classes=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 52_542_979
    assert unet_of(network).mid_block.attentions[0].group_norm is not None
    assert (whole.held_out, whole.ema_warmup, whole.bf16) == (0, False, "no")
    small = make_network(settings(name, *SMALL), make_corruption(whole, LAW), LAW, classes=0)
    assert not small(torch.randn(2, 3, 8, 8), torch.rand(2)).any()


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for words in ((), ("--gradient-checkpointing",)):
        torch.manual_seed(0)
        network = unet(settings("reference", *SMALL, "--zero-init=false", *words))
        assert network.is_gradient_checkpointing == bool(words)
        torch.manual_seed(1)  # of dropout
        network(torch.ones(2, 3, 8, 8), torch.tensor([3.0, 900.0])).sample.square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-8)


# Their times and schedule ---------------------------------------------------------------------------------------------


def test_the_times_of_both_chains_and_what_the_network_is_told() -> None:
    T, index = 4000, torch.arange(4000)
    uniform = (index + 0.5) / T
    paper = TimeDistribution("discrete", T)
    assert time_sampling(settings()) == {"time_sampling": "discrete", "discrete_steps": T}
    tau = torch.linspace(1, T - 1, T, dtype=torch.float64) / T
    torch.testing.assert_close(ScaledIndex(T)(tau), 1000 * index / T, rtol=0, atol=1e-9, check_dtype=False)
    drawn = paper.sample(64, torch.Generator().manual_seed(0), torch.device("cpu"))
    told = ScaledIndex(T)(drawn) * T / 1000
    torch.testing.assert_close(told, told.round(), rtol=0, atol=2e-3)

    even = time_sampling(settings("reference-ddpm"))["time_sampling"]
    assert even == EvenTimes(T)
    torch.testing.assert_close(even(uniform), (index + 1) / T)
    assert even(torch.tensor([1 - 2**-24])).item() == 1
    torch.testing.assert_close(ScaledIndex(T, even=True)(even(uniform)), 1000 * index / T, rtol=0, atol=2e-4)
    corruption = make_corruption(settings("reference-ddpm"), LAW)
    sampler = sp.Sampler(torch.zeros_like, corruption, solver="ancestral", grid="uniform", steps=T)
    torch.testing.assert_close(sampler.times.flip(0)[1:], (index.double() + 1) / T)
    alpha_bar = np.cumprod(1 - np.linspace(0.1 / T, 20 / T, T))
    np.testing.assert_allclose(corruption.signal(sampler.times).flatten()[:-1] ** 2, alpha_bar[::-1], rtol=1e-11)


# Its checkpoints ------------------------------------------------------------------------------------------------------


def attended(x: Tensor, weights: Mapping[str, Tensor], heads: int) -> Tensor:
    """Return the attention of their description: every head has its queries, keys and values one after the other."""
    batch, channels, height, width = x.shape
    normal = group_norm(x, 32, weights["norm.weight"], weights["norm.bias"])
    packed = conv2d(normal, weights["qkv.weight"][..., None], weights["qkv.bias"])
    q, k, v = packed.reshape(batch, heads, 3, channels // heads, -1).unbind(2)
    chosen = ((q.mT @ k) / (channels // heads) ** 0.5).softmax(-1)
    mixed = (v @ chosen.mT).reshape(batch, channels, height, width)
    return x + conv2d(mixed, weights["proj_out.weight"][..., None], weights["proj_out.bias"])


def test_every_weight_has_its_place_and_attention_its_heads() -> None:
    weights, ours = theirs(), unet(settings("reference", *SMALL))
    ours.load_state_dict(converted(weights, ours.state_dict(), settings("reference", *SMALL)))  # all names, all shapes
    x = torch.randn(2, 64, 4, 4)
    found = {name.removeprefix("middle_block.1."): value for name, value in weights.items()}
    torch.testing.assert_close(ours.mid_block.attentions[0](x), attended(x, found, heads=4), rtol=1e-4, atol=1e-5)
    total = sum(value.numel() for value in weights.values())
    assert total == sum(parameter.numel() for parameter in ours.parameters())


def test_a_converted_checkpoint_is_sampled_from(tmp_path: Path) -> None:
    file, out = tmp_path / "ema_0.9999_000700.pt", tmp_path / "reference"
    torch.save(theirs(), file)
    np.savez(tmp_path / "images.npz", images=np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    words = (*SMALL, "--discrete-steps=100", "--data", tmp_path / "images.npz")
    assert "checkpoint-00000700.pt: sample with" in run("convert_reference", file, out, *words).out
    found = load_run(out)
    assert (found.step, found.provenance["source"], found.settings.discrete_steps) == (700, file.name, 100)
    assert found.spectrum.count == 80  # the images and their mirror images
    torch.testing.assert_close(found.corruption.power.double().expand(3, 8, 8), LAW.power)  # the paper's all the same
    x_t = torch.randn(2, 3, 8, 8)
    tau = torch.linspace(1, 99, 100) / 100
    direct = unet_of(found.model)(x_t, torch.tensor([200.0, 700.0])).sample  # 1000 k / T
    torch.testing.assert_close(found.model(x_t, tau[[20, 70]]), direct, rtol=1e-3, atol=1e-3)
    more = ("--solver=ancestral", "--grid=reference", "--steps=100", "--no-clip", "--count=3", "--variance=small")
    run("sample_cifar10", out, "--out", tmp_path / "samples.npz", *more)
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["images"].shape == (3, 8, 8, 3)
        assert "Ancestral(variance='small')" in str(archive["metadata"])


def test_files_that_cannot_be_converted_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "made"),))

    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    torch.save(theirs() | {"label_emb.weight": torch.zeros(1000, 128)}, tmp_path / "labels.pt")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    for name, words, message in (
        ("a.npy", (), "of torch.save do; pass a file model….pt or ema_….pt of the paper's code"),
        ("nowhere.pt", (), "nowhere.pt does not exist; pass a file model….pt or ema_….pt of the paper's code"),
        ("pickle.pt", (), "pickle.pt is not a checkpoint: it does not begin as the zip archives of torch.save do"),
        ("evil.pt", (), "only tensors and plain values are ever loaded"),
        ("labels.pt", (), "not of a network of these settings: unknown label_emb.weight; pass its widths"),
        ("labels.pt", ("--steps=0",), "convert_reference: steps must be 1 or more"),
    ):
        told = refused("convert_reference", tmp_path / name, tmp_path / "out", *SMALL, *words)
        assert message in told, told
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--widths=[32,32]",), "input_blocks.3.0.skip_connection.bias"),
        (("--widths=[64,64]", "--head-channels=32"), "instead of"),
        (("--blocks=2",), r"no input_blocks.2.0.\S+, .* more; pass its widths, blocks and attention"),
        (("--attention=[]",), "no output_blocks.1.1.conv.weight, unknown input_blocks.3.1.norm.bias and"),
        (("--widths=[80,80]", "--head-channels=40", "--groups=40"), "of 64 channels has no heads of 40; pass head_ch"),
    ],
)
def test_a_network_of_other_settings_is_told_by_its_names(words: tuple[str, ...], message: str) -> None:
    chosen = settings("reference", *SMALL, *words)
    with pytest.raises(ValueError, match=message):
        converted(theirs(), unet(chosen).state_dict(), chosen)


# Their code, where there is a clone -----------------------------------------------------------------------------------


@needs_clone
@pytest.mark.parametrize("width", [32, 128])
def test_the_networks_agree(width: int, tmp_path: Path) -> None:
    import_reference(Path(CLONE))
    torch.manual_seed(0)
    their = sys.modules["guided_diffusion.script_util"].create_model(
        image_size=32,
        num_channels=width,
        num_res_blocks=3,
        attention_resolutions="16,8",
        num_heads=4,
        dropout=0.3,
        use_scale_shift_norm=True,
    )
    with torch.no_grad():
        for parameter in their.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # none is zero, as after training
    torch.save(their.state_dict(), tmp_path / "ema_0.9999_500000.pt")
    widths = f"--widths=[{width},{2 * width},{2 * width},{2 * width}]"
    words = (widths, f"--head-channels={width // 2}", "--channels-last=false")
    run("convert_reference", tmp_path / "ema_0.9999_500000.pt", tmp_path / "out", *words)
    ours = unet_of(load_run(tmp_path / "out").model)
    x_t, told = torch.randn(4, 3, 32, 32), torch.tensor([0.0, 3.25, 500.0, 999.75])
    with torch.no_grad():
        difference = (their.eval()(x_t, told) - ours(x_t, told).sample).abs().max().item()
    print(f"width {width}: outputs differ by {difference:.1e}")
    assert difference < 1e-5


@needs_clone
@pytest.mark.parametrize("small", [False, True])
def test_the_ddpm_chains_agree(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import_reference(Path(CLONE))
    T = 200
    process = sys.modules["guided_diffusion.script_util"].create_gaussian_diffusion(
        steps=T, sigma_small=small, noise_schedule="linear", rescale_timesteps=True
    )

    def network(x: Tensor, told: Tensor) -> Tensor:
        return 0.9 * x + 0.1 * torch.sin(3 * x + told.to(x).view(-1, 1, 1, 1) / 300)

    chosen = settings("reference-ddpm", f"--schedule-steps={T}", f"--discrete-steps={T}")
    solver = sp.solvers.Ancestral(variance="small" if small else "large")
    sampler = sp.Sampler(
        lambda x, t: network(x, ScaledIndex(T, even=True)(t)),
        make_corruption(chosen, LAW),
        solver=solver,
        grid="uniform",
        steps=T,
    )
    x_1 = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ours = sampler.sample(
        x_1.shape, x_1=x_1, dtype=torch.float64, clip=(-1, 1), generator=torch.Generator().manual_seed(3)
    )
    drawn = torch.Generator().manual_seed(3)
    module = sys.modules["guided_diffusion.gaussian_diffusion"]
    monkeypatch.setattr(module.th, "randn_like", lambda x: torch.randn(x.shape, dtype=x.dtype, generator=drawn))
    x = x_1
    for index in reversed(range(T)):
        x = process.p_sample(network, x, torch.full((2,), index))["sample"]
    difference = (x - ours).abs().max().item()
    print(f"{T} steps of DDPM: images differ by {difference:.1e}")
    assert difference < 1e-4


# The table of flags ---------------------------------------------------------------------------------------------------


def test_the_table_names_flags_that_exist() -> None:
    text = (CONFIGS.parent / "README.md").read_text(encoding="utf-8")
    table = text[text.index("### Flag by flag") : text.index("### Train\n")]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `--")]
    known = {
        script: set(re.findall(r"--[a-z][\w-]*", run(script, "--help").out))
        for script in ("train_cifar10", "sample_cifar10", "evaluate_fid")
    }
    known["train_cifar10"] = {flag.replace("_", "-") for flag in known["train_cifar10"]}
    known["torchrun"] = {"--nproc-per-node", "--nproc_per_node"}
    for there, here, *_ in rows:
        for flag in re.findall(r"`(--[a-z][\w-]*)", here):
            assert any(flag in flags for flags in known.values()), (there, flag)
    if CLONE:
        named = {flag for there, *_ in rows for flag in re.findall(r"--(\w+)", there)}
        assert named == their_flags(Path(CLONE))


def their_flags(clone: Path) -> set[str]:
    """Return the flags of their four scripts: the names in the dictionaries of their defaults."""
    found = {"config", "export"}
    import_reference(clone)
    for name in ("image_train", "image_fourier_train", "image_sample", "image_fourier_sample"):
        text = (clone / "scripts" / f"{name}.py").read_text()
        body = text[text.index("defaults = dict(") : text.index("defaults.update")]
        found |= set(re.findall(r"^\s+(\w+)=", body, re.MULTILINE))
    found |= sys.modules["guided_diffusion.script_util"].model_and_diffusion_defaults().keys()
    return found | sys.modules["nonunif_diffusion.script_util"].model_and_fourier_diffusion_defaults().keys()
