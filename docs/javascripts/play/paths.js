// Corruptions of Gaussian data in the cosine basis: their scales, the length of their paths, and what sampling loses.
// No access to the document. Formulas: docs/theory.md; the functions of the library are named beside each.
"use strict";

(() => {
  const Play = (globalThis.Play ??= {});
  const { frequencies, multiply } = Play.math;
  const CELLS = 256; // arcs of a path, as in grids.Fisher
  const NO_LENGTH = 1e-4; // nats^½, as in geometry.compare

  /**
   * Return Gaussian data, and the spectrum that corruptions are told of them.
   *
   * Coefficients of equal |f| are alike, so one of each is kept, with their number. Arrays hold channel after channel.
   *   power: S in the measured channels, a function of |f|, (3, n, n)
   *   turn: rotation from the measured channels to those of the corruptions, 3×3; null keeps them
   */
  function makeData(power, n, turn = null) {
    const places = new Map();
    const of = new Uint16Array(n * n);
    for (let k = 0; k < n * n; k++) {
      const square = Math.floor(k / n) ** 2 + (k % n) ** 2;
      if (!places.has(square)) places.set(square, { index: places.size, first: k, count: 0 });
      const place = places.get(square);
      place.count++;
      of[k] = place.index;
    }
    const kept = [...places.values()];
    const size = kept.length;
    const own = new Float64Array(3 * size);
    const told = new Float64Array(3 * size);
    const blocks = turn && new Float64Array(9 * size);
    kept.forEach(({ first }, i) => {
      const s = [0, 1, 2].map((c) => power[c * n * n + first]);
      s.forEach((value, c) => (own[c * size + i] = value));
      if (!turn) return s.forEach((value, c) => (told[c * size + i] = value));
      const block = multiply(multiply(turn, [s[0], 0, 0, 0, s[1], 0, 0, 0, s[2]]), turn, true);
      blocks.set(block, 9 * i);
      for (let c = 0; c < 3; c++) told[c * size + i] = block[4 * c];
    });
    const count = Float64Array.from(kept, (place) => place.count);
    const f = frequencies(n);
    const frequency = Float64Array.from(kept, (place) => f[place.first]);
    return { n, size, of, own, told, blocks, count, frequency };
  }

  // Scales --------------------------------------------------------------------------------------------------------------

  /** GaussianCorruption("cosine"): one (α, σ) for all. */
  function cosineSchedule(t) {
    const quarter = Math.PI / 2 / 1.008;
    const start = 0.008 * quarter;
    const signal = Math.sin((1 - t) * quarter) / Math.cos(start);
    const noise = Math.sqrt(Math.sin(t * quarter) * Math.sin(t * quarter + 2 * start)) / Math.cos(start);
    return [signal, noise];
  }

  /** What each corruption prepares of the power that it is told, and how it fills the scales of a time. */
  const KINDS = {
    gaussian: () => (t, a, s) => {
      const [signal, noise] = cosineSchedule(t);
      a.fill(signal);
      s.fill(noise);
    },
    /** GaussianCorruption("cosine", noise=spectrum.tempered(γ)): equal SNR at γ = 1. */
    tint: (power, data, { gamma }) => {
      const color = power.map((value) => value ** (gamma / 2));
      return (t, a, s) => {
        const [signal, noise] = cosineSchedule(t);
        a.fill(signal);
        for (let i = 0; i < s.length; i++) s[i] = noise * color[i];
      };
    },
    /** BlurCorruption(spatial=(n, n)): λ = (2π|f| / n)². */
    blur: (power, { n, size, frequency }) => {
      const first = Math.atan(Math.exp(-5));
      const angle = (time) => first + (Math.PI / 2 - 2 * first) * time;
      const eigenvalue = frequency.map((f) => ((2 * Math.PI * f) / n) ** 2);
      return (t, a, s) => {
        const half = (20 * Math.sin((Math.PI / 2) * t) ** 2) ** 2 / 2;
        const signal = Math.sin(angle(1 - t));
        for (let i = 0; i < size; i++) a[i] = signal * ((1 - 1e-3) * Math.exp(-eigenvalue[i] * half) + 1e-3);
        a.copyWithin(size, 0, size);
        a.copyWithin(2 * size, 0, size);
        s.fill(Math.sin(angle(t)));
      };
    },
    /** ShortestPathCorruption(spectrum): equation 3, in the form that subtracts no nearly equal numbers. */
    path: (power) => {
      const logs = power.map((value) => Math.log(value)).map((l) => (Math.abs(l) < 1e-20 ? 1e-20 : l));
      const sizes = logs.map(Math.abs);
      const decays = sizes.map((size) => -1 / Math.expm1(-size));
      const rests = sizes.map((size, i) => decays[i] * Math.exp(-size));
      return (t, a, s) => {
        for (let i = 0; i < a.length; i++) {
          const l = logs[i];
          const shared = decays[i] * Math.exp(Math.min(l, 0) - t * l);
          a[i] = Math.sqrt((shared + (l > 0 ? rests : decays)[i]) * Math.tanh(((1 - t) * sizes[i]) / 2));
          s[i] = Math.sqrt((shared + (l > 0 ? decays : rests)[i]) * Math.tanh((t * sizes[i]) / 2));
        }
      };
    },
  };

  /** Return a corruption: scales(t) gives the signal and noise of every coefficient that the data keep. */
  function makePath(data, kind, options = {}) {
    // Noise and blur that treat all channels alike are the same in every frame: the measured one is diagonal.
    const blocks = kind === "path" || kind === "tint" ? data.blocks : null;
    const power = blocks ? data.told : data.own;
    const fill = KINDS[kind](power, data, options);
    const scales = (t) => {
      const pair = { a: new Float64Array(power.length), s: new Float64Array(power.length) };
      fill(t, pair.a, pair.s);
      return pair;
    };
    return { data, kind, power, blocks, scales };
  }

  /** Return Σ_t = A Σ_0 A + N²: variances, or 3×3 blocks one after the other. */
  function covariance(path, t) {
    const { a, s } = path.scales(t);
    const { size } = path.data;
    if (!path.blocks) return path.power.map((power, i) => a[i] ** 2 * power + s[i] ** 2);
    const result = new Float64Array(9 * size);
    for (let i = 0; i < size; i++) block(path, a, s, i, result, 9 * i);
    return result;
  }

  /** Write Σ_t of one frequency to `out`. */
  function block(path, a, s, i, out, at) {
    const { size } = path.data;
    for (let j = 0; j < 3; j++) {
      for (let k = 0; k < 3; k++) out[at + 3 * j + k] = a[j * size + i] * path.blocks[9 * i + 3 * j + k] * a[k * size + i];
      out[at + 4 * j] += s[j * size + i] ** 2;
    }
  }

  // Length --------------------------------------------------------------------------------------------------------------

  /** Return the geodesic distance √(½ Σ log² λ) between two covariances of a path. */
  function distance(path, p, q) {
    const { count, size } = path.data;
    let total = 0;
    if (!path.blocks) for (let i = 0; i < p.length; i++) total += count[i % size] * Math.log(q[i] / p[i]) ** 2;
    else for (let i = 0; i < size; i++) total += count[i] * squaredLogs(p, q, 9 * i);
    return Math.sqrt(total / 2);
  }

  /** Return Σ log² λ of the eigenvalues λ of P⁻¹ Q, of the 3×3 blocks at an offset. */
  function squaredLogs(p, q, o) {
    // M = L⁻¹ Q L⁻ᵀ with the Cholesky factor L of P
    const a = Math.sqrt(p[o]), b = p[o + 3] / a, c = p[o + 6] / a;
    const d = Math.sqrt(p[o + 4] - b * b), e = (p[o + 7] - b * c) / d;
    const f = Math.sqrt(p[o + 8] - c * c - e * e);
    const ia = 1 / a, id = 1 / d, iff = 1 / f;
    const ib = -b * ia * id, ie = -e * id * iff, ic = -(c * ia + e * ib) * iff;
    const x0 = ib * q[o] + id * q[o + 3], x1 = ib * q[o + 1] + id * q[o + 4];
    const y0 = ic * q[o] + ie * q[o + 3] + iff * q[o + 6];
    const y1 = ic * q[o + 1] + ie * q[o + 4] + iff * q[o + 7];
    const y2 = ic * q[o + 2] + ie * q[o + 5] + iff * q[o + 8];
    const m01 = x0 * ia, m02 = y0 * ia, m12 = y0 * ib + y1 * id;
    let m00 = ia * q[o] * ia, m11 = x0 * ib + x1 * id, m22 = y0 * ic + y1 * ie + y2 * iff;
    const mean = (m00 + m11 + m22) / 3; // eigenvalues of a symmetric 3×3 matrix by the cosine of a third of an angle
    m00 -= mean, m11 -= mean, m22 -= mean;
    const radius = Math.sqrt((m00 * m00 + m11 * m11 + m22 * m22 + 2 * (m01 * m01 + m02 * m02 + m12 * m12)) / 6);
    if (radius === 0) return 3 * Math.log(mean) ** 2;
    const det = m00 * (m11 * m22 - m12 * m12) - m01 * (m01 * m22 - m12 * m02) + m02 * (m01 * m12 - m11 * m02);
    const third = Math.acos(Math.min(1, Math.max(-1, det / (2 * radius ** 3)))) / 3;
    const first = mean + 2 * radius * Math.cos(third), last = mean + 2 * radius * Math.cos(third + (2 * Math.PI) / 3);
    return Math.log(first) ** 2 + Math.log(3 * mean - first - last) ** 2 + Math.log(last) ** 2;
  }

  /** Return times, closest together at both ends, with the length up to each, and the distance between the ends. */
  function measurePath(path) {
    const times = Float64Array.from({ length: CELLS + 1 }, (_, i) => (1 - Math.cos((Math.PI * i) / CELLS)) / 2);
    const lengths = new Float64Array(CELLS + 1);
    const ends = [covariance(path, 0)];
    for (let i = 1, before = ends[0]; i <= CELLS; i++) {
      const now = covariance(path, times[i]);
      lengths[i] = lengths[i - 1] + distance(path, before, now);
      before = now;
      if (i === CELLS) ends.push(now);
    }
    const length = lengths[CELLS];
    return { times, lengths, length, geodesic: distance(path, ...ends), hasLength: length > NO_LENGTH };
  }

  /** Return the fraction of the length that is behind at a time. */
  function fractionAt(path, measured, t) {
    const { times, lengths, length } = measured;
    const i = Math.max(0, times.findLastIndex((time) => time <= t));
    const rest = distance(path, covariance(path, times[i]), covariance(path, t));
    return Math.min(1, (lengths[i] + rest) / length);
  }

  /** Return the times at which a rising function takes values: monotone cubics, as in the grids of the library. */
  function timesAt(values, rising, times) {
    const r = [], t = [];
    for (let i = 0; i < rising.length; i++) {
      if (i && rising[i] <= r[r.length - 1]) t[t.length - 1] = times[i]; // of equal values, the last
      else r.push(rising[i]), t.push(times[i]);
    }
    const last = r.length - 1;
    const slope = Array.from({ length: last }, (_, i) => (t[i + 1] - t[i]) / (r[i + 1] - r[i]));
    const inner = slope.slice(1).map((right, i) => 2 / (1 / right + 1 / slope[i]));
    const tangent = [slope[0], ...inner, slope[last - 1]];
    return values.map((value) => {
      let high = r.findIndex((x) => x >= value);
      high = Math.min(Math.max(high < 0 ? last : high, 1), last);
      const h = r[high] - r[high - 1];
      const x = (value - r[high - 1]) / h;
      const curve = x * x * (3 - 2 * x);
      const ends = t[high - 1] + (t[high] - t[high - 1]) * curve;
      return ends + h * x * (1 - x) * (tangent[high - 1] * (1 - x) - tangent[high] * x);
    });
  }

  /** Return falling times: "uniform", or "even" steps of length, grids.Fisher. */
  function grid(steps, rule, measured) {
    const falling = Array.from({ length: steps + 1 }, (_, i) => (steps - i) / steps);
    if (rule === "uniform") return falling;
    const times = timesAt(falling.map((fraction) => fraction * measured.length), measured.lengths, measured.times);
    times[steps] = 0;
    return times;
  }

  Play.paths = { block, covariance, cosineSchedule, fractionAt, grid, makeData, makePath, measurePath, timesAt };
})();
