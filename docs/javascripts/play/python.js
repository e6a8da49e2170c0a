// The Python that makes what the page "Try it" shows. No access to the document.
"use strict";

(() => {
  const Play = (globalThis.Play ??= {});

  /** Return the code of a corruption, and its name. */
  function corruption(kind, { n, gamma, told }) {
    return {
      gaussian: ["Gaussian", 'sp.GaussianCorruption("cosine")'],
      blur: ["blur", `sp.BlurCorruption(spatial=(${n}, ${n}))`],
      path: ["shortest path", `sp.ShortestPathCorruption(${told})`],
      tint: [`colour ${gamma}`, `sp.GaussianCorruption("cosine", noise=${told}.tempered(${gamma}))`],
    }[kind];
  }

  /**
   * Return the program of the comparison.
   *   source: number of a given image, or null for one's own; turned: the channels, 3×3, or null for the measured ones
   *   progress: per cent; same: "time" or "length"; hasLength: whether each path has one, by kind
   */
  function comparison({ n, source, law, exponent, turned, kinds, gamma, same, progress, hasLength, steps }) {
    const told = turned ? "told" : "spectrum";
    const chosen = [...new Set(kinds)].map((kind) => [kind, ...corruption(kind, { n, gamma, told })]);
    const own = source === null;
    const lines = [
      ...(own ? ["import numpy as np"] : []),
      "import torch",
      ...(own ? ["from PIL import Image"] : []),
      "",
      "import shortest_path as sp",
      ...(own ? [] : ["from examples.recipe.dead_leaves import dead_leaves  # in a clone"]),
      "",
      own
        ? 'pixels = np.array(Image.open("image.png").convert("RGB"))  # saved from here'
        : `pixels = dead_leaves(${source + 1}, size=${n})[${source}]`,
      "image = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 127.5 - 1",
      "spectrum = sp.PowerSpectrum.estimate([image], center=False).smoothed()",
    ];
    if (law) {
      lines.push(
        "",
        "law = sp.PowerSpectrum.power_law(",
        `    spectrum.shape, amplitude=1.0, offset=0.5, exponent=${exponent},`,
        "    basis=spectrum.basis,",
        ")",
        "scale = spectrum.power.mean((1, 2)) / law.power.mean((1, 2))",
        "power = law.power * scale.view(3, 1, 1)",
        "spectrum = sp.PowerSpectrum(spectrum.basis, power)",
      );
    }
    if (turned) {
      const rows = [0, 3, 6].map((i) => `    [${turned.slice(i, i + 3).join(", ")}],`);
      lines.push(
        "",
        "channels = [",
        ...rows,
        "]",
        "turned = torch.tensor(channels, dtype=torch.float64)",
        "mixed = (turned @ spectrum.basis.channel_rotation.T) ** 2",
        'power = torch.einsum("ij,jkl->ikl", mixed, spectrum.power)',
        "told = sp.PowerSpectrum(sp.CosineBasis(2, turned), power)",
      );
    }
    lines.push("", "corruptions = {", ...chosen.map(([, name, code]) => `    "${name}": ${code},`), "}");
    if (same === "time") lines.push(`times = dict.fromkeys(corruptions, ${progress / 100})`);
    else {
      lines.push(
        "",
        "",
        `def at(corruption):  # the time at ${progress} % of the length`,
        `    return float(sp.grids.Fisher(corruption, spectrum)(100)[${100 - progress}])`,
        "",
        "",
        "times = {",
      );
      for (const [kind, name] of chosen) {
        const time = hasLength[kind] ? `at(corruptions["${name}"])` : `${progress / 100}`;
        lines.push(`    "${name}": ${time},${hasLength[kind] ? "" : "  # a path without length"}`);
      }
      lines.push("}");
    }
    lines.push(
      "",
      "eps = torch.randn(image.shape, dtype=torch.float64)",
      "corrupted = {}",
      "for name, corruption in corruptions.items():",
      "    corrupted[name] = corruption.corrupt(image, times[name], eps)",
      "",
      "# exact for every coefficient: takes minutes",
      `print(sp.geometry.compare(spectrum, corruptions, steps=[${steps}]))`,
      "",
    );
    return lines.join("\n");
  }

  /** Return the program of the samples. */
  function sampling({ count, n, residual, steps, images }) {
    return `import torch

import shortest_path as sp
from examples.recipe.dead_leaves import dead_leaves  # in a clone
from examples.recipe.images import to_unit
from studies.few_step.mixture import Mixture

images = to_unit(dead_leaves(${count}, size=${n})).double()
spectrum = sp.PowerSpectrum.estimate([images], center=False).smoothed()
mixture = Mixture(images, spectrum, residual=${residual})
gaussian = sp.GaussianCorruption("cosine")
path = sp.ShortestPathCorruption(spectrum)
model, path_model = mixture.model(gaussian), mixture.model(path)
few = {"prediction": "data", "steps": ${steps}}
samplers = {
    "DDIM": sp.Sampler(model, gaussian, solver="ddim", **few),
    "multistep": sp.Sampler(model, gaussian, **few),
    "with the spectrum": sp.Sampler(model, gaussian, spectrum=spectrum, **few),
    "shortest path": sp.Sampler(path_model, path, **few),
}
noise = torch.randn(${images}, 3, ${n}, ${n}, dtype=torch.float64)
samples = {
    name: sampler.sample(noise.shape, x_1=noise, dtype=noise.dtype)
    for name, sampler in samplers.items()
}
`;
  }

  Play.python = { comparison, sampling };
})();
