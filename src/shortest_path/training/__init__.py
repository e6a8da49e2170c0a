"""How is a model trained? The loss, the trainer, and what makes training survive faults.

`DiffusionLoss` is for training loops of your own; `DiffusionTrainer` is one user of it that also averages weights,
runs on several processes, skips steps that are not finite, and continues exactly from checkpoints.

To add a distribution of times or a weighting: pass a function to `DiffusionLoss`. To add an option of the trainer: a
field of `TrainingOptions`, its line in the docstring of `DiffusionTrainer`, and the code that reads it.
"""

from ._checkpoint import latest_checkpoint, load_checkpoint, load_latest, save_checkpoint, write_checkpoint
from ._ema import ExponentialMovingAverage
from ._loss import DiffusionLoss, Task, Weighting
from ._nonfinite import NonFiniteError
from ._options import Precision, TrainingOptions
from ._preemption import Preempted
from ._sharing import share_checkpoint
from ._step import TrainStep
from ._times import TimeDistribution, TimeSampling
from ._trainer import DiffusionTrainer
from ._writer import CheckpointWriter

__all__ = [
    "CheckpointWriter",
    "DiffusionLoss",
    "DiffusionTrainer",
    "ExponentialMovingAverage",
    "NonFiniteError",
    "Precision",
    "Preempted",
    "Task",
    "TimeDistribution",
    "TimeSampling",
    "TrainStep",
    "TrainingOptions",
    "Weighting",
    "latest_checkpoint",
    "load_checkpoint",
    "load_latest",
    "save_checkpoint",
    "share_checkpoint",
    "write_checkpoint",
]
