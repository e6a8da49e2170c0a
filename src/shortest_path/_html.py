"""What a notebook shows of an object: a table of facts, and curves as inline SVG, without any package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _EDGE = 260, 120, 4
_COLOURS = ("#3B8BC9", "#E5793A", "#2AA77F", "#B6689F")


def table(title: str, facts: Mapping[str, object], drawing: str = "") -> str:
    """Return a title, a row for each fact, and a drawing beside them."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    body = f"<div><b>{escape(title)}</b><table>{rows}</table></div>"
    return f'<div style="display:flex;gap:1em;align-items:center;flex-wrap:wrap">{body}{drawing}</div>'


def grid(cells: Sequence[Sequence[str]], note: str) -> str:
    """Return a table of rows, of which the first has the names of the columns, and a note below it."""
    head, *rows = (
        "".join(f'<{kind} style="text-align:left">{escape(cell)}</{kind}>' for cell in row)
        for row, kind in ((row, "td" if index else "th") for index, row in enumerate(cells))
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    lines = "<br/>".join(escape(line) for line in note.strip().splitlines())
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{lines}</p></div>"


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return an SVG of lines of points, scaled to fit, with their names; nothing if there are no two points.

    Args:
        title: What is drawn, for those who cannot see it, and below the drawing.
        lines: Points (x, y) of every line, by its name.
    """
    points = [point for line in lines.values() for point in line]
    if len(points) < 2:
        return ""
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    across, up = (_WIDTH - 2 * _EDGE) / ((right - left) or 1), (_HEIGHT - 2 * _EDGE) / ((high - low) or 1)
    drawn, names = [], []
    for index, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = " ".join(f"{_EDGE + (x - left) * across:.1f},{_HEIGHT - _EDGE - (y - low) * up:.1f}" for x, y in line)
        drawn.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        names.append(f'<span style="color:{colour}">{escape(name)}</span>')
    frame = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="currentColor" stroke-opacity="0.3"/>'
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    image = f'<svg {size} role="img" aria-label="{escape(title)}">{frame}{"".join(drawn)}</svg>'
    return f"<figure>{image}<figcaption>{escape(title)}: {', '.join(names)}</figcaption></figure>"
