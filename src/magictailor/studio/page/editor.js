// A mask over a photo. The mask is a canvas of the photo's full size, white with alpha; only what a stroke touched is drawn again.
// Three layers: the photo (drawn on zoom and pan), the mask (drawn where it changed), the cursor.

import { h } from "./dom.js";

const UNDO_BYTES = 192 * 2 ** 20;

export class Editor {
  constructor(stage, { changed, clicked, boxed }) {
    this.stage = stage;
    this.callbacks = { changed, clicked, boxed };
    this.layers = ["photo-layer", "mask-layer", "cursor-layer"].map((name) => h("canvas", { class: name }));
    this.layers[2].tabIndex = 0;
    this.layers[2].setAttribute("role", "application");
    this.layers[2].setAttribute("aria-label", "Mask editor. The tools beside it work from the keyboard: words, grow, shrink, invert, clear.");
    stage.replaceChildren(...this.layers);
    Object.assign(this, { tool: "brush", size: 24, opacity: 0.55, color: "230 60 90", view: { scale: 1, x: 0, y: 0 }, undoStack: [], redoStack: [], clicks: [], other: null, minus: true });
    this.mask = document.createElement("canvas");
    this.pen = this.mask.getContext("2d", { willReadFrequently: true });
    this.cursor = null;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(stage);
    this.listen();
  }

  close() { this.observer.disconnect(); removeEventListener("keydown", this.keys); removeEventListener("keyup", this.keysUp); }

  // photo: an image; mask, other: images or null. other is taken away from the mask.
  load(photo, mask, other) {
    this.photo = photo;
    this.mask.width = photo.naturalWidth ?? photo.width;
    this.mask.height = photo.naturalHeight ?? photo.height;
    this.setPixels(mask);
    this.other = other ? this.toAlpha(other) : null;
    this.undoStack = []; this.redoStack = []; this.clicks = [];
    this.fit();
  }

  // A grey image as white with alpha.
  toAlpha(image) {
    const canvas = document.createElement("canvas");
    canvas.width = this.mask.width; canvas.height = this.mask.height;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const data = pen.getImageData(0, 0, canvas.width, canvas.height), words = new Uint32Array(data.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = ((words[i] & 255) << 24) | 0xffffff;
    pen.putImageData(data, 0, 0);
    return canvas;
  }

  setPixels(image) {
    this.pen.globalCompositeOperation = "source-over";
    this.pen.clearRect(0, 0, this.mask.width, this.mask.height);
    if (image) this.pen.drawImage(this.toAlpha(image), 0, 0);
  }

  grey() {
    const { data } = this.pen.getImageData(0, 0, this.mask.width, this.mask.height), out = new Uint8ClampedArray(data.length / 4);
    for (let i = 0; i < out.length; i++) out[i] = data[4 * i + 3];
    return out;
  }

  putGrey(grey) {
    const data = new ImageData(this.mask.width, this.mask.height), words = new Uint32Array(data.data.buffer);
    for (let i = 0; i < grey.length; i++) words[i] = (grey[i] << 24) | 0xffffff;
    this.pen.putImageData(data, 0, 0);
  }

  // The mask as a PNG, white on black.
  png() {
    const canvas = document.createElement("canvas");
    canvas.width = this.mask.width; canvas.height = this.mask.height;
    const pen = canvas.getContext("2d");
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(this.mask, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  coverage() {
    const small = document.createElement("canvas"), scale = Math.min(1, 512 / Math.max(this.mask.width, this.mask.height));
    small.width = Math.max(1, this.mask.width * scale); small.height = Math.max(1, this.mask.height * scale);
    const pen = small.getContext("2d", { willReadFrequently: true });
    pen.drawImage(this.mask, 0, 0, small.width, small.height);
    if (this.other && this.minus) { pen.globalCompositeOperation = "destination-out"; pen.drawImage(this.other, 0, 0, small.width, small.height); }
    const { data } = pen.getImageData(0, 0, small.width, small.height);
    let sum = 0;
    for (let i = 3; i < data.length; i += 4) sum += data[i];
    return sum / 255 / (data.length / 4);
  }

  // --- changes, each undone as one

  // Run a change of the region [x, y, w, h]; keeps what was there.
  change(region, run) {
    const box = this.clip(region);
    if (!box) return;
    const before = this.pen.getImageData(...box);
    run();
    this.push(box, before);
    this.dirty(box);
    this.callbacks.changed();
  }

  whole(run) { this.change([0, 0, this.mask.width, this.mask.height], run); }

  push(box, before) {
    this.undoStack.push({ box, before, after: this.pen.getImageData(...box) });
    this.redoStack = [];
    let bytes = 0;
    for (let i = this.undoStack.length - 1; i >= 0; i--) {
      bytes += 2 * this.undoStack[i].before.data.length;
      if (bytes > UNDO_BYTES && i < this.undoStack.length - 1) { this.undoStack.splice(0, i + 1); break; }
    }
  }

  step(from, to, which) {
    const found = from.pop();
    if (!found) return;
    this.pen.putImageData(found[which], found.box[0], found.box[1]);
    to.push(found);
    this.dirty(found.box);
    this.callbacks.changed();
  }

  undo() { this.step(this.undoStack, this.redoStack, "before"); }
  redo() { this.step(this.redoStack, this.undoStack, "after"); }
  clear() { this.whole(() => this.setPixels(null)); }
  invert() { this.whole(() => { const grey = this.grey(); for (let i = 0; i < grey.length; i++) grey[i] = 255 - grey[i]; this.putGrey(grey); }); }

  // image: grey. how: replace, add or subtract.
  apply(image, how) {
    this.whole(() => {
      if (how === "replace") { this.setPixels(image); return; }
      this.pen.globalCompositeOperation = how === "add" ? "source-over" : "destination-out";
      this.pen.drawImage(this.toAlpha(image), 0, 0);
      this.pen.globalCompositeOperation = "source-over";
    });
  }

  morph(kind, radius) {
    return new Promise((resolve, reject) => {
      const worker = new Worker("/static/morphology.js"), mask = this.grey();
      worker.onmessage = ({ data }) => { worker.terminate(); this.whole(() => this.putGrey(data)); resolve(); };
      worker.onerror = (event) => { worker.terminate(); reject(new Error(event.message)); };
      worker.postMessage({ kind, mask, width: this.mask.width, height: this.mask.height, radius }, [mask.buffer]);
    });
  }

  // Fill the hole or the area around a point: all connected pixels on the same side of one half.
  fill(x, y) {
    const { width, height } = this.mask, grey = this.grey(), at = Math.floor(y) * width + Math.floor(x);
    if (!(x >= 0 && y >= 0 && x < width && y < height)) return;
    const inside = grey[at] > 127, value = inside ? 0 : 255, stack = [at];
    const same = (i) => (grey[i] > 127) === inside;
    while (stack.length) {
      let i = stack.pop();
      if (!same(i)) continue;
      const row = i - (i % width);
      while (i > row && same(i - 1)) i--;
      let up = false, down = false;
      for (; i < row + width && same(i); i++) {
        grey[i] = value;
        if (i >= width) { const s = same(i - width); if (s && !up) stack.push(i - width); up = s; }
        if (i + width < grey.length) { const s = same(i + width); if (s && !down) stack.push(i + width); down = s; }
      }
    }
    this.whole(() => this.putGrey(grey));
  }

  // --- drawing

  clip([x, y, w, hh]) {
    const left = Math.max(0, Math.floor(x)), top = Math.max(0, Math.floor(y));
    const right = Math.min(this.mask.width, Math.ceil(x + w)), bottom = Math.min(this.mask.height, Math.ceil(y + hh));
    return right > left && bottom > top ? [left, top, right - left, bottom - top] : null;
  }

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

  draw() {
    if (!this.photo) return;
    const pen = this.layers[0].getContext("2d"), { scale, x, y } = this.view;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.layers[0].width, this.layers[0].height);
    pen.imageSmoothingEnabled = scale < 3;
    pen.setTransform(scale, 0, 0, scale, x, y);
    pen.drawImage(this.photo, 0, 0, this.mask.width, this.mask.height);
    this.dirty([0, 0, this.mask.width, this.mask.height]);
    this.drawCursor();
  }

  // Ask for a part of the mask to be drawn again, with the next frame.
  dirty(box) {
    const [x, y, w, hh] = box, old = this.pending;
    this.pending = old ? [Math.min(old[0], x), Math.min(old[1], y), Math.max(old[2], x + w), Math.max(old[3], y + hh)] : [x, y, x + w, y + hh];
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.drawMask(); });
  }

  drawMask() {
    const [left, top, right, bottom] = this.pending, { scale, x, y } = this.view, layer = this.layers[1], pen = layer.getContext("2d");
    this.pending = null;
    // In whole pixels of the screen, so that a part drawn again fits the rest.
    const a = Math.max(0, Math.floor(left * scale + x) - 2), b = Math.max(0, Math.floor(top * scale + y) - 2);
    const c = Math.min(layer.width, Math.ceil(right * scale + x) + 2), d = Math.min(layer.height, Math.ceil(bottom * scale + y) + 2);
    if (c <= a || d <= b) return;
    pen.save();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.beginPath(); pen.rect(a, b, c - a, d - b); pen.clip();
    pen.clearRect(a, b, c - a, d - b);
    pen.imageSmoothingEnabled = scale < 3;
    const from = this.clip([(a - x) / scale, (b - y) / scale, (c - a) / scale, (d - b) / scale]);
    const put = (canvas) => from && pen.drawImage(canvas, ...from, from[0] * scale + x, from[1] * scale + y, from[2] * scale, from[3] * scale);
    put(this.mask);
    if (this.other && this.minus) { pen.globalCompositeOperation = "destination-out"; put(this.other); }
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = `rgb(${this.color} / ${this.opacity})`;
    pen.fillRect(a, b, c - a, d - b);
    pen.restore();
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
    layer.addEventListener("pointerup", (event) => this.up(event));
    layer.addEventListener("pointercancel", (event) => this.up(event));
    layer.addEventListener("pointerleave", () => { this.cursor = null; this.drawCursor(); });
    layer.addEventListener("contextmenu", (event) => event.preventDefault());
    layer.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = layer.getBoundingClientRect(), ratio = layer.width / box.width;
      this.zoom(Math.exp(-event.deltaY / 400), (event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
    }, { passive: false });
  }

  down(event) {
    if (!this.photo) return;
    this.layers[2].setPointerCapture(event.pointerId);
    this.layers[2].focus({ preventScroll: true });
    const at = this.point(event);
    if (event.button === 1 || this.space || this.tool === "pan") { this.pan = [event.clientX, event.clientY]; this.stage.classList.add("panning"); return; }
    if (this.tool === "fill") { this.fill(...at); return; }
    if (this.tool === "clicks") { this.clicks.push([...at, !(event.button === 2 || event.altKey)]); this.drawCursor(); this.callbacks.clicked(this.clicks); return; }
    if (this.tool === "box") { this.box = [...at, ...at]; return; }
    if (this.tool === "lasso") { this.path = [at]; this.erasing = event.button === 2 || event.altKey; return; }
    this.erasing = this.tool === "eraser" || event.button === 2 || event.buttons === 32;
    this.before = this.pen.getImageData(0, 0, this.mask.width, this.mask.height);
    this.touched = null;
    this.last = at;
    this.stroke(at);
  }

  moved(event) {
    if (this.pan) {
      const ratio = devicePixelRatio || 1;
      this.view.x += (event.clientX - this.pan[0]) * ratio; this.view.y += (event.clientY - this.pan[1]) * ratio;
      this.pan = [event.clientX, event.clientY];
      this.draw();
      return;
    }
    this.cursor = this.point(event);
    if (this.last) for (const part of event.getCoalescedEvents?.() ?? [event]) this.stroke(this.point(part));
    if (this.path) this.path.push(this.cursor);
    if (this.box) this.box = [this.box[0], this.box[1], ...this.cursor];
    this.cursorFrame ??= requestAnimationFrame(() => { this.cursorFrame = null; this.drawCursor(); });
  }

  up() {
    this.stage.classList.remove("panning");
    this.pan = null;
    if (this.last) {
      this.last = null;
      const box = this.touched && this.clip(this.touched);
      if (box) {
        const part = document.createElement("canvas").getContext("2d"); part.canvas.width = box[2]; part.canvas.height = box[3];
        part.putImageData(this.before, -box[0], -box[1]);
        this.push(box, part.getImageData(0, 0, box[2], box[3]));
        this.callbacks.changed();
      }
      this.before = null;
    }
    if (this.path) {
      const path = this.path, xs = path.map((p) => p[0]), ys = path.map((p) => p[1]), left = Math.min(...xs), top = Math.min(...ys);
      this.path = null;
      if (path.length > 2) this.change([left - 1, top - 1, Math.max(...xs) - left + 2, Math.max(...ys) - top + 2], () => {
        this.pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
        this.pen.fillStyle = "#fff"; this.pen.beginPath();
        for (const [x, y] of path) this.pen.lineTo(x, y);
        this.pen.closePath(); this.pen.fill();
        this.pen.globalCompositeOperation = "source-over";
      });
      this.drawCursor();
    }
    if (this.box) {
      const [a, b, c, d] = this.box;
      this.box = null;
      this.drawCursor();
      if (Math.abs(c - a) > 3 && Math.abs(d - b) > 3) this.callbacks.boxed([Math.max(0, Math.min(a, c)), Math.max(0, Math.min(b, d)), Math.max(a, c), Math.max(b, d)]);
    }
  }

  stroke(to) {
    const pen = this.pen, from = this.last, reach = this.size / 2 + 2;
    pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    pen.strokeStyle = pen.fillStyle = "#fff";
    pen.lineWidth = this.size; pen.lineCap = pen.lineJoin = "round";
    pen.beginPath(); pen.moveTo(...from); pen.lineTo(to[0] + 0.001, to[1]); pen.stroke();
    pen.globalCompositeOperation = "source-over";
    const left = Math.min(from[0], to[0]) - reach, top = Math.min(from[1], to[1]) - reach;
    const box = [left, top, Math.abs(from[0] - to[0]) + 2 * reach, Math.abs(from[1] - to[1]) + 2 * reach], old = this.touched;
    this.touched = old ? [Math.min(old[0], box[0]), Math.min(old[1], box[1]), 0, 0] : [...box];
    if (old) { this.touched[2] = Math.max(old[0] + old[2], box[0] + box[2]) - this.touched[0]; this.touched[3] = Math.max(old[1] + old[3], box[1] + box[3]) - this.touched[1]; }
    this.last = to;
    this.dirty(box);
  }
}
