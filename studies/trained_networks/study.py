"""A study: its settings, images, spectra and classifier, and what its runs are compared with."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import shortest_path as sp
from studies.trained_networks import images, measures
from studies.trained_networks.cases import CASES, OUTPUTS, PRESETS, Case, Scale
from studies.trained_networks.classifier import load_classifier

NOISE_SEED = 1234  # of sampling: sample i starts from the same random numbers in every case


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return the options that say which study it is: all programs of the folder have them."""
    found = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--scale", choices=list(PRESETS), default="8", help="sizes of images, network and training (%(default)s)")
    add("--data", required=True, help="training images, as for examples/train_cifar10.py")
    add("--held-out", required=True, help="test images, to which samples are compared")
    add("--classifier", required=True, help="folder of studies.trained_networks.classifier")
    return found


def add_choice(options: argparse.ArgumentParser, cases: Sequence[str], *, finished: bool = False) -> None:
    """Add the options that choose runs: of a finished study, in its folder, or those to train."""
    add = options.add_argument
    if finished:
        add("--study", type=Path, default=Path("outputs/trained"), help="folder of the study (%(default)s)")
    add("--cases", nargs="+", choices=list(CASES), default=list(cases), metavar="CASE", help=f"from {', '.join(CASES)}")
    add("--outputs", nargs="+", choices=list(OUTPUTS), default=list(OUTPUTS), help="what networks predict and see")


class Study(NamedTuple):
    """Settings that all runs share, as passed to other processes."""

    scale_name: str
    data: str
    held_out: str
    classifier: str
    out: Path

    @property
    def scale(self) -> Scale:
        """The preset by that name."""
        return PRESETS[self.scale_name]


@cache
def _read(source: str, size: int, source_size: int, crops: bool) -> images.Images:
    return images.read(source, size=size, source_size=source_size, crops=crops)


def _of(study: Study, source: str) -> images.Images:
    return _read(source, study.scale.size, study.scale.source_size, study.scale.crops)


def training_images(study: Study) -> images.Images:
    """Return the images to train with: all but the last, which choose the learning rate."""
    found = _of(study, study.data)
    return found.first(len(found.levels) - study.scale.validation)


def validation_images(study: Study) -> images.Images:
    """Return the training images that choose the learning rate."""
    return _of(study, study.data).last(study.scale.validation)


def test_images(study: Study) -> images.Images:
    """Return the test images."""
    return _of(study, study.held_out)


def classifier_facts(study: Study) -> dict[str, Any]:
    """Return what the classifier's folder says about it."""
    facts: dict[str, Any] = json.loads((Path(study.classifier) / "classifier.json").read_text())
    return facts


@cache
def classifier_of(study: Study) -> Any:
    """Return the classifier in whose features samples are compared."""
    return load_classifier(study.classifier)


@cache
def real_features(study: Study) -> Tensor:
    """Return the features of all test images, in random order: images may be sorted by class."""
    real = images.rounded(test_images(study).dequantised())
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(NOISE_SEED))
    return classifier_of(study).features(real[order])


def sampled(study: Study, sampler: sp.Sampler, count: int) -> Tensor:
    """Return samples, the same noise in every case, (count, 3, size, size)."""
    scale = study.scale
    parts = sampler.batches(
        count, (3, scale.size, scale.size), batch_size=scale.sampled_at_once, seed=NOISE_SEED, progress=False
    )
    return torch.cat(list(parts))


def kernel_of(study: Study, samples: Tensor) -> tuple[float, float]:
    """Return the kernel distance of samples from the test images, and its error."""
    return measures.kernel(samples, real_features(study), classifier_of(study).features)


@cache
def floor(study: Study) -> dict[str, Any]:
    """Return the measures that as many training images have as there are samples: those of a perfect network."""
    scale = study.scale
    real = images.rounded(test_images(study).dequantised())
    shuffled = torch.randperm(len(training_images(study).levels), generator=torch.Generator().manual_seed(NOISE_SEED))
    levels = training_images(study).levels[shuffled[: scale.samples]]
    found = images.Images(levels, {}).dequantised(seed=1)
    value, error = kernel_of(study, found)
    basis = spectrum_of(study, CASES["gaussian-cosine"]).basis
    return {
        "samples": scale.samples,
        "kernel": value,
        "error": error,
        "auc": measures.classifier_auc(found, real[: scale.samples]),
        "power": measures.band_power(found, real[: scale.samples], basis),
    }


@cache
def gaussian_model(study: Study) -> dict[str, float]:
    """Return bits/dim and kernel distance of the best models without a network: normal distributions.

    `diagonal` has the measured spectrum in the rotated cosine basis, `full` the whole covariance.
    """
    spectrum = spectrum_of(study, CASES["gaussian-cosine"])
    held = test_images(study).first(study.scale.likelihood_images).dequantised().double()
    noise = torch.randn(
        study.scale.samples, *spectrum.shape, generator=torch.Generator().manual_seed(NOISE_SEED), dtype=torch.float64
    )
    mean = 0.0 if spectrum.mean is None else spectrum.mean
    drawn = spectrum.basis.synthesize(spectrum.power.sqrt() * noise) + mean
    value, error = kernel_of(study, drawn.float())
    values = training_images(study).dequantised(seed=0).double().flatten(1)
    jitter = 1e-6 * torch.eye(values.shape[1], dtype=torch.float64)  # for fewer images than values
    factor = torch.linalg.cholesky(torch.cov(values.T) + jitter)
    whole = torch.linalg.solve_triangular(factor, (held.flatten(1) - values.mean(0)).T, upper=False)
    away = spectrum.basis.analyze(held - mean) / spectrum.power.sqrt()
    shape = spectrum.shape
    return {
        "diagonal": measures.normal_bits(away.flatten(1), spectrum.power.log().sum() / 2, shape),
        "full": measures.normal_bits(whole.T, factor.diagonal().log().sum(), shape),
        "kernel": value,
        "error": error,
    }


def spectrum_of(study: Study, case: Case) -> sp.PowerSpectrum:
    """Return the spectrum of the training images and their mirror images in the basis of a case; measured once."""
    kept = study.out / "spectra" / f"{case.basis}-{case.channels}-{study.scale.size}.npz"
    if kept.exists():
        return sp.PowerSpectrum.load(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    batches = training_images(study).dequantised(seed=0).split(1000)
    mirrored = (torch.cat([batch, batch.flip(-1)]) for batch in batches)
    spectrum = sp.PowerSpectrum.estimate(mirrored, case.basis, case.channels, progress=False)
    spectrum.save(kept)
    return spectrum


def finite(value: float) -> float | None:
    """Return a number that JSON can represent: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def write(file: Path, values: Mapping[str, Any]) -> None:
    """Write JSON to a temporary file, and rename it."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1, allow_nan=False, default=str) + "\n")
    temporary.replace(file)
