"""How is a trained model sampled? The sampler, and edits of what it predicts.

`Sampler` runs any corruption backwards with any solver and grid: it samples, encodes, interpolates and gives
likelihoods. `shortest_path.edits` holds callbacks that change the predicted clean image.

To add an edit: a function in `edits` that returns a callback. To add something made of steps: a method of `Sampler`, or
a function that uses `Sampler.step`.
"""

from . import edits
from ._encoding import bits_per_dim
from ._pretrained import register_model
from ._reverse import SampleStep
from ._sampler import Sampler

__all__ = ["SampleStep", "Sampler", "bits_per_dim", "edits", "register_model"]
