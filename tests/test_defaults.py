"""The default of every argument of every public function, class and method: a change of one is a change for users."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

import shortest_path as sp
from tests.training.networks import layer


def none(names: str) -> dict[str, None]:
    return dict.fromkeys(names.split())


POWER, START = {"power": None}, {"start": 1.0}
BASIS = {"dims": 2, "channel_rotation": None}
MEASURED = {"basis": None, "center": True, "check_range": True, "image_key": None}
SAMPLED = none("x_1 start conditioning generator clip denoised_callback device") | {"dtype": torch.float32}
TRAINING = none("weighting learning_rate ema_warmup discrete_steps max_grad_norm null_conditioning") | {
    **none("image_key label_name label_key"),
    "prediction": "noise",
    "ema_decay": 0.9999,
    "precision": "fp32",
    "time_sampling": "uniform",
    "accumulation": 1,
    "max_skipped": 10,
    "drop_conditioning": 0.0,
    "seed": 0,
    "check_range": True,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "bases.Basis": BASIS,
    "bases.Basis.mix": {"even": False},
    "CosineBasis": BASIS,
    "FourierBasis": BASIS,
    "FourierBasis.mix": {"even": False},
    "PixelBasis": BASIS,
    "PrincipalBasis": {"dims": 2},
    "bases.SeparableBasis": {"channel_rotation": None},
    "bases.WaveletBasis": {"wavelet": "haar", "levels": None, **BASIS},
    "PowerSpectrum": {"cross": None, "mean": None, "count": 0, "floored": 0},
    "PowerSpectrum.band": {"power": 1.0, "outside": 0.0, "basis": None},
    "PowerSpectrum.estimate": {**MEASURED, "channels": "rotate", "floor": 1e-6, "progress": None},
    "PowerSpectrum.fit_power_law": {"channel": None},
    "PowerSpectrum.matern": {"basis": None},
    "PowerSpectrum.power_law": none("law amplitude offset exponent basis"),
    "spectra.SpectrumEstimator": MEASURED,
    "spectra.SpectrumEstimator.measured": {"channels": "rotate", "floor": 1e-6},
    "spectra.SpectrumEstimator.spectrum": {"channels": "rotate", "floor": 1e-6},
    "BlurCorruption": {
        "max_blur": 20.0,
        "min_scale": 1e-3,
        "spatial": (32, 32),
        "log_snr_max": 10.0,
        "channel_rotation": None,
    },
    "ClockCorruption": {"radius": None},
    "DiagonalCorruption": {"mean": None},
    "GaussianCorruption": {"schedule": "cosine", "noise": None, "dims": None},
    "ShortestPathCorruption": {"final": None},
    "corruptions.LinearSchedule": {"steps": 1000},
    "corruptions.same_rotation": {"exactly": False},
    "corruptions.ElementwiseCorruption": {"mean": None},
    **{key: {"analyzed": False} for key in ("corrupt", "DiagonalCorruption.corrupt")},
    "corruptions.Process.mix": {"analyzed": False, "centred": False},
    "corruptions.Process.prior": {"power": None, "end": None},
    "corruptions.Process.analyze": {"signal": None},
    "corruptions.Process.synthesize": {"signal": None},
    "HeatDissipationCorruption": {
        "max_blur": 24.0,
        "min_blur": 0.5,
        "noise_level": 0.01,
        "spatial": (32, 32),
        "channel_rotation": None,
    },
    "corruptions.Process": {"spectrum": None, "informed": True},
    "corruptions.scales": {"dtype": None},
    "prediction.data_weights": POWER,
    "prediction.denoise": POWER,
    "prediction.error_weight": POWER,
    "prediction.mixture": POWER,
    "prediction.target": POWER,
    "prediction.target_weights": POWER,
    "solvers.Ancestral": {"variance": "large"},
    "solvers.DDIM": {"eta": 0.0},
    "solvers.Multistep": {"order": 2, "corrector": None, "eta": 0.0},
    "solvers.StepNumbers": {"reach": 2},
    "grids.Cosine.__call__": START,
    "grids.Fisher.__call__": START,
    "grids.LogSnr": {"end": 1e-3},
    "grids.LogSnr.__call__": START,
    "grids.Power": {"at_noise": 2.5, "at_data": 1.5},
    "grids.Power.__call__": START,
    "grids.Reference.__call__": START,
    "grids.Spectrum": POWER,
    "grids.Spectrum.__call__": START,
    "grids.TimeGrid.__call__": START,
    "grids.Uniform.__call__": START,
    "grids.make_grid": POWER,
    "grids.make_times": START,
    "grids.scales_at": {"pick": None},
    "gaussian_kl": {"solver": "ancestral", **none("steps grid times sampler_spectrum")},
    "geometry.compare": {"steps": (10, 50), "solver": "ancestral", "progress": None},
    "path_length": {"rtol": 1e-4},
    "Sampler": {
        "prediction": "noise",
        "solver": "multistep",
        **none("steps grid start times spectrum guidance_scale guidance_interval null_conditioning"),
    },
    "Sampler.batches": {"batch_size": 64, "seed": 0, **none("x_1 conditioning device progress")},
    "Sampler.image_to_image": {"generator": None},
    "models.WhitenedInput": {"alone": False},
    "models.WhitenedInput.from_description": {"network": None},
    "models.WhitenedInput.from_pretrained": {"network": None},
    "Sampler.from_description": {"model": None},
    "Sampler.from_pretrained": {"model": None},
    "Sampler.interpolate": {"fractions": (0.0, 0.25, 0.5, 0.75, 1.0), **none("conditioning progress")},
    "Sampler.invert": none("conditioning progress"),
    "Sampler.log_likelihood": {"probes": 1, **none("conditioning generator progress")},
    "Sampler.save_pretrained": {"model": True},
    "Sampler.sample": {**SAMPLED, **none("callback progress")},
    "Sampler.step": none("conditioning generator clip denoised_callback"),
    "Sampler.trajectory": SAMPLED,
    "bits_per_dim": {"scale": 127.5},
    "sampling.first_time": {"left": 0.1},
    "sampling.describe_sampler": none("solver times guidance"),
    "sampling.model_from_description": {"network": None},
    "sampling.load_weights": {"take_types": False},
    "edits.dynamic_threshold": {"quantile": 0.995, "limit": 1.0},
    "DiffusionLoss": {
        "prediction": "noise",
        "time_sampling": "uniform",
        **none("weighting spectrum discrete_steps"),
    },
    "DiffusionLoss.__call__": none("t eps generator"),
    "DiffusionLoss.task": {"analyzed": False},
    "DiffusionTrainer": {**none("spectrum optimizer scheduler metadata"), **TRAINING},
    "DiffusionTrainer.fit": {
        "checkpoint_every": 1000,
        "keep_checkpoints": 3,
        "resume": True,
        "allow_changes": (),
        "callbacks": (),
        **none("checkpoint_dir on_signal progress"),
    },
    "DiffusionTrainer.load_state_dict": {"allow_changes": ()},
    "DiffusionTrainer.loss": none("t eps conditioning"),
    "DiffusionTrainer.save": {"keep": 3},
    "training.CheckpointWriter.save": {"delete": True},
    "training.ExponentialMovingAverage": {"warmup": True, "copied": ()},
    "training.ExponentialMovingAverage.update": {"unless": None},
    "training.load_latest": {"otherwise": None},
    "training.share_checkpoint": none("model ema_decay"),
    "training.TimeDistribution": {"discrete_steps": None},
    "training.TrainStep": {"skipped": False},
    "training.TrainingOptions": TRAINING,
}


def public() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield every public function, class and method once, by its shortest name."""
    spaces = {name: getattr(sp, name) for name in sp.__all__ if inspect.ismodule(getattr(sp, name))}
    named = [(name, getattr(sp, name)) for name in sp.__all__]
    named += [(f"{space}.{name}", getattr(module, name)) for space, module in spaces.items() for name in module.__all__]
    seen: set[int] = set()
    # Base classes first: a method has the name of the class that defines it.
    for name, value in sorted(named, key=lambda item: len(getattr(item[1], "__mro__", ()))):
        methods = inspect.getmembers(value) if inspect.isclass(value) else []
        methods = [(f"{name}.{key}", each) for key, each in methods if key == "__call__" or not key.startswith("_")]
        for key, each in [(name, value), *methods]:
            own = str(getattr(each, "__module__", None)).startswith("shortest_path")
            if own and callable(each) and id(getattr(each, "__func__", each)) not in seen:
                seen.add(id(getattr(each, "__func__", each)))
                yield key, each


def test_every_default_is_the_stated_one() -> None:
    found = {}
    for name, each in public():
        if inspect.isclass(each) and issubclass(each, Exception):
            continue  # some have no signature, and none has options
        parameters = inspect.signature(each).parameters.values()
        if defaults := {own.name: own.default for own in parameters if own.default is not own.empty}:
            found[name] = defaults
    assert found == DEFAULTS


def test_none_stands_for_the_stated_value() -> None:
    gaussian = sp.GaussianCorruption()
    law = sp.PowerSpectrum.power_law((1, 4, 4), amplitude=1.0, offset=1.0, exponent=1.0)
    known = sp.ShortestPathCorruption(law)
    for corruption, grid in ((gaussian, "cosine"), (known, "spectrum")):
        default, stated = (sp.Sampler(layer(), corruption, **options) for options in ({}, {"steps": 50, "grid": grid}))
        assert torch.equal(default.times, stated.times)
    assert sp.gaussian_kl(gaussian, law) == sp.gaussian_kl(gaussian, law, steps=50, grid="uniform")
    assert sp.DiffusionTrainer(layer(), gaussian).optimizer.param_groups[0]["lr"] == 2e-4
    discrete = sp.training.TimeDistribution("discrete").sample(9, torch.Generator().manual_seed(0), torch.device("cpu"))
    indices = (discrete * 4000 - 1) * 3999 / 3998
    torch.testing.assert_close(indices, indices.round(), rtol=0, atol=1e-3)
