// Transforms, spectra and random numbers of the page "Try it". No access to the document: tests run it alone.
// Images and coefficients are Float64Arrays of planes, (channels, n, n); x lies in [-1, 1].
"use strict";

(() => {
  const Play = (globalThis.Play ??= {});
  const CHANNELS = 3;
  const matrices = new Map();

  /** Return the orthonormal DCT-II matrix, n×n; rows are the cosines. */
  function cosineMatrix(n) {
    if (!matrices.has(n)) {
      const matrix = new Float64Array(n * n);
      for (let k = 0; k < n; k++) {
        const scale = Math.sqrt((k ? 2 : 1) / n);
        for (let i = 0; i < n; i++) matrix[k * n + i] = scale * Math.cos((Math.PI / (2 * n)) * k * (2 * i + 1));
      }
      matrices.set(n, matrix);
    }
    return matrices.get(n);
  }

  /** Return the cosine transform of every plane, or its inverse. */
  function transform(x, n, inverse = false) {
    const matrix = cosineMatrix(n);
    const rows = new Float64Array(x.length);
    const result = new Float64Array(x.length);
    const [down, right] = inverse ? [1, n] : [n, 1]; // steps in the matrix, which the inverse reads as its transpose
    for (let start = 0; start < x.length; start += n * n) {
      for (let k = 0; k < n; k++) {
        for (let i = 0; i < n; i++) {
          const w = matrix[down * k + right * i];
          for (let j = 0; j < n; j++) rows[start + k * n + j] += w * x[start + i * n + j];
        }
      }
      for (let k = 0; k < n; k++) {
        for (let j = 0; j < n; j++) {
          const w = matrix[down * k + right * j];
          for (let i = 0; i < n; i++) result[start + i * n + k] += w * rows[start + i * n + j];
        }
      }
    }
    return result;
  }

  /** Return the channels turned by R (3×3, row by row), or by Rᵀ. */
  function rotate(x, rotation, transpose = false) {
    const size = x.length / CHANNELS;
    const result = new Float64Array(x.length);
    for (let i = 0; i < CHANNELS; i++) {
      for (let j = 0; j < CHANNELS; j++) {
        const w = transpose ? rotation[j * CHANNELS + i] : rotation[i * CHANNELS + j];
        for (let k = 0; k < size; k++) result[i * size + k] += w * x[j * size + k];
      }
    }
    return result;
  }

  /** Return the product of 3×3 matrices A B, or A Bᵀ. */
  function multiply(a, b, transpose = false) {
    const result = new Float64Array(9);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        for (let k = 0; k < 3; k++) result[3 * i + j] += a[3 * i + k] * (transpose ? b[3 * j + k] : b[3 * k + j]);
      }
    }
    return result;
  }

  function determinant(m) {
    return (
      m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) + m[2] * (m[3] * m[7] - m[4] * m[6])
    );
  }

  /** Turn two places of an array in their plane. */
  function turn(m, i, j, cos, sin) {
    const x = m[i];
    m[i] = cos * x - sin * m[j];
    m[j] = sin * x + cos * m[j];
  }

  /** Return the eigenvalues of a symmetric 3×3 matrix, largest first, and its eigenvectors as rows (Jacobi). */
  function eigen(matrix) {
    const m = Float64Array.from(matrix);
    const v = Float64Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1);
    for (let sweep = 0; sweep < 30 && Math.abs(m[1]) + Math.abs(m[2]) + Math.abs(m[5]) > 0; sweep++) {
      for (let p = 0; p < 2; p++) {
        for (let q = p + 1; q < 3; q++) {
          const off = m[3 * p + q];
          if (off === 0) continue;
          const ratio = (m[4 * q] - m[4 * p]) / (2 * off);
          const tan = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.hypot(ratio, 1));
          const cos = 1 / Math.hypot(tan, 1);
          const sin = tan * cos;
          for (let k = 0; k < 3; k++) turn(m, 3 * k + p, 3 * k + q, cos, sin);
          for (let k = 0; k < 3; k++) turn(m, 3 * p + k, 3 * q + k, cos, sin);
          for (let k = 0; k < 3; k++) turn(v, 3 * p + k, 3 * q + k, cos, sin);
          m[3 * p + q] = m[3 * q + p] = 0;
        }
      }
    }
    const order = [0, 1, 2].sort((i, j) => m[4 * j] - m[4 * i]);
    const vectors = Float64Array.from({ length: 9 }, (_, k) => v[3 * order[Math.floor(k / 3)] + (k % 3)]);
    return { values: order.map((i) => m[4 * i]), vectors };
  }

  /**
   * Measure the second moment of images about zero: PowerSpectrum.estimate(images, center=False).
   * Returns the channel rotation, the eigenvectors of mean_f [C_f / tr C_f], and the power in it; null without power.
   */
  function measure(images, n, floor = 1e-6) {
    const size = n * n;
    const moment = new Float64Array(9 * size); // 3×3 for one coefficient after the other
    for (const image of images) {
      const u = transform(image, n);
      for (let k = 0; k < size; k++) {
        for (let i = 0; i < 3; i++) {
          for (let j = 0; j < 3; j++) moment[9 * k + 3 * i + j] += (u[i * size + k] * u[j * size + k]) / images.length;
        }
      }
    }
    let least = 0;
    for (let k = 0; k < size; k++) least += moment[9 * k] + moment[9 * k + 4] + moment[9 * k + 8];
    least *= floor / (3 * size);
    if (!(least > 0)) return null;
    const mean = new Float64Array(9);
    for (let k = 0; k < size; k++) {
      const block = raised(moment.subarray(9 * k, 9 * k + 9), least);
      moment.set(block, 9 * k);
      const trace = block[0] + block[4] + block[8];
      for (let i = 0; i < 9; i++) mean[i] += block[i] / trace / size;
    }
    const rotation = eigen(mean).vectors;
    for (let i = 0; i < 3; i++) {
      const row = rotation.subarray(3 * i, 3 * i + 3);
      const largest = row.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
      if (largest < 0) row.forEach((value, j) => (row[j] = -value)); // eigenvectors have no sign of their own
    }
    const power = new Float64Array(3 * size);
    for (let k = 0; k < size; k++) {
      const turned = multiply(multiply(rotation, moment.subarray(9 * k, 9 * k + 9)), rotation, true);
      for (let i = 0; i < 3; i++) power[i * size + k] = turned[4 * i];
    }
    return { rotation, power };
  }

  /** Return a covariance with eigenvalues of at least `least`. */
  function raised(block, least) {
    const { values, vectors } = eigen(block);
    if (values[2] >= least) return block;
    const result = new Float64Array(9);
    for (let k = 0; k < 3; k++) {
      const value = Math.max(values[k], least);
      for (let i = 0; i < 9; i++) result[i] += value * vectors[3 * k + Math.floor(i / 3)] * vectors[3 * k + (i % 3)];
    }
    return result;
  }

  /** Return |f| of every coefficient, in cycles per side. */
  function frequencies(n) {
    return Float64Array.from({ length: n * n }, (_, k) => Math.hypot(Math.floor(k / n), k % n) / 2);
  }

  /** Return the mean of values, plane by plane, over rings of equal |f|; one array for each plane. */
  function ringMeans(values, n) {
    const ring = frequencies(n).map((f) => Math.floor(f + 0.5));
    const rings = ring[n * n - 1] + 1;
    const count = new Float64Array(rings);
    ring.forEach((r) => count[r]++);
    return Array.from({ length: values.length / (n * n) }, (_, plane) => {
      const means = new Float64Array(rings);
      ring.forEach((r, k) => (means[r] += values[plane * n * n + k] / count[r]));
      return means;
    });
  }

  /** Return power as a function of |f| alone: PowerSpectrum.smoothed. */
  function smooth(power, n) {
    const f = frequencies(n);
    const [centre] = ringMeans(f, n);
    const means = ringMeans(power, n);
    const last = centre.length - 1;
    const result = new Float64Array(power.length);
    means.forEach((mean, plane) => {
      f.forEach((value, k) => {
        let high = centre.findIndex((c) => c >= value);
        high = Math.min(Math.max(high < 0 ? last : high, 1), last);
        const weight = (value - centre[high - 1]) / (centre[high] - centre[high - 1]);
        const low = Math.log(mean[high - 1]);
        result[plane * n * n + k] = Math.exp(low + weight * (Math.log(mean[high]) - low));
      });
    });
    const raw = ringMeans(result, n);
    return result.map((value, k) => {
      const plane = Math.floor(k / (n * n));
      const ring = Math.floor(f[k % (n * n)] + 0.5);
      return (value * means[plane][ring]) / raw[plane][ring];
    });
  }

  /** Return 1 / (offset + |f|)^exponent in every channel, scaled to the total power of each channel of `power`. */
  function powerLaw(power, n, exponent, offset = 0.5) {
    const law = frequencies(n).map((f) => (offset + f) ** -exponent);
    const total = law.reduce((a, b) => a + b);
    const size = n * n;
    const result = new Float64Array(power.length);
    for (let start = 0; start < power.length; start += size) {
      const scale = power.subarray(start, start + size).reduce((a, b) => a + b) / total;
      law.forEach((value, k) => (result[start + k] = value * scale));
    }
    return result;
  }

  /** Return exp(fraction log R) for a rotation R: the identity at 0, R at 1. R of determinant −1 is taken as −R. */
  function partOfRotation(rotation, fraction) {
    const r = determinant(rotation) < 0 ? rotation.map((value) => -value) : Float64Array.from(rotation);
    const angle = Math.acos(Math.min(1, Math.max(-1, (r[0] + r[4] + r[8] - 1) / 2)));
    let axis = [r[7] - r[5], r[2] - r[6], r[3] - r[1]];
    if (Math.hypot(...axis) < 1e-6) {
      if (angle < 1) return Float64Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1);
      axis = [...eigen(r).vectors.slice(0, 3)]; // half a turn: R is symmetric, its axis has the eigenvalue 1
    }
    const [x, y, z] = axis.map((value) => value / Math.hypot(...axis));
    const cos = Math.cos(fraction * angle);
    const sin = Math.sin(fraction * angle);
    const rest = 1 - cos;
    return Float64Array.of(
      cos + x * x * rest, x * y * rest - z * sin, x * z * rest + y * sin,
      y * x * rest + z * sin, cos + y * y * rest, y * z * rest - x * sin,
      z * x * rest - y * sin, z * y * rest + x * sin, cos + z * z * rest,
    );
  }

  /** Return normal random numbers from a seed (mulberry32, Box–Muller). */
  function normals(length, seed) {
    let state = (seed + 1) * 0x9e3779b9;
    const uniform = () => {
      state = (state + 0x6d2b79f5) | 0;
      let x = Math.imul(state ^ (state >>> 15), 1 | state);
      x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
      return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
    };
    const result = new Float64Array(length + 1);
    for (let i = 0; i < length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      result[i] = radius * Math.cos(angle);
      result[i + 1] = radius * Math.sin(angle);
    }
    return result.subarray(0, length);
  }

  Play.math = { eigen, frequencies, measure, multiply, normals, partOfRotation, powerLaw, ringMeans, rotate, smooth, transform };
})();
