// What takes long on a large mask, in a worker: grow, shrink and feather it, and write it as a PNG.

const FAR = 1e12;

// Squared distances along one line to the nearest zero of f (Felzenszwalb and Huttenlocher 2012).
function line(f, d, v, z, n) {
  let k = 0;
  v[0] = 0; z[0] = -FAR; z[1] = FAR;
  for (let q = 1; q < n; q++) {
    let s = (f[q] + q * q - (f[v[k]] + v[k] * v[k])) / (2 * q - 2 * v[k]);
    while (s <= z[k]) { k--; s = (f[q] + q * q - (f[v[k]] + v[k] * v[k])) / (2 * q - 2 * v[k]); }
    k++; v[k] = q; z[k] = s; z[k + 1] = FAR;
  }
  k = 0;
  for (let q = 0; q < n; q++) { while (z[k + 1] < q) k++; d[q] = (q - v[k]) ** 2 + f[v[k]]; }
}

// Squared distance of every pixel to the nearest one that is inside.
function distances(inside, width, height) {
  const all = new Float64Array(width * height);
  const n = Math.max(width, height), f = new Float64Array(n), d = new Float64Array(n), v = new Int32Array(n + 1), z = new Float64Array(n + 2);
  for (let i = 0; i < all.length; i++) all[i] = inside(i) ? 0 : 1e9;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) f[y] = all[y * width + x];
    line(f, d, v, z, height);
    for (let y = 0; y < height; y++) all[y * width + x] = d[y];
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) f[x] = all[y * width + x];
    line(f, d, v, z, width);
    all.set(d.subarray(0, width), y * width);
  }
  return all;
}

function blurred(mask, width, height, radius) {
  let from = Float32Array.from(mask), to = new Float32Array(mask.length);
  const pass = (count, length, step, jump) => {
    for (let c = 0; c < count; c++) {
      const base = c * jump;
      let sum = 0;
      for (let i = -radius; i <= radius; i++) sum += from[base + Math.min(length - 1, Math.max(0, i)) * step];
      for (let i = 0; i < length; i++) {
        to[base + i * step] = sum / (2 * radius + 1);
        sum += from[base + Math.min(length - 1, i + radius + 1) * step] - from[base + Math.max(0, i - radius) * step];
      }
    }
    [from, to] = [to, from];
  };
  for (let n = 0; n < 3; n++) { pass(height, width, 1, width); pass(width, height, width, 1); }
  return Uint8ClampedArray.from(from, Math.round);
}

async function png(mask, width, height) {
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d"), rows = Math.min(512, height);
  for (let top = 0; top < height; top += rows) {
    const part = new ImageData(width, Math.min(rows, height - top)), words = new Uint32Array(part.data.buffer), from = top * width;
    for (let i = 0; i < words.length; i++) words[i] = (255 << 24) | (mask[from + i] * 0x010101);
    pen.putImageData(part, 0, top);
  }
  return canvas.convertToBlob({ type: "image/png" });
}

function morphed(kind, mask, width, height, radius) {
  if (kind === "feather") return blurred(mask, width, height, Math.max(1, Math.round(radius / 2)));
  const grow = kind === "grow", far = distances((i) => (mask[i] > 127) === grow, width, height), out = new Uint8ClampedArray(mask.length);
  for (let i = 0; i < out.length; i++) out[i] = grow ? (far[i] <= radius * radius ? 255 : 0) : far[i] > radius * radius ? 255 : 0;
  return out;
}

onmessage = async ({ data: { kind, mask, width, height, radius } }) => {
  if (kind === "png") { postMessage(await png(mask, width, height)); return; }
  const out = morphed(kind, mask, width, height, radius);
  postMessage(out, [out.buffer]);
};
