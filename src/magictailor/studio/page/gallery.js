// Ten thousand pictures: only the rows that can be seen are elements, and only their pages are fetched.

import { get, q } from "./api.js";
import { h } from "./dom.js";

const PAGE = 200, MARGIN = 2; // pictures of one request; rows above and below what is seen

export class VirtualGallery {
  constructor({ open, tile = 148 }) {
    this.open = open;
    this.tile = tile;
    this.element = h("div", { class: "gallery", role: "list", tabIndex: 0, "aria-label": "Images" });
    this.space = h("div");
    this.element.append(this.space);
    this.query = "";
    this.reset();
    this.element.addEventListener("scroll", () => this.ask(), { passive: true });
    this.observer = new ResizeObserver(() => this.ask());
    this.observer.observe(this.element);
  }

  close() { this.observer.disconnect(); }

  reset() { this.pages = new Map(); this.asked = new Map(); this.total = 0; this.tiles = new Map(); this.space.replaceChildren(); this.turn = (this.turn ?? 0) + 1; }

  async load(query = this.query) {
    this.query = query;
    this.reset();
    await this.fetch(0);
    this.draw();
  }

  // One request for a page, whoever asks; all wait for its rows.
  fetch(page) {
    if (!this.asked.has(page)) this.asked.set(page, this.read(page).catch((error) => { this.asked.delete(page); throw error; }));
    return this.asked.get(page);
  }

  async read(page) {
    const turn = this.turn, found = await get(`/gallery?offset=${page * PAGE}&limit=${PAGE}&${this.query}`);
    if (turn !== this.turn) return;
    this.total = found.total;
    this.pages.set(page, found.rows);
    if (this.pages.size <= 12) return;
    const far = [...this.pages.keys()].find((key) => Math.abs(key - page) > 5);
    this.pages.delete(far);
    this.asked.delete(far);
  }

  at(index) { return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null; }

  async row(index) { await this.fetch(Math.floor(index / PAGE)); return this.at(index); }

  ask() { this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); }); }

  draw() {
    const width = this.element.clientWidth - 4, columns = Math.max(2, Math.floor(width / this.tile)), side = width / columns;
    const rows = Math.ceil(this.total / columns), first = Math.max(0, Math.floor(this.element.scrollTop / side) - MARGIN), last = Math.min(rows, Math.ceil((this.element.scrollTop + this.element.clientHeight) / side) + MARGIN);
    this.space.style.height = `${rows * side}px`;
    const wanted = new Set();
    for (let index = first * columns; index < Math.min(this.total, last * columns); index++) {
      const row = this.at(index);
      if (!row) { this.fetch(Math.floor(index / PAGE)).then(() => this.ask()); continue; }
      wanted.add(row.id);
      let tile = this.tiles.get(row.id);
      if (!tile) { tile = this.make(row); this.tiles.set(row.id, tile); this.space.append(tile); }
      tile.firstChild.dataset.index = index;
      Object.assign(tile.style, { width: `${side}px`, height: `${side}px`, left: `${(index % columns) * side}px`, top: `${Math.floor(index / columns) * side}px` });
    }
    for (const [id, tile] of this.tiles) if (!wanted.has(id)) { tile.remove(); this.tiles.delete(id); }
    this.element.dataset.drawn = this.tiles.size;
  }

  make(row) {
    return h("div", { class: "tile", role: "listitem" }, h("button", { type: "button", "aria-label": `${row.prompt}, seed ${row.seed}, ${row.method}`, onclick: (event) => this.open(Number(event.currentTarget.dataset.index)) },
      h("img", { src: `/api/images/${q(row.job)}/${row.name}/thumb`, alt: "", loading: "lazy" }), row.favourite && h("span", { class: "star", "aria-label": "favourite" }, "★")));
  }
}
