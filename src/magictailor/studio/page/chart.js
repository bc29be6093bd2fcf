// Losses of each sample over steps, and below them which sample each step trained.

const BAND = 14, LEFT = 46, BOTTOM = 22, TOP = 10;

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.columns = {};
    this.phases = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // columns: {step: [...], "diffusion.0": [...], worst: [...]}
  set(columns, phases = []) { this.columns = columns; this.phases = phases; this.draw(); }

  add(rows) {
    const count = this.columns.step?.length ?? 0;
    for (const row of rows) {
      if (count && row.step <= this.columns.step[this.columns.step.length - 1]) continue;
      const length = this.columns.step?.length ?? 0;
      for (const [name, value] of Object.entries(row)) (this.columns[name] ??= Array(length).fill(null)).push(value);
      for (const column of Object.values(this.columns)) while (column.length < length + 1) column.push(null);
    }
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const ratio = devicePixelRatio || 1, width = this.canvas.clientWidth, height = this.canvas.clientHeight, pen = this.canvas.getContext("2d");
    this.canvas.width = width * ratio; this.canvas.height = height * ratio;
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.canvas), probe = (name) => { this.canvas.style.color = `var(${name})`; const found = getComputedStyle(this.canvas).color; this.canvas.style.color = ""; return found; };
    const colors = ["--concept", "--component", "--good", "--bad"].map(probe), soft = probe("--soft"), line = probe("--line");
    const steps = this.columns.step ?? [], names = Object.keys(this.columns).filter((n) => n.startsWith("diffusion."));
    pen.font = `12px ${style.fontFamily}`;
    if (!steps.length) { pen.fillStyle = soft; pen.fillText("Losses appear with the first steps.", LEFT, height / 2); return; }
    const curves = names.map((name) => smooth(this.columns[name]));
    const top = Math.max(...curves.flat().filter((v) => v !== null), 1e-6) * 1.08, last = Math.max(steps[steps.length - 1], 1);
    const x = (step) => LEFT + (step / (last + 1)) * (width - LEFT - 12), y = (value) => height - BOTTOM - BAND - (value / top) * (height - BOTTOM - BAND - TOP);
    pen.strokeStyle = line; pen.fillStyle = soft; pen.lineWidth = 1;
    for (let n = 0; n <= 3; n++) { const v = (top * n) / 3; pen.beginPath(); pen.moveTo(LEFT, y(v)); pen.lineTo(width - 12, y(v)); pen.stroke(); pen.fillText(v.toPrecision(2), 8, y(v) + 4); }
    pen.setLineDash([4, 4]);
    for (const phase of this.phases.filter((p) => p > 0 && p <= last)) { pen.beginPath(); pen.moveTo(x(phase), TOP); pen.lineTo(x(phase), height - BOTTOM); pen.stroke(); }
    pen.setLineDash([]);
    curves.forEach((curve, n) => {
      pen.strokeStyle = colors[n % 4]; pen.lineWidth = 2; pen.beginPath();
      let down = false;
      curve.forEach((v, i) => { if (v === null) return; down ? pen.lineTo(x(steps[i]), y(v)) : pen.moveTo(x(steps[i]), y(v)); down = true; });
      if (curve.length === 1) pen.arc(x(steps[0]), y(curve[0]), 2, 0, 7);
      pen.stroke();
    });
    const wide = Math.max(1, (width - LEFT - 12) / steps.length);
    (this.columns.worst ?? []).forEach((worst, i) => { if (worst === null) return; pen.fillStyle = colors[worst % 4]; pen.fillRect(x(steps[i]), height - BOTTOM - BAND + 5, wide, BAND - 6); });
    pen.fillStyle = soft;
    pen.fillText("0", LEFT, height - 6);
    const label = `step ${last}`; pen.fillText(label, width - 12 - pen.measureText(label).width, height - 6);
  }
}

function smooth(values, weight = 0.85) {
  let mean = 0, norm = 0;
  return values.map((v) => { if (v === null || v === undefined) return norm ? mean / norm : null; mean = weight * mean + (1 - weight) * v; norm = weight * norm + 1 - weight; return mean / norm; });
}
