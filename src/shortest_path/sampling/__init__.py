"""How is a trained model sampled? The sampler, and edits of what it predicts.

`Sampler` runs any corruption backwards with any solver and grid: it samples, encodes, interpolates and gives
likelihoods. `shortest_path.edits` holds callbacks that change the predicted clean image.

To add an edit: a function in `edits` that returns a callback. To add something made of steps: a method of `Sampler`, or
a function that uses `Sampler.step`.
"""

from . import edits
from ._encoding import bits_per_dim
from ._pretrained import describe_sampler
from ._reverse import SampleStep
from ._sampler import Sampler
from ._saved_models import (
    OnlyWeights,
    describe_model,
    load_model,
    model_from_description,
    register_model,
    save_model,
)
from ._times import first_time, start_error
from ._weights import load_weights, restore_types

__all__ = [
    "OnlyWeights",
    "SampleStep",
    "Sampler",
    "bits_per_dim",
    "describe_model",
    "describe_sampler",
    "edits",
    "first_time",
    "load_model",
    "load_weights",
    "model_from_description",
    "register_model",
    "restore_types",
    "save_model",
    "start_error",
]
