"""What several processes must have alike to train one model: numbers that tell where they differ."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..corruptions import Corruption, known_mean
from ..spectra import PowerSpectrum
from ._fingerprint import fingerprint, two_means


@torch.no_grad()
def numbers_of(corruption: Corruption, spectrum: PowerSpectrum | None, options: Mapping[str, Any]) -> Tensor:
    """Return rows of numbers of a corruption, a spectrum and options, (11, 4), float64 on the CPU.

    As many whatever there is, so that processes can exchange them. Numbers of one row are of one magnitude.
    """
    words = repr(sorted(options.items())).replace("__mp_main__", "__main__")  # in a process that a script spawned
    told = zlib.crc32(words.encode()) / 2**32
    measured, centre = spectrum is not None, known_mean(corruption)
    rows = [
        torch.tensor([[told, float(measured), float(centre is not None), 0.0]], dtype=torch.float64, device="cpu"),
        fingerprint(corruption),
        _row([centre]),
        _row(_tables(corruption.basis)),
        _row([None if spectrum is None else spectrum.power]),
        _row([None if spectrum is None else spectrum.mean]),
        _row(() if spectrum is None else _tables(spectrum.basis)),
    ]
    return torch.cat(rows)


def _tables(module: nn.Module) -> Iterable[Tensor]:
    return (each for each in module.state_dict().values() if each.is_floating_point() and each.numel())


def _row(tables: Iterable[Tensor | None]) -> Tensor:
    """Return sums over tables of their means, and of those of their absolute values, (1, 4)."""
    row = torch.zeros(4, dtype=torch.float64, device="cpu")
    for table in tables:
        if table is not None:
            row += torch.stack([*two_means(table), *two_means(table.abs())]).cpu().double()
    return row[None]
