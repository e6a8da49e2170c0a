"""One run of the study: train a network, sample with several solvers, and measure the samples."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import shortest_path as sp
from examples.recipe.cifar10 import Pictures, RankBatches, load
from examples.recipe.images import to_unit
from examples.recipe.runs import make_network, unet_of
from examples.recipe.settings import Settings
from examples.recipe.unet import Bf16
from studies.trained_networks.cases import CASES, PRESETS, SOLVERS, Case, Scale, Target
from studies.trained_networks.classifier import load_classifier
from studies.trained_networks.measures import Measures, quantised

NOISE_SEED = 1234  # of sampling: sample i starts from the same random numbers in every case
KEPT = 10  # samples of each solver and number of calls, to show


class Study(NamedTuple):
    """Settings that all runs share, as passed to other processes."""

    scale_name: str
    data: str
    held_out: str
    classifier: str
    out: Path
    compile: bool = False

    @property
    def scale(self) -> Scale:
        """The preset by that name."""
        return PRESETS[self.scale_name]


class Run(NamedTuple):
    """One training: a case, the target of its network, a seed, and its length."""

    case: str
    target: Target
    seed: int
    tuning: bool

    @property
    def folder(self) -> Path:
        """Folder of the run, relative to that of the study."""
        if self.tuning:
            return Path("tuning") / self.case / self.target.name.replace(" ", "-")
        return Path("runs") / f"{self.case}-{self.seed}"


def perform(study: Study, run: Run, calls: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Train unless the training is finished, sample and measure what is missing, and return the record."""
    folder, scale, case = study.out / run.folder, study.scale, CASES[run.case]
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "case": run.case,
        "target": run.target.name,
        "seed": run.seed,
        "scale": scale.plain(),
        "steps": scale.tuning_steps if run.tuning else scale.steps,
        "data": dataset(study.data, scale.size).provenance["sha256"],
        "held_out": dataset(study.held_out, scale.size).provenance["sha256"],
    }
    record = read_record(folder / "record.json", identity)
    missing = [
        (solver, count)
        for solver, counts in calls.items()
        for count in counts
        if not any((entry["solver"], entry["calls"]) == (solver, count) for entry in record["quality"])
    ]
    if "loss" in record and not missing:
        return record
    spectrum = spectrum_of(study, case)
    corruption = on_device(case.make(spectrum), scale.device)
    trainer = make_trainer(study, run, identity["steps"], corruption, spectrum)
    if study.compile:
        for network in (trainer.model, trainer.ema_model):
            unet_of(network).compile()  # in place: the names of the weights stay
    record |= train(study, run, identity["steps"], trainer, folder, record)
    write(folder / "record.json", record)
    for solver, count in sorted(missing, key=lambda each: each[1]):
        start = time.perf_counter()
        samples = scale.tuning_samples if run.tuning else scale.samples
        images = sample(study, run, trainer, solver=solver, calls=count, samples=samples)
        seconds = time.perf_counter() - start
        entry = {"solver": solver, "calls": count, "samples": samples, "seconds": seconds}
        record["quality"].append(entry | measured(study, images))
        if not run.tuning and run.seed == 0 and images.isfinite().all():
            torch.save(quantised(images[:KEPT]), folder / f"{solver.replace(' ', '-')}-{count}.pt")
        write(folder / "record.json", record)
        print(f"{run.folder}: {solver}, {count} calls: Fréchet distance {record['quality'][-1]['frechet']}", flush=True)
    return record


def execute(
    study: Study, runs: Sequence[Run], calls: Mapping[str, Sequence[int]], processes: int
) -> list[dict[str, Any]]:
    """Perform runs, `processes` at a time, and return their records."""
    if processes == 1:
        return [perform(study, run, calls) for run in runs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [pool.submit(perform, study, run, calls) for run in runs]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [each.result() for each in waiting]


def make_trainer(
    study: Study, run: Run, steps: int, corruption: sp.Corruption, spectrum: sp.PowerSpectrum
) -> sp.DiffusionTrainer:
    """Return a trainer; the initial weights of its network depend on the seed only."""
    scale = study.scale
    torch.manual_seed(run.seed)
    settings = Settings(size=scale.size, whitened_input=run.target.whitened_input, **scale.network)
    network = make_network(settings, corruption, spectrum, classes=0).to(scale.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=scale.learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / scale.warmup, 1.0) * max(1 - step / steps, 0.0)
    )
    return sp.DiffusionTrainer(
        network,
        corruption,
        prediction=run.target.prediction,
        weighting=run.target.weighting,
        spectrum=spectrum,
        optimizer=optimizer,
        scheduler=scheduler,
        ema_decay=scale.ema_decay,
        precision=scale.precision,
        time_sampling="stratified",
        max_grad_norm=1.0,
        seed=run.seed,
    )


def train(
    study: Study, run: Run, steps: int, trainer: sp.DiffusionTrainer, folder: Path, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Train, or load the weights of a finished training; return the entries of its record."""
    scale = study.scale
    batches = RankBatches(dataset(study.data, scale.size), scale.batch_size, seed=run.seed, device=scale.device)
    losses: list[Tensor] = []

    def note(_: sp.DiffusionTrainer, done: sp.training.TrainStep) -> None:
        losses.append(done.loss)
        if done.step % max(1, steps // 5) == 0:
            print(f"{run.folder}: step {done.step} of {steps}, loss {done.loss.item():.4f}", flush=True)

    start = time.perf_counter()
    trainer.fit(
        batches,
        steps=steps,
        checkpoint_dir=folder / "checkpoints",
        checkpoint_every=max(1, steps // 5),
        keep_checkpoints=1,
        callbacks=[note],
        progress=False,
    )
    if "loss" in record:
        return {}
    last = losses[-max(1, steps // 10) :]
    return {
        "images": steps * scale.batch_size,
        "seconds": time.perf_counter() - start,
        "loss": finite(torch.stack(last).mean().item()) if last else None,
        "skipped": trainer.skipped,
    }


def sample(
    study: Study,
    run: Run,
    trainer: sp.DiffusionTrainer,
    *,
    solver: str,
    calls: int,
    samples: int,
) -> Tensor:
    """Return samples, on the CPU, not yet rounded."""
    scale, corruption, spectrum = study.scale, trainer.corruption, trainer.spectrum
    options = dict(SOLVERS[solver])
    if isinstance(options.get("grid"), type):
        options["grid"] = options["grid"](corruption, spectrum)
    sampler = sp.Sampler(
        Bf16(trainer.ema_model) if scale.precision == "bf16" else trainer.ema_model,
        corruption,
        prediction=run.target.prediction,
        steps=calls,
        spectrum=spectrum,
        **options,
    )
    x_1 = None
    if CASES[run.case].family == "heat":  # the corruption ends in blurred images, not in noise
        training = dataset(study.data, scale.size).images
        rows = torch.arange(samples) * (len(training) // samples)
        x_0 = to_unit(training[rows.numpy()])
        eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
        x_1 = sp.corrupt(corruption, x_0.to(scale.device), float(sampler.times[0]), eps.to(scale.device))
    parts = sampler.batches(
        samples,
        (3, scale.size, scale.size),
        batch_size=scale.drawn_at_once,
        seed=NOISE_SEED,
        x_1=x_1,
        device=scale.device,
        progress=False,
    )
    return torch.cat([part.cpu() for part in parts])


def measured(study: Study, samples: Tensor) -> dict[str, float | None]:
    """Return all measures of samples; None for each if any sample diverged."""
    if not samples.isfinite().all():
        return dict.fromkeys(("frechet", "kernel", "kernel_error", "patches_1", "patches_2", "patches_4", "log_power"))
    return {name: finite(value) for name, value in measures_of(study)(samples).items()}


# Shared by runs -------------------------------------------------------------------------------------------------------


@cache
def dataset(source: str, size: int) -> Pictures:
    """Return a data set; each process reads it once."""
    return load(source, size=size)


@cache
def measures_of(study: Study) -> Measures:
    """Return the measures against held-out images."""
    classifier = load_classifier(study.classifier).to(study.scale.device)
    held = to_unit(dataset(study.held_out, study.scale.size).images)
    return Measures(held, classifier.features, device=study.scale.device)


def spectrum_of(study: Study, case: Case) -> sp.PowerSpectrum:
    """Return the spectrum of the training images and their mirror images in the basis of a case; measured once."""
    kept = study.out / "spectra" / f"{case.basis}-{case.channels}-{study.scale.size}.npz"
    if kept.exists():
        return sp.PowerSpectrum.load(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    images = dataset(study.data, study.scale.size).images
    batches = (to_unit(images[first : first + 1000]) for first in range(0, len(images), 1000))
    mirrored = (torch.cat([batch, batch.flip(-1)]) for batch in batches)
    spectrum = sp.PowerSpectrum.estimate(mirrored, case.basis, case.channels, progress=False)
    spectrum.save(kept)
    return spectrum


def on_device(corruption: sp.Corruption, device: str) -> sp.Corruption:
    """Return the corruption, moved to a device if it is a module."""
    return corruption.to(device) if isinstance(corruption, torch.nn.Module) else corruption


def read_record(file: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an earlier run, or a new one.

    Raises:
        ValueError: the record is of other settings or images.
    """
    if not file.exists():
        return {**identity, "quality": []}
    record: dict[str, Any] = json.loads(file.read_text())
    if other := [name for name, value in identity.items() if record.get(name) != value]:
        raise ValueError(f"{file} is of another study (its {', '.join(other)} differ); pass another --out")
    return record


def finite(value: float) -> float | None:
    """Return a number that JSON can represent: None for NaN and infinity."""
    return value if math.isfinite(value) else None


def write(file: Path, values: Mapping[str, Any]) -> None:
    """Write JSON to a temporary file, and rename it."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1, allow_nan=False, default=str) + "\n")
    temporary.replace(file)
