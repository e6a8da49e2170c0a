// What ancestral steps lose on Gaussian data, and samples of a small mixture with its exact denoiser.
// No access to the document. Solvers are those of shortest_path.solvers, in coefficients.
"use strict";

(() => {
  const Play = (globalThis.Play ??= {});
  const { measure, rotate, smooth, transform } = Play.math;
  const { block, makeData, makePath, timesAt } = Play.paths;

  // gaussian_kl ---------------------------------------------------------------------------------------------------------

  /** Return the weights of one ancestral step from t to s, variance "large": Ancestral. */
  function ancestral(a_t, s_t, a_s, s_s) {
    const ratio = a_s > 0 ? a_t / a_s : 0;
    const large = Math.max(0, s_t * s_t - ratio * ratio * s_s * s_s);
    const kept = s_s / s_t;
    const w_t = Math.sqrt(Math.max(0, s_s * s_s - large * kept * kept)) / s_t;
    return [w_t, a_s - a_t * w_t, large];
  }

  /** Return KL(generated ‖ data) in nats of ancestral steps along falling times, for the optimal denoiser. */
  function gaussianKL(path, times) {
    const points = times.map((t) => path.scales(t));
    return path.blocks ? blockKL(path, points) : diagonalKL(path, points);
  }

  function diagonalKL(path, points) {
    const { count, size } = path.data;
    let total = 0;
    for (let i = 0; i < path.power.length; i++) {
      const power = path.power[i];
      let variance = points[0].s[i] ** 2;
      for (let k = 0; k + 1 < points.length; k++) {
        const a = points[k].a[i], s = points[k].s[i];
        const gain = (a * power) / (a * a * power + s * s);
        if (k + 2 === points.length) variance *= gain * gain; // the last step returns the denoised image
        else {
          const [w_t, w_0, added] = ancestral(a, s, points[k + 1].a[i], points[k + 1].s[i]);
          variance = (w_t + w_0 * gain) ** 2 * variance + added;
        }
      }
      const ratio = variance / power;
      total += count[i % size] * (ratio - 1 - Math.log(ratio));
    }
    return Math.max(0, total / 2);
  }

  function blockKL(path, points) {
    const { count, size } = path.data;
    const now = new Float64Array(9), inverse = new Float64Array(9), gain = new Float64Array(9), moved = new Float64Array(9);
    const product = new Float64Array(9), variance = new Float64Array(9);
    let total = 0;
    for (let i = 0; i < size; i++) {
      const data = path.blocks.subarray(9 * i, 9 * i + 9);
      variance.fill(0);
      for (let c = 0; c < 3; c++) variance[4 * c] = points[0].s[c * size + i] ** 2;
      for (let k = 0; k + 1 < points.length; k++) {
        const { a, s } = points[k], next = points[k + 1];
        block(path, a, s, i, now, 0);
        invert(now, inverse);
        for (let c = 0; c < 9; c++) product[c] = data[c] * a[(c % 3) * size + i];
        times(product, inverse, gain); // Σ_0 A (A Σ_0 A + N²)⁻¹
        const last = k + 2 === points.length;
        const added = [0, 0, 0];
        for (let c = 0; c < 3; c++) {
          const at = c * size + i;
          const [w_t, w_0, large] = last ? [0, 1, 0] : ancestral(a[at], s[at], next.a[at], next.s[at]);
          for (let d = 0; d < 3; d++) moved[3 * c + d] = w_0 * gain[3 * c + d] + (c === d ? w_t : 0);
          added[c] = large;
        }
        times(moved, variance, product);
        times(product, moved, variance, true);
        for (let c = 0; c < 3; c++) variance[4 * c] += added[c];
      }
      const logs = Math.log(invert(variance, now)) - Math.log(invert(data, inverse));
      times(inverse, variance, product);
      total += count[i] * (product[0] + product[4] + product[8] - 3 - logs);
    }
    return Math.max(0, total / 2);
  }

  /** Write A B, or A Bᵀ, to `out`. */
  function times(a, b, out, transpose = false) {
    for (let i = 0; i < 9; i++) {
      const row = i - (i % 3), column = i % 3;
      out[i] = transpose
        ? a[row] * b[3 * column] + a[row + 1] * b[3 * column + 1] + a[row + 2] * b[3 * column + 2]
        : a[row] * b[column] + a[row + 1] * b[column + 3] + a[row + 2] * b[column + 6];
    }
  }

  /** Write the inverse of a symmetric positive definite matrix to `out`, and return the determinant (Cholesky). */
  function invert(m, out) {
    const a = Math.sqrt(m[0]), b = m[3] / a, c = m[6] / a;
    const d = Math.sqrt(m[4] - b * b), e = (m[7] - b * c) / d, f = Math.sqrt(m[8] - c * c - e * e);
    const x = 1 / a, y = 1 / d, z = 1 / f, u = -b * x * y, w = -e * y * z, v = -(c * x + e * u) * z;
    out[0] = x * x + u * u + v * v;
    out[4] = y * y + w * w;
    out[8] = z * z;
    out[1] = out[3] = u * y + v * w;
    out[2] = out[6] = v * z;
    out[5] = out[7] = w * z;
    return (a * d * f) ** 2;
  }

  // Mixture -------------------------------------------------------------------------------------------------------------

  /** Return clouds of a fraction r of the images' own spectrum around √(1 − r) times each image: studies/few_step. */
  function makeMixture(images, n, residual) {
    const { rotation, power: measured } = measure(images, n);
    const power = smooth(measured, n);
    const centres = images.map((image) => rotate(transform(image, n), rotation).map((u) => Math.sqrt(1 - residual) * u));
    return { n, rotation, power, centres, cloud: power.map((value) => residual * value) };
  }

  /** Return E[u_0 | u_t] of a mixture; what is the same for all images at a point is kept there. */
  function posteriorMean(mixture, u, point) {
    const { centres } = mixture;
    const { along, sizes, gain } = (point.known ??= prepare(mixture, point));
    const weighted = u.map((value, f) => along[f] * value);
    const logits = centres.map((centre, i) => {
      let sum = -sizes[i];
      for (let f = 0; f < weighted.length; f++) sum += weighted[f] * centre[f];
      return sum;
    });
    const most = Math.max(...logits);
    const weights = logits.map((value) => Math.exp(value - most));
    const total = weights.reduce((x, y) => x + y);
    const mean = new Float64Array(u.length);
    centres.forEach((centre, i) => {
      const weight = weights[i] / total;
      if (weight > 0) for (let f = 0; f < u.length; f++) mean[f] += weight * centre[f];
    });
    return mean.map((value, f) => value + gain[f] * (u[f] - point.a[f] * value));
  }

  /** Return a / v, ½ Σ (a c_i)² / v and a r S / v at a point, with v = a² r S + s². */
  function prepare({ centres, cloud }, { a, s }) {
    const along = a.map((value, f) => value / (value ** 2 * cloud[f] + s[f] ** 2));
    const sizes = centres.map((centre) => centre.reduce((sum, c, f) => sum + (along[f] * a[f] * c * c) / 2, 0));
    return { along, sizes, gain: along.map((value, f) => value * cloud[f]) };
  }

  // Solvers -------------------------------------------------------------------------------------------------------------

  /** Return the point (a, s) of a corruption at a time; a clean image at 0. */
  function pointOf(mixture, kind) {
    const data = makeData(mixture.power, mixture.n);
    const path = makePath(data, kind);
    const length = 3 * mixture.n ** 2;
    const place = (f) => Math.floor((3 * f) / length) * data.size + data.of[f % mixture.n ** 2];
    return (t) => {
      const { a, s } = t === 0 ? { a: null, s: null } : path.scales(t);
      return {
        a: Float64Array.from({ length }, (_, f) => (a ? a[place(f)] : 1)),
        s: Float64Array.from({ length }, (_, f) => (s ? s[place(f)] : 0)),
      };
    };
  }

  /** The form of a step without a spectrum: slope û_0 along log(a / s). */
  const EXPONENTIAL = {
    most: 8,
    slope: (u, u_0) => u_0,
    length: (here, there) =>
      here.a.map((a, f) => {
        const length = Math.log(there.a[f] / there.s[f]) - Math.log(a / here.s[f]);
        return Number.isNaN(length) ? 0 : length;
      }),
    later: (h) => (Math.abs(h) < 1e-3 ? 0.5 + h / 12 : -1 / Math.expm1(-h) - 1 / h),
    correctionWeight: (before) => before.a.map(() => 1),
    move: (u, slope, here, there) =>
      u.map((value, f) => {
        const kept = there.s[f] / here.s[f];
        return kept * value + (there.a[f] - here.a[f] * kept) * slope[f];
      }),
  };

  /** The form with a spectrum: slope v̂ along the angle θ = atan2(s, a√S). */
  function rotationForm(power) {
    const deviation = power.map(Math.sqrt);
    const whitened = (point) => (point.whitened ??= whiten(point, deviation));
    return {
      most: 1,
      slope: (u, u_0, here) => {
        const { ofState, ofData } = whitened(here);
        return u.map((value, f) => ofState[f] * value - ofData[f] * u_0[f]);
      },
      length: (here, there) => {
        const [now, later] = [whitened(here).angle, whitened(there).angle];
        return later.map((angle, f) => angle - now[f]);
      },
      later: () => 0.5,
      correctionWeight: (before, here) => {
        const [start, end] = [whitened(before).angle, whitened(here).angle];
        return end.map((angle, f) => 1 / (1 + Math.max(0, (start[f] - angle) / (2 * Math.tan(angle)))) ** 2);
      },
      move: (u, slope, here, there) => {
        const [now, later] = [whitened(here), whitened(there)];
        return u.map((value, f) => {
          const turned = (later.angle[f] - now.angle[f]) * slope[f];
          return later.radius[f] * (value / now.radius[f] + turned);
        });
      },
    };
  }

  /** Return angle and radius of every coefficient at a point, and the weights of u_t and û_0 in the slope. */
  function whiten({ a, s }, deviation) {
    const angle = a.map((value, f) => Math.atan2(s[f], value * deviation[f]));
    const radius = a.map((value, f) => Math.hypot(value * deviation[f], s[f]));
    const ofState = angle.map((theta, f) => 1 / (radius[f] * Math.tan(theta)));
    return { angle, radius, ofState, ofData: angle.map((theta, f) => 1 / (deviation[f] * Math.sin(theta))) };
  }

  /** Return the steps of one run of Multistep(), with the corrector. */
  function multistep(form) {
    let before = null;
    return (u, u_0, here, there) => {
      const slope = form.slope(u, u_0, here);
      let estimate = slope;
      if (before) {
        const behind = form.length(before.point, here);
        const mean = slope.map((v, f) => before.slope[f] + form.later(behind[f]) * (v - before.slope[f]));
        const corrected = form.move(before.u, mean, before.point, here);
        const weights = form.correctionWeight(before.point, here);
        u = u.map((value, f) => value + weights[f] * (corrected[f] - value));
        const ahead = form.length(here, there);
        estimate = slope.map((v, f) => {
          const weight = ahead[f] / (2 * behind[f]);
          return v + (Number.isFinite(weight) ? Math.min(weight, form.most) : 0) * (v - before.slope[f]);
        });
      }
      before = { u, slope, point: here };
      return form.move(u, estimate, here, there);
    };
  }

  /** DDIM(): the exponential form at first order. */
  const ddim = () => (u, u_0, here, there) => EXPONENTIAL.move(u, u_0, here, there);

  /** Return falling times: "uniform", "cosine", or "spectrum", equal parts of the error that the spectrum predicts. */
  function samplingGrid(steps, rule, at, power) {
    const falling = Array.from({ length: steps + 1 }, (_, i) => (steps - i) / steps);
    if (rule === "uniform") return falling;
    const cosine = (fraction) => (1 - Math.cos(Math.PI * fraction)) / 2;
    if (rule === "cosine") return falling.map(cosine);
    const fine = Array.from({ length: 257 }, (_, i) => cosine(i / 256));
    const deviation = power.map(Math.sqrt);
    const error = [0];
    let last = null;
    fine.forEach((t) => {
      const { a, s } = at(t);
      const angle = a.map((value, f) => Math.atan2(s[f], value * deviation[f]));
      if (last) {
        const sum = angle.reduce((total, value, f) => total + power[f] * (value - last[f]) ** 6, 0);
        error.push(error[error.length - 1] + sum ** (1 / 6));
      }
      last = angle;
    });
    const times = timesAt(falling.map((fraction) => fraction * error[256]), error, fine);
    times[steps] = 0;
    return times;
  }

  /** Return the image that a solver makes of noise, both (3, n, n). `solver` names the solver and what it is told. */
  function sample(mixture, noise, { kind, solver, steps }) {
    const at = pointOf(mixture, kind);
    const rule = { ddim: "uniform", multistep: "cosine", told: "spectrum" }[solver];
    const times = samplingGrid(steps, rule, at, mixture.power);
    const points = times.map(at);
    return noise.map((white) => {
      const step = solver === "ddim" ? ddim() : multistep(solver === "told" ? rotationForm(mixture.power) : EXPONENTIAL);
      let u = rotate(transform(white, mixture.n), mixture.rotation);
      for (let k = 0; k < steps; k++) u = step(u, posteriorMean(mixture, u, points[k]), points[k], points[k + 1]);
      return transform(rotate(u, mixture.rotation, true), mixture.n, true);
    });
  }

  Play.sampling = { gaussianKL, makeMixture, sample, samplingGrid, pointOf };
})();
