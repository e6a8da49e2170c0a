"""What several processes must have alike to train one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..bases import Basis, kind_of
from ..corruptions import Corruption, known_mean
from ..spectra import PowerSpectrum
from ._fingerprint import fingerprint, measured
from ._options import alike, described
from ._plain import plain
from ._ranks import Ranks
from ._settings import SETTINGS, defaults_of
from ._state import SCALES, other_options
from ._weights import PARAMETERS, other_names


def check_agreement(
    ranks: Ranks,
    corruption: Corruption,
    spectrum: PowerSpectrum | None,
    optimizer: Optimizer,
    options: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
    names: Sequence[Sequence[str]],
) -> None:
    """Raise a ValueError in all processes if one of them has other options than the first. Collective.

    Corruptions and spectra are compared by their numbers, but for rounding, and not by what they tell of themselves,
    such as a device or the images that were counted.

    Args:
        ranks: The processes.
        corruption: The corruption; what it learns has begun as in the first process.
        spectrum: The spectrum that was passed.
        optimizer: The optimizer, of whose groups the options that it knows are compared.
        options: What else must be equal.
        settings: Settings of optimizer and schedule, by their paths.
        names: Names of the optimizer's parameters, group by group.
    """
    if ranks.count == 1:
        return
    config = {**options, "corruption": described(type(corruption)), "basis": kind_of(corruption.basis)}
    config["spectrum"] = None if spectrum is None else kind_of(spectrum.basis)
    known = defaults_of(optimizer)
    compared = {
        f"{part}.{path}": value
        for part, values in settings.items()
        for path, value in values.items()
        if part != "optimizer" or not known or path.rpartition(".")[2] in known
    }
    ours = {name: _sent(value) for name, value in compared.items()}
    own = {
        "config": {name: _sent(value) for name, value in config.items()},
        SETTINGS: ours,
        "corruption": _tables(corruption, corruption.basis, known_mean(corruption)),
        SCALES: fingerprint(corruption),
        "spectrum": measured(spectrum),
        PARAMETERS: names,
    }
    first = ranks.of_first(own)
    found = [*other_options(first, own, (), "in the first process").values()]
    theirs = first[SETTINGS]
    found += [
        f"{name}: {theirs.get(name)!r} in the first process, {ours.get(name)!r} here"
        for name in sorted({*theirs, *ours})
        if not alike(theirs.get(name), ours.get(name))
    ]
    if others := other_names(first[PARAMETERS], names):
        found.append(f"parameters of the optimizer in {others}")
    for rank, each in ranks.gather({"found": found}).items():
        if each["found"]:
            raise ValueError(
                f"the processes have different corruptions, spectra or options: process {rank} says "
                f"{'; '.join(each['found'])}. Pass the same to all, and if each measured a spectrum of its own images, "
                "call all_reduce() of the SpectrumEstimator before spectrum()"
            )


def _tables(module: object, basis: Basis, mean: Tensor | None) -> dict[str, Tensor]:
    found = {**(module.state_dict() if isinstance(module, nn.Module) else {}), **basis.state_dict(prefix="basis.")}
    found |= {} if mean is None else {"mean": mean}
    return {name: each.detach() for name, each in found.items() if isinstance(each, Tensor)}


def _sent(value: Any) -> Any:
    """Return a value that can be sent, or a description of it."""
    try:
        return plain(value)
    except TypeError:
        return described(value)
