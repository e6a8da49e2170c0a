// The page "Try it": an image, its spectrum, and corruptions side by side. Numbers are those of math.js, paths.js and
// sampling.js; this file reads the controls and shows the results.
"use strict";

(() => {
  const { math, paths, plots, python, sampling } = globalThis.Play;
  const get = (id) => document.getElementById(`play-${id}`);
  const n = Number(get("image").dataset.size);
  const SLOTS = ["a", "b", "c"];
  const NAMES = { gaussian: "Gaussian noise", tint: "coloured noise", path: "shortest path", blur: "blur and noise" };
  const noise = math.transform(math.normals(3 * n * n, 7), n);

  let x = null; // the image
  let coefficients = null; // its cosine transform, channels red, green, blue
  let measured = null; // its spectrum
  let model = null; // what follows from the controls below the image
  let run = 0; // number of the latest analysis: an older one stops
  let source = null; // choice of the image that is shown
  let choices = 0; // number of the latest choice: an older one, whose file is still decoded, is dropped

  function controls() {
    return {
      n,
      source: source === "own" ? null : Number(source),
      kinds: SLOTS.map((slot) => get(`kind-${slot}`).value),
      gamma: Number(get("gamma").value),
      progress: Number(get("progress").value),
      same: get("same-time").checked ? "time" : "length",
      law: get("law").checked,
      exponent: Number(get("exponent").value),
      rotation: Number(get("rotation").value) / 100,
      steps: Number(get("steps").value),
    };
  }

  // The image -----------------------------------------------------------------------------------------------------------

  function setImage(image, chosen) {
    const flat = image.every((value, i) => Math.abs(value - image[i - (i % (n * n))]) < 1e-6);
    const found = flat ? null : math.measure([image], n);
    if (!found) return refuse("This image is of one colour, which has no power. Choose another.");
    tell("");
    x = image;
    source = chosen;
    coefficients = math.transform(x, n);
    measured = { rotation: found.rotation, power: math.smooth(found.power, n) };
    plots.show(get("image"), [x], n, "The image, 64 by 64 pixels");
    setModel();
  }

  function tell(text) {
    get("message").textContent = text;
  }

  /** Say why the image that is shown stays, and show its choice again. */
  function refuse(text) {
    tell(text);
    get("source").value = source;
  }

  async function choose() {
    const mine = ++choices;
    const chosen = get("source").value;
    if (chosen !== "own") return setImage(plots.leaf(n, Number(chosen)), chosen);
    const [file] = get("file").files;
    if (!file) return get("file").focus();
    const image = await plots.readFile(file, n).catch(() => null);
    if (mine !== choices) return;
    if (image) setImage(image, chosen);
    else refuse(`${file.name} is not an image that this browser reads.`);
  }

  function save() {
    get("image").toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = "image.png";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  // Spectrum, channels and paths ----------------------------------------------------------------------------------------

  function setModel() {
    if (!measured) return;
    const { law, exponent, rotation, kinds, gamma } = controls();
    const power = law ? math.powerLaw(measured.power, n, exponent) : measured.power;
    const turned = rotation < 1 ? math.partOfRotation(measured.rotation, rotation) : null;
    const data = paths.makeData(power, n, turned && math.multiply(turned, measured.rotation, true));
    const before = model && { ...model.before, ...model.lengths }; // shown until the new lengths are known
    model = { power, turned, data, frame: turned ?? measured.rotation, paths: {}, lengths: {}, before };
    for (const kind of kinds) model.paths[kind] ??= paths.makePath(data, kind, { gamma });
    const rings = [measured.power, power].map((each) => math.ringMeans(each, n).map((ring) => ring.slice(1)));
    plots.draw(get("spectrum"), {
      x: rings[1][0].map((_, i) => i + 1),
      lines: [
        ...(law ? rings[0].map((values, i) => ({ values, style: `play-faint play-channel-${i}` })) : []),
        ...rings[1].map((values, i) => ({ values, style: `play-channel-${i}` })),
      ],
      range: plots.decades(...rings.flat()),
      title: "power per ring",
      label: `Power of three channels against frequency, falling from ${plots.format(rings[1][0][0])} in the first`,
    });
    show();
    analyse();
  }

  /** Measure the paths, one after the other; the page stays alive in between. */
  async function analyse() {
    const mine = ++run;
    const { kinds, steps } = controls();
    const pause = () => new Promise((resolve) => setTimeout(resolve));
    get("table").setAttribute("aria-busy", "true");
    for (const [i, kind] of kinds.entries()) {
      await pause();
      if (mine !== run) return;
      const path = model.paths[kind];
      const found = (model.lengths[kind] ??= paths.measurePath(path));
      if (i === kinds.length - 1) show();
      await pause();
      if (mine !== run) return;
      const ratio = found.hasLength && found.geodesic > 0 ? (found.length / found.geodesic).toFixed(4) : "no length";
      const uniform = sampling.gaussianKL(path, paths.grid(steps, "uniform", found));
      const even = found.hasLength ? sampling.gaussianKL(path, paths.grid(steps, "even", found)) : null;
      const cells = [NAMES[kind], ratio, plots.format(uniform), even === null ? "—" : plots.format(even)];
      [...get(`row-${SLOTS[i]}`).cells].forEach((cell, j) => (cell.lastChild.textContent = cells[j]));
    }
    get("table").removeAttribute("aria-busy");
  }

  // A time --------------------------------------------------------------------------------------------------------------

  /** Return the time of a path at the slider's place, and its fraction of the length, null while unknown. */
  function place(kind, { progress, same }) {
    const path = model.paths[kind];
    const found = model.lengths[kind] ?? model.before?.[kind];
    let t = progress / 100;
    if (!found || !found.hasLength) return { t, fraction: null };
    if (same === "time") return { t, fraction: paths.fractionAt(path, found, t) };
    if (progress > 0 && progress < 100) t = paths.grid(100, "even", found)[100 - progress];
    return { t, fraction: progress / 100 };
  }

  function show() {
    if (!model) return;
    const state = controls();
    if (state.kinds.some((kind) => !model.paths[kind])) return; // a choice that is still computed, and then shown
    const { data, frame } = model;
    const signal = math.rotate(coefficients, frame);
    const white = math.rotate(noise, frame);
    const axis = Array.from({ length: n - 1 }, (_, i) => i + 1); // coefficients (0, k), of frequency k / 2
    const channel = Number(get("channel").value) * data.size;
    const of = (values) => axis.map((k) => values[channel + data.of[k]]);
    const [variances, ratios] = [[], []];
    state.kinds.forEach((kind, slot) => {
      const path = model.paths[kind];
      const { t, fraction } = place(kind, state);
      const { a, s } = path.scales(t);
      const at = (k) => Math.floor(k / (n * n)) * data.size + data.of[k % (n * n)];
      const mixed = signal.map((u, k) => a[at(k)] * u + s[at(k)] * white[k]);
      const image = math.transform(math.rotate(mixed, frame, true), n, true);
      const way = fraction === null ? "" : `, ${Math.round(100 * fraction)} % of its length`;
      plots.show(get(`canvas-${SLOTS[slot]}`), [image], n, `The image under ${NAMES[kind]} at t = ${t.toFixed(2)}${way}`);
      get(`time-${SLOTS[slot]}`).textContent = `t = ${t.toFixed(3)}`;
      get(`way-${SLOTS[slot]}`).textContent = fraction === null ? "" : `${Math.round(100 * fraction)} % of its length`;
      const style = `play-slot-${SLOTS[slot]}`;
      variances.push({ values: of(a.map((value, i) => value ** 2 * path.power[i] + s[i] ** 2)), style });
      ratios.push({ values: of(a.map((value, i) => (value ** 2 * path.power[i]) / s[i] ** 2)), style });
    });
    const common = { x: axis.map((k) => k / 2), range: plots.decades(of(data.told)) };
    const start = { values: of(data.told), style: "play-faint" };
    const told = `at ${state.progress} % of ${state.same === "time" ? "the time" : "each length"}`;
    plots.draw(get("variance"), {
      ...common, lines: [start, ...variances], title: "variance Σ", label: `Variance against frequency ${told}`,
    });
    plots.draw(get("ratio"), {
      ...common, range: [-4, 4], lines: ratios, title: "signal-to-noise ratio", label: `Signal-to-noise ratio ${told}`,
    });
    const hasLength = Object.fromEntries(state.kinds.map((kind) => [kind, model.lengths[kind]?.hasLength ?? true]));
    get("code").textContent = python.comparison({ ...state, turned: model.turned, hasLength });
  }

  // Controls ------------------------------------------------------------------------------------------------------------

  function label() {
    const { gamma, progress, exponent, rotation, steps, kinds, law } = controls();
    get("gamma-value").textContent = { 0: "0, white", 1: "1, equal SNR" }[gamma] ?? gamma;
    get("progress-value").textContent = `${progress} %`;
    get("exponent-value").textContent = exponent;
    get("rotation-value").textContent = { 0: "red, green, blue", 1: "as measured" }[rotation] ?? `${Math.round(100 * rotation)} %`;
    get("steps-value").textContent = steps;
    get("gamma").disabled = !kinds.includes("tint");
    get("exponent").disabled = !law;
  }

  const waiting = new Map();

  /** Call an update once for many events. */
  function soon(update) {
    label();
    clearTimeout(waiting.get(update));
    waiting.set(update, setTimeout(update, 40));
  }

  function listen(ids, update) {
    for (const id of ids) get(id).addEventListener("input", () => soon(update));
  }

  listen(["progress", "same-time", "same-length", "channel"], show);
  listen(["gamma", "law", "exponent", "rotation", ...SLOTS.map((slot) => `kind-${slot}`)], setModel);
  listen(["steps"], () => (show(), analyse()));
  get("source").addEventListener("input", choose);
  get("save").addEventListener("click", save);
  get("file").addEventListener("change", () => {
    get("source").value = "own";
    choose();
  });

  // Motion only on request, and not at all for those who asked for none.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let playing = 0;
  function play(on) {
    clearInterval(playing);
    playing = on ? setInterval(advance, 80) : 0;
    get("run").textContent = on ? "Pause" : "Play";
  }
  function advance() {
    const slider = get("progress");
    if (Number(slider.value) >= 100) return play(false);
    slider.value = Number(slider.value) + 1;
    label();
    show();
  }
  get("run").addEventListener("click", () => {
    if (!playing && Number(get("progress").value) >= 100) get("progress").value = 0;
    play(!playing);
  });
  const allow = () => {
    get("run").hidden = still.matches;
    if (still.matches) play(false);
  };
  still.addEventListener("change", allow);

  allow();
  label();
  choose();
})();
