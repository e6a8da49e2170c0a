"""Share a run of train_cifar10.py: one folder from which another person samples in three lines.

    python examples/share.py outputs/cifar10 my-model --steps 20

and on another machine, with the extra `diffusers`:

    import shortest_path as sp, shortest_path.integrations.diffusers
    sampler = sp.Sampler.from_pretrained("my-model")
    images = sampler.sample((16, 3, 32, 32))

The folder has the averaged weights, the spectrum, and JSON for the rest; nothing in it is run when it is loaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import shortest_path as sp
from recipe.arguments import positive
from recipe.runs import load_run, make_sampler
from recipe.solvers import add_solver, solver_of


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder, and load it again as a check."""
    args = parse(argv)
    try:
        run = load_run(args.run, "cpu", ema_decay=args.ema)
        make_sampler(run, solver=solver_of(args), steps=args.steps).save_pretrained(args.out)
        sampler = sp.Sampler.from_pretrained(args.out)
    except (OSError, ValueError) as error:
        raise SystemExit(f"share: {error}") from error
    assert isinstance(sampler.model, torch.nn.Module)
    count = sum(each.numel() for each in sampler.model.parameters())
    print(f"{args.out}: step {run.step}, {count:,} parameters\n{sampler}")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="share.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a run, or a checkpoint in it")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--steps", type=positive, default=20, help="default number of model calls (%(default)s)")
    parser.add_argument("--ema", type=float, help="decay of the average to share, if the run kept several")
    add_solver(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
