"""How does the library work with diffusers? Schedulers and wrappers of models. Requires the extra `diffusers`.

    from shortest_path.integrations.diffusers import CorruptionScheduler, TimedModel

diffusers counts time in whole steps k, from 0 to 999: k = 1000 t − 1. Everything here keeps to that, and between the
whole numbers too, so a pretrained model is given the numbers that it was trained with.

To add a class of models: its name in `_models.py`.
"""

from ..._checks import missing_extra

try:
    from diffusers import SchedulerMixin
except ModuleNotFoundError as error:
    raise missing_extra(__name__, "diffusers", error) from error

from ._loops import CorruptionSchedulerOutput
from ._models import TimedModel
from ._scheduler import CorruptionScheduler
from ._table import TableCorruption, read_scheduler

# Pipelines save the module of a scheduler, and look there for the class and for the base class that it has.
CorruptionScheduler.__module__ = __name__

__all__ = [
    "CorruptionScheduler",
    "CorruptionSchedulerOutput",
    "SchedulerMixin",
    "TableCorruption",
    "TimedModel",
    "read_scheduler",
]
