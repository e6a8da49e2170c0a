// Plots as inline SVG, and images on canvases. Colours come from docs/stylesheets/play.css, so both themes suit.
"use strict";

(() => {
  const Play = (globalThis.Play ??= {});
  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [340, 210, 42, 6, 22, 34];

  /** Return a number with three digits, as a reader writes it. */
  function format(value) {
    if (!Number.isFinite(value)) return "∞";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) {
      const [digits, exponent] = value.toExponential(1).split("e");
      return `${digits}·10${superscript(Number(exponent))}`;
    }
    return String(Number(value.toPrecision(3)));
  }

  function superscript(value) {
    return String(value).replace(/[-\d]/g, (digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]));
  }

  /**
   * Draw lines on logarithmic axes.
   *   x: frequencies; lines: [{ values, style }], style a class of play.css; range: decades [low, high] of y
   */
  function draw(svg, { x, lines, range, title, label }) {
    const [low, high] = range;
    const first = Math.log2(x[0]), last = Math.log2(x[x.length - 1]);
    const place = (f) => LEFT + ((Math.log2(f) - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
    const level = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const parts = [`<text class="play-title" x="${LEFT}" y="13">${title}</text>`];
    for (let power = Math.ceil(first); power <= last; power += 1) {
      const at = place(2 ** power).toFixed(1);
      parts.push(`<line class="play-grid" x1="${at}" x2="${at}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>`);
      parts.push(`<text x="${at}" y="${HEIGHT - BOTTOM + 13}" text-anchor="middle">${2 ** power}</text>`);
    }
    parts.push(`<text x="${(LEFT + WIDTH) / 2}" y="${HEIGHT - 5}" text-anchor="middle">cycles per side</text>`);
    const step = Math.max(1, Math.ceil((high - low) / 5));
    for (let decade = Math.ceil(low / step) * step; decade <= high; decade += step) {
      const at = level(decade).toFixed(1);
      const style = decade === 0 ? "play-grid play-one" : "play-grid";
      parts.push(`<line class="${style}" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>`);
      const text = decade === 0 ? "1" : `10${superscript(decade)}`;
      parts.push(`<text x="${LEFT - 4}" y="${Number(at) + 4}" text-anchor="end">${text}</text>`);
    }
    for (const { values, style } of lines) {
      const points = [];
      values.forEach((value, i) => {
        const decade = Math.min(high + 1, Math.max(low - 1, Math.log10(Math.max(value, 1e-300))));
        points.push(`${place(x[i]).toFixed(1)},${level(decade).toFixed(1)}`);
      });
      parts.push(`<polyline class="play-line ${style}" points="${points.join(" ")}"/>`);
    }
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    const id = `${svg.id}-frame`;
    const frame = `x="${LEFT}" y="${TOP}" width="${WIDTH - LEFT - RIGHT}" height="${HEIGHT - TOP - BOTTOM}"`;
    const clip = `<clipPath id="${id}"><rect ${frame}/></clipPath>`;
    const isLine = (part) => part.startsWith("<polyline");
    const curves = `<g clip-path="url(#${id})">${parts.filter(isLine).join("")}</g>`;
    svg.innerHTML = clip + parts.filter((part) => !isLine(part)).join("") + curves;
  }

  /** Return decades that hold all values. */
  function decades(...values) {
    const logs = values.flatMap((each) => [...each]).map(Math.log10);
    return [Math.floor(Math.min(0, ...logs)), Math.ceil(Math.max(0, ...logs))];
  }

  /** Show images (3, n, n) in [-1, 1] in a row, with a gap of one pixel. */
  function show(canvas, images, n, label) {
    canvas.width = images.length * (n + 1) - 1;
    canvas.height = n;
    const context = canvas.getContext("2d");
    images.forEach((image, column) => {
      const pixels = context.createImageData(n, n);
      for (let k = 0; k < n * n; k++) {
        for (let c = 0; c < 3; c++) pixels.data[4 * k + c] = Math.round((image[c * n * n + k] + 1) * 127.5);
        pixels.data[4 * k + 3] = 255;
      }
      context.putImageData(pixels, column * (n + 1), 0);
    });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  }

  /** Return pixels of one image, bytes with `stride` values for each, as planes in [-1, 1]. */
  function toPlanes(bytes, n, stride) {
    const x = new Float64Array(3 * n * n);
    for (let k = 0; k < n * n; k++) for (let c = 0; c < 3; c++) x[c * n * n + k] = bytes[stride * k + c] / 127.5 - 1;
    return x;
  }

  /** Return a given image by its number. */
  function leaf(n, number) {
    return toPlanes(Uint8Array.from(atob(Play.leaves[n][number]), (letter) => letter.charCodeAt(0)), n, 3);
  }

  /** Return the central square of an image file at n×n, as planes; it stays in this page. */
  async function readFile(file, n) {
    const address = URL.createObjectURL(file);
    try {
      const image = new Image();
      image.src = address;
      await image.decode();
      const side = Math.min(image.naturalWidth, image.naturalHeight);
      const [left, top] = [(image.naturalWidth - side) / 2, (image.naturalHeight - side) / 2];
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = n;
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff"; // below transparent pixels
      context.fillRect(0, 0, n, n);
      context.imageSmoothingQuality = "high";
      context.drawImage(image, left, top, side, side, 0, 0, n, n);
      return toPlanes(context.getImageData(0, 0, n, n).data, n, 4);
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  Play.plots = { decades, draw, format, leaf, readFile, show };
})();
