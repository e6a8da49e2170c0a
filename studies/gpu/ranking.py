"""What the measures of a comparison say: bits/dim image by image, and which case is best by each measure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

BASE = "gaussian"  # the case to which the others are compared


def paired(cases: Mapping[str, Any], steps: str, base: str = BASE) -> dict[str, dict[str, float | int]]:
    """Return the mean bits/dim of each case, and its mean difference from the base over the same images.

    The standard error of the difference is of paired images: most of the scatter of bits/dim is that between images,
    which all cases share. It tells nothing of other seeds of training.
    """
    found: dict[str, dict[str, float | int]] = {}
    known = {name: each["bits"][steps] for name, each in cases.items() if each.get("bits", {}).get(steps)}
    for name, values in known.items():
        entry: dict[str, float | int] = {"images": len(values), "mean": statistics.fmean(values)}
        if base in known and len(known[base]) == len(values) > 1:
            differences = [ours - theirs for ours, theirs in zip(values, known[base], strict=True)]
            entry["difference"] = statistics.fmean(differences)
            entry["standard_error"] = statistics.stdev(differences) / len(differences) ** 0.5
        found[name] = entry
    return found


def leaders(cases: Mapping[str, Any], measures: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Return the best case by each primary measure, FID and bits/dim; None unless all cases have it."""
    steps, drawn = measures["bits"][0], measures["quality"][0]
    distances = {name: each.get("quality", {}).get(drawn, {}).get("fid") for name, each in cases.items()}
    bits = {name: each.get("mean") for name, each in paired(cases, steps).items()}
    counts = {len(each.get("bits", {}).get(steps, ())) for each in cases.values()}
    whole = bool(cases) and all(value is not None for value in distances.values())
    return {
        "fid": min(distances, key=lambda name: distances[name]) if whole else None,
        "bits": min(bits, key=lambda name: bits[name]) if len(counts) == 1 and 0 not in counts else None,
    }
