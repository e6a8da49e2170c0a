"""Tables of the study, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from studies.trained_networks.cases import (
    ANGLES,
    BASELINES,
    CASES,
    CHAIN_STEPS,
    LIKE,
    MAIN,
    ODE_STEPS,
    OUTPUTS,
    PRIMARY,
    SECONDARY,
)
from studies.trained_networks.statistics import Difference, interval, paired, seeds_to_tell

Report = Mapping[str, Any]
"""Content of `evidence.json`."""

MISSING = "–"
BITS = f"bits_{ODE_STEPS[0]}"
MEASURES = {BITS: "bits/dim", **{f"{solver}_{calls}": f"KID, {solver} {calls}" for solver, calls in PRIMARY}}
"""The primary measures, by their name in a record."""


def value_of(run: Mapping[str, Any], measure: str) -> float | None:
    """Return a primary measure of a run; None if it is missing or not finite."""
    found = run.get(measure)
    if found is None:
        return None
    return found["mean"] if measure.startswith("bits") else found["kernel"]


def by_seed(
    report: Report,
    case: str,
    output: str,
    density: str = "uniform",
    value: Callable[[Mapping[str, Any]], float | None] = lambda run: value_of(run, BITS),
) -> dict[int, float]:
    """Return a value of all runs of a case and output, by seed."""
    found = {}
    for run in report["runs"]:
        if (run["case"], run["output"], run["density"]) == (case, output, density):
            number = value(run)
            if number is not None:
                found[run["seed"]] = number
    return found


CONTRASTS = len(OUTPUTS) * len({frozenset((case, base)) for case in MAIN for base in BASELINES if case != base})
"""Number of contrasts of a measure, fixed beforehand: every main case with each baseline, for both outputs."""


def contrasts(report: Report, measure: str, output: str, base: str, density: str = "uniform") -> dict[str, Difference]:
    """Return the paired difference of each main case from a baseline, with intervals for all contrasts of a measure."""
    found = {}
    for case in (name for name in report["cases"] if name in MAIN):
        ours, theirs = (
            by_seed(report, name, output, density, lambda run: value_of(run, measure)) for name in (case, base)
        )
        difference = paired(ours, theirs, contrasts=CONTRASTS) if case != base else None
        if difference is not None:
            found[case] = difference
    return found


def tables(report: Report) -> str:
    """Return all tables of a study in Markdown; numbers that are not measured yet are shown as –."""
    if not report["runs"]:
        return "Nothing has been measured yet.\n"
    parts = []
    for output, described in OUTPUTS.items():
        if any(run["output"] == output for run in report["runs"]):
            parts += [f"**{described.title}**", primary(report, output), differences(report, output)]
    for density, like in LIKE.items():
        if any(run["density"] == density for run in report["runs"]):
            title = f"Training times at which the mean log-SNR is distributed as under: {CASES[like].title}"
            parts += [f"**{title}**", matched(report, density)]
    departures = [f"{described.title}\n\n{deviation(report, output)}" for output, described in OUTPUTS.items()]
    if any(case.startswith("scale-") for case in report["cases"]):
        parts += ["**Departures from the shortest path**, less the path itself", *departures]
    parts += [_folded("Other measures", [secondary(report, output) for output in OUTPUTS])]
    parts += [_folded("Learning rates that were tried", [tuning(report)])]
    parts += [_folded("Settings", [settings(report)])]
    return "\n\n".join(parts) + "\n"


def primary(report: Report, output: str) -> str:
    """Return the primary measures: a row for each corruption, means over seeds with their own 95 % intervals."""
    rows = []
    for case, facts in report["cases"].items():
        cells = [
            _shown(interval(by_seed(report, case, output, value=lambda run, m=measure: value_of(run, m))), measure)
            for measure in MEASURES
        ]
        seeds = len(by_seed(report, case, output))
        if seeds:
            rows.append([facts["title"], _number(facts["length"], 3), *cells, str(seeds)])
    kernel = f"{report['floor']['kernel']:.3f}"
    normal = report["gaussian_model"]
    cells = [f"{normal['diagonal']:.4f}", *[f"{normal['kernel']:.3f}", *[MISSING] * (len(PRIMARY) - 1)]]
    rows.append(["*normal distribution, diagonal*", MISSING, *cells, MISSING])
    rows.append(
        ["*normal distribution, full covariance*", MISSING, f"{normal['full']:.4f}", *[MISSING] * (len(PRIMARY) + 1)]
    )
    rows.append(["*real images*", MISSING, MISSING, *[kernel] * len(PRIMARY), MISSING])
    return table(["corruption", "length", *MEASURES.values(), "seeds"], rows)


def differences(report: Report, output: str) -> str:
    """Return paired differences from both baselines, in bold where the interval excludes zero."""
    rows = []
    for base in BASELINES:
        found = {measure: contrasts(report, measure, output, base) for measure in MEASURES}
        for case in report["cases"]:
            if case in BASELINES[: BASELINES.index(base)]:
                continue  # shown above, with the other sign
            bits, *others = (_shown(found[measure].get(case), measure, sign=True) for measure in MEASURES)
            if any(cell != MISSING for cell in (bits, *others)):
                title = f"{report['cases'][case]['title']} − {report['cases'][base]['title']}"
                rows.append([title, bits, _number(image_error(report, output, case, base), 4), *others])
    heads = list(MEASURES.values())
    return table(["difference", heads[0], "error over images", *heads[1:]], rows) + _note(report, CONTRASTS)


def _note(report: Report, count: int) -> str:
    """Return what intervals and errors of a table of differences mean."""
    seeds = len({run["seed"] for run in report["runs"]})
    paired = (
        f"Paired over seeds; intervals hold with 95 % for all {count} contrasts of a measure together."
        if seeds > 1
        else "Of one seed, so there are no intervals over trainings."
    )
    return (
        f"\n\n*{paired} The error over images is the standard error of the difference in bits/dim for one seed, over "
        "its test images.*"
    )


def image_error(report: Report, output: str, case: str, base: str) -> float | None:
    """Return the standard error over images of a difference in bits/dim, seed 0."""
    name = f"{output} {case}" + ("" if base == BASELINES[0] else f" {base}")
    found: float | None = report.get("image_errors", {}).get(name)
    return found


def matched(report: Report, density: str) -> str:
    """Return the primary measures of networks trained at the times of a density, and the change from uniform times."""
    rows = []
    for output, described in OUTPUTS.items():
        for case, facts in report["cases"].items():
            cells, seeds = [], 0
            for measure in MEASURES:
                own, plain = (
                    by_seed(report, case, output, times, lambda run, m=measure: value_of(run, m))
                    for times in (density, "uniform")
                )
                seeds = max(seeds, len(own))
                common = {seed: value - plain[seed] for seed, value in own.items() if seed in plain}
                cells += [_shown(interval(own), measure), _shown(interval(common), measure, sign=True)]
            if seeds:
                rows.append([facts["title"], described.title, *cells[:2], cells[2], cells[4]])
    heads = ["bits/dim", "change", *list(MEASURES.values())[1:]]
    return table(["corruption", "output", *heads], rows)


def secondary(report: Report, output: str) -> str:
    """Return the other measures of an output, means over seeds."""

    def average(case: str, value: Callable[[Mapping[str, Any]], float | None], digits: int) -> str:
        found = by_seed(report, case, output, value=value)
        return f"{mean(found.values()):.{digits}f}" if found else MISSING

    first, others = [], []
    for case, facts in report["cases"].items():
        if not by_seed(report, case, output):
            continue
        cells = [average(case, lambda run, n=steps: run.get(f"chain_{n}"), 3) for steps in CHAIN_STEPS]
        cells += [
            average(case, lambda run, m=f"{solver}_{calls}": (run.get(m) or {}).get("auc"), 3)
            for solver, calls in PRIMARY
        ]
        first.append([facts["title"], *cells])
        cells = [
            average(case, lambda run, i=index: (run.get("relative_errors") or [None] * 9)[i], 3)
            for index in range(len(ANGLES))
        ]
        others.append([facts["title"], *cells])
    heads = ["corruption", *[f"chain, T = {steps}" for steps in CHAIN_STEPS], *[f"AUC, {s} {c}" for s, c in PRIMARY]]
    parts = [f"**{OUTPUTS[output].title}**: bound on bits/dim by the ancestral chain; area under a classifier's curve"]
    parts += [table(heads, first)]
    parts += ["Error of the predicted clean image over that of the best linear prediction, at equal angles θ"]
    parts += [table(["corruption", *[f"{angle:g} · π/2" for angle in ANGLES]], others)]
    parts += ["Log of the samples' power over the data's, by thirds of the frequencies; multistep 50, ancestral 250"]
    bands = []
    for case, facts in report["cases"].items():
        if by_seed(report, case, output):
            cells = [
                average(case, lambda run, m=f"{s}_{c}", i=band: ((run.get(m) or {}).get("power") or [None] * 3)[i], 2)
                for s, c in PRIMARY
                for band in range(3)
            ]
            bands.append([facts["title"], " / ".join(cells[:3]), " / ".join(cells[3:])])
    parts += [table(["corruption", *[f"{s} {c}" for s, c in PRIMARY]], bands)]
    more = []
    for case, facts in report["cases"].items():
        cells = [
            average(case, lambda run, m=f"{s}_{c}": value_of(run, m), 2)
            for s, c in SECONDARY
            if by_seed(report, case, output)
        ]
        if any(cell != MISSING for cell in cells):
            more.append([facts["title"], *cells])
    if more:
        parts += [table(["corruption", *[f"KID, {s} {c}" for s, c in SECONDARY]], more)]
    return "\n\n".join(parts)


def deviation(report: Report, output: str, base: str = "path-cosine") -> str:
    """Return the differences of the cases `scale-…` from the shortest path, and the seeds it takes to tell them."""
    rows, departures = [], [case for case in report["cases"] if case.startswith("scale-")]
    departures.sort(key=lambda case: float(case.removeprefix("scale-")))
    count = len(OUTPUTS) * len(departures)
    for case in departures:
        cells = []
        for measure in MEASURES:
            ours, theirs = (
                by_seed(report, name, output, value=lambda run, m=measure: value_of(run, m)) for name in (case, base)
            )
            found = [ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()]
            difference = paired(ours, theirs, contrasts=count)
            cells.append(_shown(difference, measure, sign=True))
            if measure == BITS:
                known = len(found) > 1 and stdev(found) > 0
                needed = seeds_to_tell(mean(found), stdev(found), contrasts=count) if known else None
                cells += [
                    _number(image_error(report, output, case, base), 4),
                    str(len(found)),
                    MISSING if needed is None else str(needed),
                ]
        rows.append([report["cases"][case]["title"], *cells])
    heads = list(MEASURES.values())
    shown = table(["path", heads[0], "error over images", "seeds", "seeds to tell", *heads[1:]], rows)
    return shown + _note(report, count)


def tuning(report: Report) -> str:
    """Return the bits of every learning rate that was tried."""
    runs = report["tuning"]["runs"]
    if not runs:
        return "One learning rate for all, not tuned."
    rates = list(runs[0]["bits"])
    rows = [
        [
            report["cases"].get(run["case"], {"title": run["case"]})["title"],
            OUTPUTS[run["output"]].title,
            *[
                f"**{_number(bits, 3)}**" if float(rate) == run["chosen"] else _number(bits, 3)
                for rate, bits in run["bits"].items()
            ],
        ]
        for run in runs
    ]
    text = f"Bits/dim of training images held out, after {report['tuning']['steps']} steps; the chosen one is bold.\n\n"
    return text + table(["corruption", "output", *[f"{float(rate):g}" for rate in rates]], rows)


def settings(report: Report) -> str:
    """Return settings, machine and data."""
    data = report["data"]
    lines = [f"- {name}: {value}" for name, value in report["settings"].items()]
    lines += [f"- machine: {report['machine']}"]
    lines += [
        f"- {name} images: {facts['source']}, {facts['count']} of {facts['encoding']}" for name, facts in data.items()
    ]
    lines += [f"- classifier: {report['classifier'].get('test_accuracy')} of the test images"]
    lines += [
        f"- added: likelihoods of {source['runs']} runs whose samples another classifier measured; {source['machine']}"
        for source in report.get("joined", [])
    ]
    return "\n".join(lines)


def _shown(found: Difference | None, measure: str, *, sign: bool = False) -> str:
    if found is None:
        return MISSING
    digits = 4 if measure.startswith("bits") else 3
    text = f"{found.mean:+.{digits}f}" if sign else f"{found.mean:.{digits}f}"
    if found.half is not None:
        text += f" ± {found.half:.{digits}f}"
    return f"**{text}**" if sign and found.told else text


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _folded(title: str, parts: Sequence[str]) -> str:
    body = "\n\n".join(parts)
    return f'<details markdown="1"><summary>{title}</summary>\n\n{body}\n\n</details>'
