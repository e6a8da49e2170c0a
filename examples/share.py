"""Share a training: one folder from which another person samples in three lines.

    python examples/share.py outputs/cifar10 my-model --steps 20

The argument is a folder of checkpoints of `DiffusionTrainer`, of train_cifar10.py or of any other program, or a file
in it. Neither its data nor its program are needed. On another machine, with the extra `diffusers` for a network of
diffusers:

    import shortest_path as sp, shortest_path.integrations.diffusers
    sampler = sp.Sampler.from_pretrained("my-model")
    images = sampler.sample((16, 3, 32, 32))

A network of another kind is passed, made as for training: `from_pretrained("my-model", Network())`; the last printed
line says so. The folder has the averaged weights, the spectrum, and JSON for the rest; nothing in it is run when it is
loaded. The module of a corruption, basis or model of your own is imported with `--register MODULE`, from a folder in
PYTHONPATH; who loads the folder imports it first too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import torch

import shortest_path as sp
from recipe.arguments import in_flags, module, path, positive
from recipe.solvers import add_solver, solver_of

DIFFUSERS = "shortest_path.integrations.diffusers"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder, and load it again as a check."""
    args = parse(argv)
    inside = args.run / "checkpoints"  # where train_cifar10.py has them
    if args.out.resolve().is_relative_to(args.run.resolve()):
        raise SystemExit(f"share: {args.out} is the run {args.run}, or inside it; name another folder, e.g. my-model")
    try:
        for name in (*([DIFFUSERS] if find_spec("diffusers") else []), *args.register):
            import_module(name)
        sampler = sp.training.share_checkpoint(
            inside if inside.is_dir() else args.run,
            args.out,
            ema_decay=args.ema,
            solver=solver_of(args),
            steps=args.steps,
        )
        missing = [part.kind for part in modules(sampler) if isinstance(part, sp.sampling.OnlyWeights)]
        if not missing:
            sampler = sp.Sampler.from_pretrained(args.out)
    except ModuleNotFoundError as error:
        raise SystemExit(f"share: {error}; PYTHONPATH must have the folder of the module, e.g. PYTHONPATH=.") from error
    except (OSError, ImportError, TypeError, ValueError) as error:
        raise SystemExit(f"share: {in_flags(error)}") from error
    count = sum(each.numel() for part in modules(sampler) for each in part.parameters(recurse=False))
    ours = any(type(part).__module__.startswith(DIFFUSERS) for part in modules(sampler))
    imports = [*([DIFFUSERS] if ours else []), *args.register]
    after = f" after import {', '.join(imports)}" if imports else ""
    print(sampler)
    if missing:
        loading = f"from_pretrained({str(args.out)!r}, {missing[0]}(...)){after}"
        print(f"{args.out}: the weights of a {missing[0]}; load them with {loading}, the network made as for training")
    else:
        print(f"{args.out}: {count:,} parameters; load it with from_pretrained({str(args.out)!r}){after}")


def modules(sampler: sp.Sampler) -> list[torch.nn.Module]:
    """Return the model of a sampler and all parts of it."""
    assert isinstance(sampler.model, torch.nn.Module)
    return list(sampler.model.modules())


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="share.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=path, help="folder of a run or of checkpoints, or a checkpoint")
    parser.add_argument("out", type=path, help="folder to write, outside that of the run")
    parser.add_argument("--steps", type=positive, default=20, help="default number of model calls (%(default)s)")
    parser.add_argument("--ema", type=float, help="decay of the average to share, if the run kept several")
    parser.add_argument(
        "--register",
        type=module,
        action="append",
        default=[],
        metavar="MODULE",
        help="module to import, of a folder in PYTHONPATH, which registers a corruption, basis or model of your own",
    )
    add_solver(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
