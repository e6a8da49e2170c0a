"""What several processes must have alike to train one model."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..corruptions import Corruption
from ..spectra import PowerSpectrum
from ._fingerprint import fingerprint
from ._options import TrainingOptions
from ._plain import plain
from ._ranks import Ranks
from ._settings import SETTINGS
from ._state import SCALES, other_options


def check_agreement(
    ranks: Ranks,
    corruption: Corruption,
    spectrum: PowerSpectrum | None,
    options: TrainingOptions,
    config: dict[str, Any],
    settings: dict[str, dict[str, Any]],
) -> None:
    """Raise a ValueError in all processes if one of them has other options than the first. Collective.

    Args:
        ranks: The processes.
        corruption: The corruption; what it learns has begun as in the first process.
        spectrum: The spectrum that was passed.
        options: The options; those of `config` as there.
        config: What checkpoints compare.
        settings: Settings of optimizer and schedule, by their paths.
    """
    if ranks.count == 1:
        return
    tables = {} if spectrum is None else {"power": spectrum.power, **spectrum.basis.state_dict(prefix="basis.")}
    if spectrum is not None and spectrum.mean is not None:
        tables["mean"] = spectrum.mean
    own = {
        "config": {"max_skipped": options.max_skipped, "image_key": options.image_key, **config},
        SETTINGS: settings,
        "corruption": corruption.state_dict() if isinstance(corruption, nn.Module) else {},
        SCALES: fingerprint(corruption),
        "spectrum": tables,
    }
    first = ranks.of_first(plain(own))
    found = [*other_options(first, own, (), "in the first process").values()]
    for part, values in settings.items():
        theirs = first[SETTINGS].get(part, {})
        found += [
            f"{part}.{path}: {theirs.get(path)!r} in the first process, {values.get(path)!r} here"
            for path in sorted({*theirs, *values})
            if theirs.get(path) != values.get(path)
        ]
    for rank, each in ranks.gather({"found": found}).items():
        if each["found"]:
            raise ValueError(
                f"the processes have different corruptions, spectra or options: process {rank} says "
                f"{'; '.join(each['found'])}. Pass the same to all, and if each measured a spectrum of its own images, "
                "call all_reduce() of the SpectrumEstimator before spectrum()"
            )
