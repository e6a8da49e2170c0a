"""How is it shown? Plots of spectra, corruptions, images and samples. Requires the extra `plots`; imported by name.

    from shortest_path import plots

Every function draws on a matplotlib axis and returns it; without one it makes a new figure. Nothing sets colours of
text or background, so the plots follow the reader's style, and the colours of lines can be told apart on white and on
black, by colour-blind readers too.

To add a plot: a function in `_curves.py` or `_images.py`, and its export here.
"""

from .._checks import missing_extra

try:
    import matplotlib  # noqa: F401 -- else the error would come from a private file, without the extra's name
except ModuleNotFoundError as error:
    raise missing_extra(__name__, "plots", error) from error

from ._curves import path, power, scales, spectrum
from ._images import images, rows, side_by_side, strip

__all__ = ["images", "path", "power", "rows", "scales", "side_by_side", "spectrum", "strip"]
