"""Classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._checks import check_keywords, check_numbers


class Guidance(NamedTuple):
    """Classifier-free guidance: at times in `interval`, output = null + scale · (conditioned − null).

    Source: Ho & Salimans 2022, arXiv:2207.12598, equation 6 (scale = 1 + w); Kynkäänniemi et al. 2024,
    arXiv:2404.07724 (interval).
    """

    scale: float
    interval: tuple[float, float]
    null: Mapping[str, Any]

    def acts(self, t: float) -> bool:
        """Return whether the output at a time differs from the conditioned one: a scale of 1 changes nothing."""
        return self.scale != 1 and self.interval[0] <= t <= self.interval[1]


def make_guidance(
    scale: float | None, interval: Sequence[float] | None, null: Mapping[str, Any] | None
) -> Guidance | None:
    """Return the guidance of a sampler's options, or None without a scale.

    Raises:
        TypeError: an option of another type.
        ValueError: options without a scale, a scale that is not finite, no null conditioning, or a wrong interval.
    """
    check_keywords("null_conditioning", null, "{'class_labels': 10}")
    if scale is None:
        given = [
            name for name, value in (("guidance_interval", interval), ("null_conditioning", null)) if value is not None
        ]
        if given:
            raise ValueError(
                f"{' and '.join(given)} has no effect without guidance_scale; pass guidance_scale=2.0, or omit it"
            )
        return None
    check_numbers(guidance_scale=scale)
    scale = float(scale)
    interval = (0.0, 1.0) if interval is None else interval
    if not math.isfinite(scale):
        raise ValueError(f"guidance_scale must be finite, got {scale}")
    pair = isinstance(interval, Sequence) and not isinstance(interval, str) and len(interval) == 2
    if pair:
        check_numbers(**{"guidance_interval[0]": interval[0], "guidance_interval[1]": interval[1]})
    if not pair or not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"guidance_interval must be (low, high) with 0 <= low <= high <= 1, got {interval!r}")
    if not null and scale != 1:
        raise ValueError(
            f"guidance_scale={scale:g} requires null_conditioning, the same as in training, "
            "e.g. null_conditioning={'class_labels': 10}"
        )
    return Guidance(scale, (float(interval[0]), float(interval[1])), null or {})
