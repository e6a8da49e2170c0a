"""Write docs/javascripts/play/leaves.js: the given images of the page "Try it", dead leaves as base64.

    python -m docs.leaves

They are part of a script, as a page that is opened from the disk may not read the pixels of an image file.
"""

from __future__ import annotations

import argparse
import base64
from collections.abc import Sequence
from pathlib import Path

from examples.recipe.arguments import output_file
from examples.recipe.dead_leaves import dead_leaves

OUT = Path(__file__).parent / "javascripts/play/leaves.js"
COUNTS = {64: 3, 16: 12}
"""Number of images by size: the first to corrupt, the second as centres of the mixture."""

_HEAD = """\
// Given images, written by `python -m docs.leaves`: by size, dead_leaves(count, size), each (size, size, 3), in base64.
"use strict";

(globalThis.Play ??= {}).leaves = {
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.leaves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=output_file, default=OUT, help="file to write (%(default)s)")
    out = parser.parse_args(arguments).out
    text = _HEAD
    for size, count in COUNTS.items():
        lines = [f'    "{base64.b64encode(image.tobytes()).decode()}",\n' for image in dead_leaves(count, size)]
        text += f"  {size}: [\n{''.join(lines)}  ],\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "};\n", encoding="utf-8")


if __name__ == "__main__":
    main()
