// What tests/docs/test_play.py compares with the library: results of the page's mathematics, without a document.
"use strict";

globalThis.playNumbers = (n) => {
  const { math, paths, plots, sampling } = globalThis.Play;
  const list = (values) => Array.from(values);
  const images = [0, 1, 2].map((i) => plots.leaf(n, i));
  const { rotation, power: raw } = math.measure([images[2]], n);
  const power = math.smooth(raw, n);
  const turned = math.partOfRotation(rotation, 0.4);
  const found = {
    transform: list(math.transform(images[1], n)),
    inverse: list(math.transform(math.transform(images[1], n), n, true)),
    rotation: list(rotation),
    power: list(power),
    rings: math.ringMeans(power, n).map(list),
    several: list(math.measure(images, n).power),
    law: list(math.powerLaw(power, n, 1.7)),
    turned: list(turned),
    half: list(math.partOfRotation(Float64Array.of(-1, 0, 0, 0, -1, 0, 0, 0, 1), 0.5)),
    noise: list(math.normals(20000, 3)),
    paths: {},
    samples: {},
  };
  for (const [name, turn] of [["measured", null], ["turned", math.multiply(turned, rotation, true)]]) {
    const data = paths.makeData(power, n, turn);
    for (const kind of ["gaussian", "blur", "path", "tint"]) {
      const path = paths.makePath(data, kind, { gamma: 0.3 });
      const measured = paths.measurePath(path);
      const full = (values) => list({ length: 3 * n * n }).map((_, k) => values[Math.floor(k / (n * n)) * data.size + data.of[k % (n * n)]]);
      found.paths[`${kind} ${name}`] = {
        scales: [0, 0.003, 0.15, 0.5, 0.9, 1].map((t) => [t, full(path.scales(t).a), full(path.scales(t).s)]),
        length: measured.length,
        geodesic: measured.geodesic,
        even: paths.grid(10, "even", measured),
        fractions: paths.grid(10, "even", measured).map((t) => paths.fractionAt(path, measured, t)),
        kl: [10, 50].flatMap((steps) => ["uniform", "even"].map((rule) => sampling.gaussianKL(path, paths.grid(steps, rule, measured)))),
      };
    }
  }
  const mixture = sampling.makeMixture(images, n, 0.1);
  const white = math.normals(3 * n * n, 5);
  found.white = list(white);
  for (const [kind, solver] of [["gaussian", "ddim"], ["gaussian", "multistep"], ["gaussian", "told"], ["path", "told"]]) {
    found.samples[`${kind} ${solver}`] = list(sampling.sample(mixture, [white], { kind, solver, steps: 7 })[0]);
  }
  return found;
};
