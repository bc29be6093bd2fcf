// A mask: one byte a pixel, 0 outside and 255 inside. A change keeps the tiles that it touches as they were, so that it can be
// undone; whatever the photo's size, a stroke costs what it covers.

const TILE = 128, UNDO_BYTES = 64 * 2 ** 20, BAND = 512; // pixels; bytes; rows of a picture that are drawn at a time

// Two corners of what both boxes [left, top, right, bottom] cover.
export const join = (a, b) => (a ? [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])] : b);

export class Mask {
  constructor(width, height) {
    Object.assign(this, { width, height, columns: Math.ceil(width / TILE), rows: Math.ceil(height / TILE) });
    this.data = new Uint8ClampedArray(width * height);
    this.sums = new Float64Array(this.columns * this.rows); // of each tile, without what is taken away
    this.undone = []; this.done = []; this.kept = null; this.other = null;
  }

  get whole() { return [0, 0, this.width, this.height]; }

  clip([left, top, right, bottom]) {
    const box = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)), Math.min(this.width, Math.ceil(right)), Math.min(this.height, Math.ceil(bottom))];
    return box[2] > box[0] && box[3] > box[1] ? box : null;
  }

  // other: a mask that is taken away from this one, or null. Changes what `share` says.
  without(other) { this.other = other; this.measure(this.sums.keys()); }

  // The share of the photo that is inside, 0 .. 1.
  share() { return this.sums.reduce((sum, tile) => sum + tile, 0) / 255 / this.data.length; }

  // A box around all that is not 0, or null.
  bounds() {
    let box = null;
    for (const [tile, sum] of this.sums.entries()) if (sum) box = join(box, this.boxOf(tile));
    return box;
  }

  boxOf(tile) {
    const left = (tile % this.columns) * TILE, top = Math.floor(tile / this.columns) * TILE;
    return [left, top, Math.min(this.width, left + TILE), Math.min(this.height, top + TILE)];
  }

  // --- changes that are undone as one: begin, keep what will be written over, write, end

  begin() { this.kept = new Map(); }

  keep([left, top, right, bottom]) {
    for (let row = Math.floor(top / TILE); row <= (bottom - 1) / TILE; row++)
      for (let column = Math.floor(left / TILE); column <= (right - 1) / TILE; column++) {
        const tile = row * this.columns + column;
        if (!this.kept.has(tile)) this.kept.set(tile, this.read(tile));
      }
  }

  end() {
    const tiles = this.kept;
    this.kept = null;
    for (const [tile, before] of tiles) if (this.equals(tile, before)) tiles.delete(tile);
    if (!tiles.size) return;
    this.measure(tiles.keys());
    this.done.push(tiles);
    this.undone = [];
    let bytes = 0;
    for (let at = this.done.length - 1; at > 0; at--) {
      bytes += size(this.done[at]);
      if (bytes > UNDO_BYTES) { this.done.splice(0, at); break; }
    }
  }

  // Change a box as one. Returns the box, or null outside the photo.
  change(box, write) {
    const clipped = this.clip(box);
    if (!clipped) return null;
    this.begin();
    this.keep(clipped);
    write(clipped);
    this.end();
    return clipped;
  }

  undo() { return this.swap(this.done, this.undone); }
  redo() { return this.swap(this.undone, this.done); }

  // Returns the box that has changed, or null if there was nothing to undo.
  swap(from, to) {
    const tiles = from.pop();
    if (!tiles) return null;
    let box = null;
    const current = new Map();
    for (const [tile, before] of tiles) {
      current.set(tile, this.read(tile));
      this.write(tile, before);
      box = join(box, this.boxOf(tile));
    }
    this.measure(tiles.keys());
    to.push(current);
    return box;
  }

  // A tile's bytes; one number if all are alike.
  read(tile) {
    const [left, top, right, bottom] = this.boxOf(tile), wide = right - left, found = new Uint8ClampedArray(wide * (bottom - top));
    for (let y = top; y < bottom; y++) found.set(this.data.subarray(y * this.width + left, y * this.width + right), (y - top) * wide);
    return alike(found) ? found[0] : found;
  }

  write(tile, values) {
    const [left, top, right, bottom] = this.boxOf(tile), wide = right - left;
    for (let y = top; y < bottom; y++) {
      if (typeof values === "number") this.data.fill(values, y * this.width + left, y * this.width + right);
      else this.data.set(values.subarray((y - top) * wide, (y - top + 1) * wide), y * this.width + left);
    }
  }

  equals(tile, values) {
    const [left, top, right, bottom] = this.boxOf(tile), one = typeof values === "number";
    for (let y = top, at = 0; y < bottom; y++)
      for (let i = y * this.width + left, last = y * this.width + right; i < last; i++, at++) if (this.data[i] !== (one ? values : values[at])) return false;
    return true;
  }

  measure(tiles) {
    const { data, width } = this, taken = this.other?.data;
    for (const tile of tiles) {
      const [left, top, right, bottom] = this.boxOf(tile);
      let sum = 0;
      for (let y = top; y < bottom; y++) {
        const first = y * width + left, last = y * width + right;
        if (taken) for (let i = first; i < last; i++) sum += (data[i] * (255 - taken[i])) / 255;
        else for (let i = first; i < last; i++) sum += data[i];
      }
      this.sums[tile] = sum;
    }
  }

  // --- what can be written

  // A round stroke from one point to another, with a soft pixel at its edge. Call between begin and end. Returns its box.
  stroke(from, to, radius, erase) {
    const box = this.clip([Math.min(from[0], to[0]) - radius - 1, Math.min(from[1], to[1]) - radius - 1, Math.max(from[0], to[0]) + radius + 1, Math.max(from[1], to[1]) + radius + 1]);
    if (!box) return null;
    this.keep(box);
    const inside = erase ? 0 : 255;
    for (let y = box[1]; y < box[3]; y++) {
      const outer = span(from, to, radius + 0.5, y + 0.5);
      if (!outer) continue;
      const inner = radius > 0.5 ? span(from, to, radius - 0.5, y + 0.5) : null, row = y * this.width;
      const first = Math.max(0, Math.floor(outer[0])), last = Math.min(this.width, Math.ceil(outer[1]));
      const solid = inner ? [Math.max(first, Math.ceil(inner[0] - 0.5)), Math.min(last, Math.floor(inner[1] - 0.5) + 1)] : [last, last];
      if (solid[1] > solid[0]) this.data.fill(inside, row + solid[0], row + solid[1]);
      else solid[0] = solid[1] = last;
      for (let x = first; x < last; x++) {
        if (x === solid[0]) x = solid[1];
        if (x >= last) break;
        const cover = Math.min(1, radius + 0.5 - distance(from, to, x + 0.5, y + 0.5)) * 255;
        if (cover > 0) this.data[row + x] = erase ? Math.min(this.data[row + x], 255 - cover) : Math.max(this.data[row + x], cover);
      }
    }
    return box;
  }

  // The area inside a path of points.
  polygon(path, erase) {
    const xs = path.map((p) => p[0]), ys = path.map((p) => p[1]);
    return this.change([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], (box) => drawn(box, (pen) => {
      pen.fillStyle = "#fff"; pen.beginPath();
      for (const [x, y] of path) pen.lineTo(x, y);
      pen.closePath(); pen.fill();
    }, 3, (at, y, values) => {
      const row = this.data.subarray(y * this.width + at, y * this.width + at + values.length);
      for (let i = 0; i < values.length; i++) row[i] = erase ? Math.min(row[i], 255 - values[i]) : Math.max(row[i], values[i]);
    }));
  }

  // A grey picture of the photo's size. how: replace, add or subtract.
  apply(image, how) {
    return this.change(this.whole, () => this.draw(image, how));
  }

  draw(image, how = "replace") {
    drawn(this.whole, (pen) => pen.drawImage(image, 0, 0, this.width, this.height), 0, (left, y, values) => {
      const row = this.data.subarray(y * this.width, (y + 1) * this.width);
      if (how === "replace") row.set(values);
      else for (let i = 0; i < values.length; i++) row[i] = how === "add" ? Math.max(row[i], values[i]) : Math.min(row[i], 255 - values[i]);
    });
    if (!this.kept) this.measure(this.sums.keys());
    return this;
  }

  clear() { return this.change(this.whole, () => this.data.fill(0)); }
  invert() {
    return this.change(this.whole, () => {
      const { data } = this, words = new Uint32Array(data.buffer, 0, data.length >> 2);
      for (let i = 0; i < words.length; i++) words[i] = ~words[i];
      for (let i = 4 * words.length; i < data.length; i++) data[i] = 255 - data[i];
    });
  }

  // Fill the hole or the area around a point: all connected pixels on the same side of one half.
  fill(x, y) {
    const { data, width, height } = this, at = Math.floor(y) * width + Math.floor(x);
    if (!(x >= 0 && y >= 0 && x < width && y < height)) return null;
    const inside = data[at] > 127, value = inside ? 0 : 255, stack = [at], same = (i) => (data[i] > 127) === inside;
    return this.change(this.whole, () => {
      while (stack.length) {
        let i = stack.pop();
        if (!same(i)) continue;
        const row = i - (i % width);
        while (i > row && same(i - 1)) i--;
        let up = false, down = false;
        for (; i < row + width && same(i); i++) {
          data[i] = value;
          if (i >= width) { const s = same(i - width); if (s && !up) stack.push(i - width); up = s; }
          if (i + width < data.length) { const s = same(i + width); if (s && !down) stack.push(i + width); down = s; }
        }
      }
    });
  }

  // Grow, shrink or feather the edge, in a worker; only around what is inside.
  async morph(kind, radius) {
    const found = this.bounds();
    if (!found) return null;
    const reach = kind === "feather" ? 2 * radius : radius + 1, box = this.clip([found[0] - reach, found[1] - reach, found[2] + reach, found[3] + reach]);
    const width = box[2] - box[0], height = box[3] - box[1], part = new Uint8ClampedArray(width * height);
    for (let y = 0; y < height; y++) part.set(this.data.subarray((box[1] + y) * this.width + box[0], (box[1] + y) * this.width + box[2]), y * width);
    const made = await inWorker({ kind, mask: part, width, height, radius }, [part.buffer]);
    return this.change(box, () => { for (let y = 0; y < height; y++) this.data.set(made.subarray(y * width, (y + 1) * width), (box[1] + y) * this.width + box[0]); });
  }

  // The mask as a PNG, white on black; made in a worker.
  png() {
    const copy = this.data.slice();
    return inWorker({ kind: "png", mask: copy, width: this.width, height: this.height }, [copy.buffer]);
  }
}

const size = (tiles) => [...tiles.values()].reduce((sum, values) => sum + (typeof values === "number" ? 8 : values.length), 0);

function alike(values) {
  for (let i = 1; i < values.length; i++) if (values[i] !== values[0]) return false;
  return true;
}

function inWorker(task, moved) {
  return new Promise((resolve, reject) => {
    const worker = new Worker("/static/worker.js");
    worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
    worker.onerror = (event) => { worker.terminate(); reject(new Error(event.message)); };
    worker.postMessage(task, moved);
  });
}

// Draw on a canvas in bands, and hand on one channel of each row of the box: a whole photo's canvas takes 64 MB.
function drawn([left, top, right, bottom], draw, channel, take) {
  const canvas = document.createElement("canvas");
  canvas.width = right - left; canvas.height = Math.min(BAND, bottom - top);
  const pen = canvas.getContext("2d", { willReadFrequently: true }), values = new Uint8ClampedArray(canvas.width);
  for (let from = top; from < bottom; from += BAND) {
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(1, 0, 0, 1, -left, -from);
    draw(pen);
    const rows = Math.min(BAND, bottom - from), { data } = pen.getImageData(0, 0, canvas.width, rows);
    for (let y = 0; y < rows; y++) {
      for (let i = 0, at = y * canvas.width * 4 + channel; i < values.length; i++, at += 4) values[i] = data[at];
      take(left, from + y, values);
    }
  }
}

// The part of a row that lies within a distance of a line from one point to another: [first, last], or null.
function span(from, to, radius, y) {
  let low = Infinity, high = -Infinity;
  const reach = (x) => { low = Math.min(low, x); high = Math.max(high, x); };
  for (const [x, cy] of [from, to]) {
    const half = radius * radius - (y - cy) ** 2;
    if (half >= 0) { reach(x - Math.sqrt(half)); reach(x + Math.sqrt(half)); }
  }
  const dx = to[0] - from[0], dy = to[1] - from[1], length = Math.hypot(dx, dy);
  if (length > 1e-6) {
    const nx = (-dy / length) * radius, ny = (dx / length) * radius;
    const corners = [[from[0] + nx, from[1] + ny], [to[0] + nx, to[1] + ny], [to[0] - nx, to[1] - ny], [from[0] - nx, from[1] - ny]];
    corners.forEach(([x, cy], n) => {
      const [ox, oy] = corners[(n + 1) % 4];
      if ((cy <= y) !== (oy <= y)) reach(x + ((y - cy) / (oy - cy)) * (ox - x));
    });
  }
  return low <= high ? [low, high] : null;
}

function distance(from, to, x, y) {
  const dx = to[0] - from[0], dy = to[1] - from[1], square = dx * dx + dy * dy;
  const part = square ? Math.max(0, Math.min(1, ((x - from[0]) * dx + (y - from[1]) * dy) / square)) : 0;
  return Math.hypot(x - from[0] - part * dx, y - from[1] - part * dy);
}
