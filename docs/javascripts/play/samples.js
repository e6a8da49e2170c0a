// The page "Try it": samples of a small mixture with its exact denoiser, by solver and number of calls.
"use strict";

(() => {
  const { math, plots, python, sampling } = globalThis.Play;
  const get = (id) => document.getElementById(`play-${id}`);
  const [N, COUNT, IMAGES, RESIDUAL, MANY] = [16, 12, 6, 0.1, 200];
  const SOLVERS = {
    ddim: { kind: "gaussian", solver: "ddim", name: "DDIM" },
    multistep: { kind: "gaussian", solver: "multistep", name: "Multistep" },
    told: { kind: "gaussian", solver: "told", name: "Multistep with the spectrum" },
    path: { kind: "path", solver: "told", name: "Multistep, shortest path" },
  };
  const images = Array.from({ length: COUNT }, (_, i) => plots.leaf(N, i));
  const mixture = sampling.makeMixture(images, N, RESIDUAL);
  const limits = {}; // images of many calls, by corruption, for the noise shown
  let noise = [];
  let seed = 0;
  let run = 0;

  function renew() {
    noise = Array.from({ length: IMAGES }, (_, i) => math.normals(3 * N * N, 100 * seed + i));
    seed += 1;
    for (const kind of Object.keys(limits)) delete limits[kind];
    show();
  }

  /** Return the median over images of the root mean square difference. */
  function distance(first, second) {
    const each = first.map((image, i) => {
      const squares = image.reduce((sum, value, k) => sum + (value - second[i][k]) ** 2, 0);
      return Math.sqrt(squares / image.length);
    });
    each.sort((a, b) => a - b);
    return (each[Math.floor((IMAGES - 1) / 2)] + each[Math.floor(IMAGES / 2)]) / 2;
  }

  /** Sample with every solver, one after the other; the page stays alive in between. */
  async function show() {
    const mine = ++run;
    const steps = Number(get("calls").value);
    get("calls-value").textContent = steps;
    get("samples-code").textContent = python.sampling({ count: COUNT, n: N, residual: RESIDUAL, steps, images: IMAGES });
    for (const [id, { kind, solver, name }] of Object.entries(SOLVERS)) {
      await new Promise((resolve) => setTimeout(resolve));
      if (mine !== run) return;
      const samples = sampling.sample(mixture, noise, { kind, solver, steps });
      limits[kind] ??= sampling.sample(mixture, noise, { kind, solver: "told", steps: MANY });
      const off = plots.format(distance(samples, limits[kind]));
      plots.show(get(`samples-${id}`), samples, N, `Six samples of ${name} in ${steps} calls, ${off} from the limit`);
      get(`off-${id}`).textContent = off;
      plots.show(get(`limit-${kind}`), limits[kind], N, `The limit of the samples: ${MANY} calls`);
    }
  }

  get("calls").addEventListener("input", show);
  get("renew").addEventListener("click", renew);
  plots.show(get("centres"), images, N, "The twelve images of the mixture");
  renew();
})();
