// A mask over a photo, in three layers: the photo (drawn on zoom and pan), the mask (drawn where it changed), the cursor.
// Everything is drawn at most once a frame.

import { h } from "./dom.js";
import { Mask, join } from "./mask.js";

const LEVELS = [2, 4, 8], LARGE = 1024; // smaller copies of a large photo, which zooming and panning draw

export class Editor {
  constructor(stage, { changed, clicked, boxed }) {
    this.stage = stage;
    this.callbacks = { changed, clicked, boxed };
    this.layers = ["photo-layer", "mask-layer", "cursor-layer"].map((name) => h("canvas", { class: name }));
    this.layers[2].tabIndex = 0;
    this.layers[2].setAttribute("role", "application");
    this.layers[2].setAttribute("aria-label", "Mask editor. The tools beside it work from the keyboard: words, grow, shrink, invert, clear.");
    stage.replaceChildren(...this.layers);
    Object.assign(this, { tool: "brush", size: 24, opacity: 0.55, color: [230, 60, 90], view: { scale: 1, x: 0, y: 0 }, clicks: [], minus: true });
    this.mask = null;
    this.cursor = null;
    this.due = new Set(); // layers that the next frame draws
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(stage);
    this.listen();
  }

  close() { this.observer.disconnect(); removeEventListener("keydown", this.keys); removeEventListener("keyup", this.keysUp); }

  // photo: an image; mask, other: images or null. other is taken away from the mask.
  load(photo, mask, other) {
    const width = photo.naturalWidth ?? photo.width, height = photo.naturalHeight ?? photo.height;
    this.photo = photo;
    this.mask = new Mask(width, height);
    if (mask) this.mask.draw(mask);
    this.other = other ? new Mask(width, height).draw(other) : null;
    this.showOther(this.minus);
    this.clicks = [];
    this.levels = [[1, photo]];
    for (const by of LEVELS) if (Math.max(width, height) / by >= LARGE / 2 && Math.max(width, height) > 2 * LARGE)
      createImageBitmap(photo, { resizeWidth: Math.ceil(width / by), resizeHeight: Math.ceil(height / by), resizeQuality: "high" })
        .then((small) => { if (this.photo === photo) { this.levels.push([by, small]); this.levels.sort((a, b) => a[0] - b[0]); } }, () => {});
    this.fit();
  }

  showOther(minus) {
    this.minus = minus;
    this.mask.without(minus ? this.other : null);
    this.ask("mask", this.mask.whole);
  }

  get largest() { return this.mask ? Math.max(100, Math.round(Math.max(this.mask.width, this.mask.height) / 4)) : 400; } // brush, pixels

  // --- changes, each undone as one

  changed(box) {
    if (!box) return;
    this.ask("mask", box);
    this.callbacks.changed();
  }

  undo() { this.changed(this.mask.undo()); }
  redo() { this.changed(this.mask.redo()); }
  clear() { this.changed(this.mask.clear()); }
  invert() { this.changed(this.mask.invert()); }
  apply(image, how) { this.changed(this.mask.apply(image, how)); }
  async morph(kind, radius) { this.changed(await this.mask.morph(kind, radius)); }

  // --- drawing

  // Ask for a layer to be drawn with the next frame; of the mask, a box of the photo.
  ask(layer, box = null) {
    this.due.add(layer);
    if (box) this.pending = join(this.pending, box);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const due = this.due;
      this.due = new Set();
      if (!this.photo) return;
      if (due.has("photo")) this.drawPhoto();
      if (due.has("mask")) this.drawMask();
      if (due.has("cursor")) this.drawCursor();
    });
  }

  draw() { if (this.mask) { this.ask("photo"); this.ask("mask", this.mask.whole); this.ask("cursor"); } }

  resize() {
    const ratio = devicePixelRatio || 1;
    for (const layer of this.layers) { layer.width = Math.max(1, this.stage.clientWidth * ratio); layer.height = Math.max(1, this.stage.clientHeight * ratio); }
    if (this.photo) this.fit();
  }

  fit() {
    const { width, height } = this.layers[0], scale = Math.min(width / this.mask.width, height / this.mask.height) * 0.96;
    this.view = { scale, x: (width - this.mask.width * scale) / 2, y: (height - this.mask.height * scale) / 2 };
    this.draw();
  }

  zoom(factor, x = this.layers[0].width / 2, y = this.layers[0].height / 2) {
    const scale = Math.min(64, Math.max(0.02, this.view.scale * factor)), by = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by };
    this.draw();
  }

  drawPhoto() {
    const layer = this.layers[0], pen = layer.getContext("2d"), { scale, x, y } = this.view;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, layer.width, layer.height);
    const seen = this.mask.clip([-x / scale, -y / scale, (layer.width - x) / scale, (layer.height - y) / scale]);
    if (!seen) return;
    const [by, image] = this.levels.findLast(([by]) => by * scale <= 1) ?? this.levels[0];
    pen.imageSmoothingEnabled = scale < 3;
    const [left, top, right, bottom] = seen;
    pen.drawImage(image, left / by, top / by, (right - left) / by, (bottom - top) / by, left * scale + x, top * scale + y, (right - left) * scale, (bottom - top) * scale);
  }

  // Each pixel of the screen is read from the mask: where the photo is small on the screen, from four places.
  drawMask() {
    const { scale, x, y } = this.view, layer = this.layers[1], { mask } = this, box = this.pending && mask.clip(this.pending);
    this.pending = null;
    if (!box) return;
    const a = Math.max(0, Math.floor(box[0] * scale + x) - 1), b = Math.max(0, Math.floor(box[1] * scale + y) - 1);
    const c = Math.min(layer.width, Math.ceil(box[2] * scale + x) + 1), d = Math.min(layer.height, Math.ceil(box[3] * scale + y) + 1);
    const pen = layer.getContext("2d");
    if (box[2] - box[0] === mask.width && box[3] - box[1] === mask.height) pen.clearRect(0, 0, layer.width, layer.height);
    if (c <= a || d <= b) return;
    const part = new ImageData(c - a, d - b), words = new Uint32Array(part.data.buffer), taken = this.minus && this.other ? this.other.data : null;
    const offsets = scale < 0.6 ? [0.25, 0.75] : [0.5], columns = offsets.map((o) => axis(o, a, c, x, scale, mask.width)), rows = offsets.map((o) => axis(o, b, d, y, scale, mask.height));
    const color = this.color[0] | (this.color[1] << 8) | (this.color[2] << 16), strength = this.opacity / offsets.length ** 2;
    for (let row = 0, at = 0; row < d - b; row++)
      for (let column = 0; column < c - a; column++, at++) {
        let sum = 0;
        for (const ys of rows) for (const xs of columns) {
          const px = xs[column], py = ys[row];
          if (px < 0 || py < 0) continue;
          const i = py * mask.width + px, value = mask.data[i];
          sum += value && taken ? (value * (255 - taken[i])) / 255 : value;
        }
        words[at] = color | ((sum * strength) << 24);
      }
    pen.putImageData(part, a, b);
  }

  drawCursor() {
    const layer = this.layers[2], pen = layer.getContext("2d"), { scale, x, y } = this.view;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, layer.width, layer.height);
    const twice = (path) => { for (const [width, color] of [[3, "#000b"], [1.4, "#fff"]]) { pen.lineWidth = width; pen.strokeStyle = color; pen.beginPath(); path(); pen.stroke(); } };
    for (const [px, py, inside] of this.clicks) {
      pen.beginPath(); pen.arc(px * scale + x, py * scale + y, 6, 0, 7); pen.fillStyle = inside ? "#2fbf71" : "#e0443a"; pen.fill();
      twice(() => pen.arc(px * scale + x, py * scale + y, 6, 0, 7));
    }
    if (this.path?.length) twice(() => { for (const [px, py] of this.path) pen.lineTo(px * scale + x, py * scale + y); });
    if (this.box) twice(() => pen.rect(this.box[0] * scale + x, this.box[1] * scale + y, (this.box[2] - this.box[0]) * scale, (this.box[3] - this.box[1]) * scale));
    if (!this.cursor) return;
    const [cx, cy] = this.cursor;
    if (["brush", "eraser"].includes(this.tool)) twice(() => pen.arc(cx * scale + x, cy * scale + y, (this.size / 2) * scale, 0, 7));
    else twice(() => { const sx = cx * scale + x, sy = cy * scale + y; pen.moveTo(sx - 7, sy); pen.lineTo(sx + 7, sy); pen.moveTo(sx, sy - 7); pen.lineTo(sx, sy + 7); });
  }

  // --- pointers

  point(event) {
    const box = this.layers[2].getBoundingClientRect(), ratio = this.layers[2].width / box.width;
    return [((event.clientX - box.left) * ratio - this.view.x) / this.view.scale, ((event.clientY - box.top) * ratio - this.view.y) / this.view.scale];
  }

  listen() {
    const layer = this.layers[2];
    this.keys = (event) => { if (event.code === "Space" && event.target === layer) { this.space = true; event.preventDefault(); } };
    this.keysUp = (event) => { if (event.code === "Space") this.space = false; };
    addEventListener("keydown", this.keys);
    addEventListener("keyup", this.keysUp);
    layer.addEventListener("pointerdown", (event) => this.down(event));
    layer.addEventListener("pointermove", (event) => this.moved(event));
    layer.addEventListener("pointerup", () => this.up());
    layer.addEventListener("pointercancel", () => this.up());
    layer.addEventListener("pointerleave", () => { this.cursor = null; this.ask("cursor"); });
    layer.addEventListener("contextmenu", (event) => event.preventDefault());
    layer.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = layer.getBoundingClientRect(), ratio = layer.width / box.width;
      this.zoom(Math.exp(-event.deltaY / 400), (event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
    }, { passive: false });
  }

  down(event) {
    if (!this.photo || this.last || this.path || this.box) return;
    this.layers[2].setPointerCapture(event.pointerId);
    this.layers[2].focus({ preventScroll: true });
    const at = this.point(event);
    if (event.button === 1 || this.space || this.tool === "pan") { this.pan = [event.clientX, event.clientY]; this.stage.classList.add("panning"); return; }
    if (this.tool === "fill") { this.changed(this.mask.fill(...at)); return; }
    if (this.tool === "clicks") { this.clicks.push([...at, !(event.button === 2 || event.altKey)]); this.ask("cursor"); this.callbacks.clicked(this.clicks); return; }
    if (this.tool === "box") { this.box = [...at, ...at]; return; }
    this.erasing = this.tool === "eraser" || event.button === 2 || event.altKey || event.buttons === 32;
    if (this.tool === "lasso") { this.path = [at]; return; }
    this.mask.begin();
    this.stroke(at, at);
  }

  moved(event) {
    if (this.pan) {
      const ratio = devicePixelRatio || 1;
      this.view = { ...this.view, x: this.view.x + (event.clientX - this.pan[0]) * ratio, y: this.view.y + (event.clientY - this.pan[1]) * ratio };
      this.pan = [event.clientX, event.clientY];
      this.draw();
      return;
    }
    this.cursor = this.point(event);
    if (this.last) for (const part of event.getCoalescedEvents?.() ?? [event]) this.stroke(this.last, this.point(part));
    if (this.path) this.path.push(this.cursor);
    if (this.box) this.box = [this.box[0], this.box[1], ...this.cursor];
    this.ask("cursor");
  }

  stroke(from, to) {
    const box = this.mask.stroke(from, to, this.size / 2, this.erasing);
    this.last = to;
    if (box) this.ask("mask", box);
  }

  up() {
    this.stage.classList.remove("panning");
    this.pan = null;
    const { last, path, box } = this;
    this.last = this.path = this.box = null;
    if (last) { this.mask.end(); this.callbacks.changed(); }
    if (path?.length > 2) this.changed(this.mask.polygon(path, this.erasing));
    if (box && Math.abs(box[2] - box[0]) > 3 && Math.abs(box[3] - box[1]) > 3)
      this.callbacks.boxed([Math.max(0, Math.min(box[0], box[2])), Math.max(0, Math.min(box[1], box[3])), Math.max(box[0], box[2]), Math.max(box[1], box[3])]);
    this.ask("cursor");
  }
}

// Which pixel of the photo lies under each pixel of the screen along one axis; -1: none.
function axis(offset, from, to, shift, scale, size) {
  const places = new Int32Array(to - from);
  for (let n = 0; n < places.length; n++) {
    const at = Math.floor((from + n + offset - shift) / scale);
    places[n] = at >= 0 && at < size ? at : -1;
  }
  return places;
}
