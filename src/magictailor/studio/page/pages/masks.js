// Masks: from words, from clicks and boxes, and by hand.

import { get, post, postRaw, put, q, remove } from "../api.js";
import { report, typing } from "../app.js";
import { announce, field, h, percent, select, show, toast } from "../dom.js";
import { Editor } from "../editor.js";
import { choosePair, on, setPair, state } from "../store.js";

const TOOLS = [["brush", "Brush", "b"], ["eraser", "Eraser", "e"], ["lasso", "Lasso", "l"], ["fill", "Fill", "f"], ["clicks", "Clicks", "c"], ["box", "Box", "x"], ["pan", "Pan", "h"]];
const WAIT = 700; // milliseconds after the last change, before it is saved

function picture(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("the image could not be loaded"));
    image.src = address;
  });
}

export async function open(main, [wanted]) {
  if (!state.pair || !state.pair.samples.some((s) => s.photos.length)) {
    show(main, h("h1", {}, "Masks"), h("div", { class: "empty" }, h("h2", {}, "No photos yet"), h("p", {}, "A mask marks the part of a photo that is learned. Add photos first."), h("a", { class: "button primary", href: "#/pair" }, "Add photos")));
    return undefined;
  }
  const photos = () => state.pair.samples.flatMap((sample, number) => sample.photos.map((photo) => ({ ...photo, sample: number, label: sample.label })));
  let current = photos().find((p) => p.name === decodeURIComponent(wanted ?? "")) ?? photos()[0];
  let layer = null; // null: the photo's own mask; else the label of another sample on this photo
  let timer = null, saving = Promise.resolve(), loading = 0;
  const base = () => `/pairs/${state.pair.id}/photos/${q(current.name)}`;
  const stage = h("div", { class: "stage" });
  const strip = h("div", { class: "strip", role: "group", "aria-label": "Photos" });
  const status = h("p", { class: "measure", "aria-live": "polite" });
  const saved = h("span", { class: "soft small" });
  const editor = new Editor(stage, { changed, clicked, boxed });

  function changed() {
    measure();
    saved.textContent = "not saved yet";
    clearTimeout(timer);
    timer = setTimeout(save, WAIT);
  }

  function save() {
    clearTimeout(timer);
    timer = null;
    const address = `${base()}/mask${layer ? `?without=${q(layer)}` : ""}`;
    const png = editor.mask.png();
    saving = saving.then(async () => {
      try { state.pair = await put(address, await png); saved.textContent = timer ? "not saved yet" : "saved"; drawStrip(); measure(); } catch (error) { saved.textContent = "NOT SAVED"; report(error); }
    });
    return saving;
  }

  function measure() {
    const share = editor.mask.share(), known = photos().find((p) => p.name === current.name);
    const warn = share === 0 ? "empty: paint the part to be learned" : share < 0.01 ? "very small: crop closer" : share > 0.95 ? "nearly everything: leave out what should not be learned" : layer ? "" : known?.too_small ?? "";
    show(status, h("strong", {}, percent(share)), ` of the photo${layer ? ` is ${layer}` : ""}. `, warn && h("span", { class: "error" }, warn));
  }

  async function load() {
    if (timer) await save();
    const turn = ++loading;
    try {
      const maskOf = (label) => picture(`/api${base()}/mask?${label ? `without=${q(label)}&` : ""}v=${Math.random()}`).catch(() => null);
      const known = photos().find((p) => p.name === current.name);
      const [photo, mask, other] = await Promise.all([
        picture(`/api${base()}`), layer ? (known.without.includes(layer) ? maskOf(layer) : null) : known.coverage === null ? null : maskOf(null),
        !layer && known.without.length ? maskOf(known.without[0]) : null]);
      if (turn !== loading) return;
      editor.load(photo, mask, other);
      editor.resize();
      size.max = String(editor.largest);
      saved.textContent = "";
      drawStrip(); drawPanel(); measure();
      stage.dataset.ready = current.name + (layer ? `/${layer}` : "");
    } catch (error) { report(error); }
  }

  function choose(photo) { current = photo; layer = null; history.replaceState(null, "", `#/masks/${q(photo.name)}`); load(); announce(`${photo.name}, ${photo.label}`); }

  function drawStrip() {
    show(strip, photos().map((photo) => h("button", { type: "button", "aria-current": String(photo.name === current.name), "aria-label": `${photo.label}: ${photo.name}, ${photo.coverage === null ? "no mask" : `mask ${percent(photo.coverage)}`}`, title: `${photo.label}: ${photo.name}`, onclick: () => choose(photo) },
      h("img", { src: `/api/pairs/${state.pair.id}/photos/${q(photo.name)}/thumb`, alt: "" }),
      h("span", { class: `mark ${photo.coverage && !photo.too_small ? "" : "warn"}` }, photo.coverage === null ? "no mask" : percent(photo.coverage)))));
  }

  // --- what a model suggests

  let how = "replace", byClicks = state.choices.segmenters.find((m) => m.takes.includes("clicks") && !m.missing)?.name ?? "grabcut";

  async function suggest(request, as = how) {
    stage.setAttribute("aria-busy", "true");
    show(status, "Looking…");
    try {
      const response = await postRaw(`${base()}/suggest`, request);
      const address = URL.createObjectURL(await response.blob());
      editor.apply(await picture(address), as);
      URL.revokeObjectURL(address);
      announce(decodeURIComponent(response.headers.get("x-note") ?? ""));
    } catch (error) { report(error); measure(); }
    stage.removeAttribute("aria-busy");
  }

  function clicked(clicks) { if (clicks.some((c) => c[2])) suggest({ clicks, model: byClicks }, "replace"); }
  function boxed(box) { suggest({ box, model: "grabcut" }); }

  // --- the panel

  const tools = h("div", { class: "tools", role: "toolbar", "aria-label": "Tools" });
  const panel = h("div", { class: "panel" });
  const size = h("input", { type: "range", min: "1", max: "400", value: "24", "aria-label": "Brush size", "aria-keyshortcuts": "[ ]" });
  size.oninput = () => { editor.size = Number(size.value); editor.ask("cursor"); };
  const opacity = h("input", { type: "range", min: "10", max: "100", value: "55" });
  opacity.oninput = () => { editor.opacity = opacity.value / 100; editor.draw(); };
  const radius = h("input", { type: "number", min: "1", max: "200", value: "3" });

  function setTool(name) { editor.tool = name; stage.classList.toggle("point", ["clicks", "box", "fill"].includes(name)); editor.clicks = []; drawTools(); editor.ask("cursor"); }

  function drawTools() {
    show(tools, TOOLS.map(([name, title, key]) => h("button", { type: "button", "aria-pressed": String(editor.tool === name), "aria-keyshortcuts": key, title: `${title} (${key.toUpperCase()})`, onclick: () => setTool(name) }, title)), h("span", { class: "gap" }),
      h("button", { type: "button", onclick: () => editor.undo(), title: "Ctrl Z" }, "Undo"), h("button", { type: "button", onclick: () => editor.redo(), title: "Ctrl Shift Z" }, "Redo"),
      h("button", { type: "button", onclick: () => editor.invert(), title: "I" }, "Invert"), h("button", { type: "button", onclick: () => editor.clear() }, "Clear"), h("span", { class: "gap" }),
      h("button", { type: "button", "aria-label": "Zoom in", onclick: () => editor.zoom(1.4) }, "+"), h("button", { type: "button", "aria-label": "Zoom out", onclick: () => editor.zoom(1 / 1.4) }, "−"), h("button", { type: "button", onclick: () => editor.fit(), title: "0" }, "Fit"));
  }

  const color = select([["230 60 90", "red"], ["40 200 120", "green"], ["70 130 255", "blue"], ["255 255 255", "white"]], "230 60 90", (value) => { editor.color = value.split(" ").map(Number); editor.draw(); });
  color.setAttribute("aria-label", "Colour of the mask");
  const options = h("div", { class: "options" }, h("label", { title: "[ and ]" }, "Size", size), h("label", {}, "Opacity", opacity), h("label", {}, "Colour", color),
    h("span", { class: "edge", role: "group", "aria-label": "Edge" }, h("label", {}, "Edge", radius, "px"), ["grow", "shrink", "feather"].map((kind) => h("button", { type: "button", onclick: () => morph(kind) }, kind[0].toUpperCase() + kind.slice(1)))));

  async function morph(kind) { try { await editor.morph(kind, Number(radius.value)); } catch (error) { report(error); } }

  function drawPanel() {
    const others = state.pair.samples.map((s) => s.label).filter((l) => l !== current.label);
    const models = (kind) => state.choices.segmenters.filter((m) => m.takes.includes(kind)).map((m) => [m.name, `${m.name}: ${m.missing ? `needs ${m.missing}` : m.summary}`, m.missing]);
    const word = h("input", { type: "text", value: layer ?? current.label, maxlength: 60 });
    const model = select(models("words"), "embedded");
    const threshold = h("input", { type: "number", min: "0", max: "1", step: "0.05", value: "0.25" });
    const minus = h("input", { type: "checkbox", checked: editor.minus });
    minus.onchange = () => { editor.showOther(minus.checked); measure(); };
    show(panel,
      h("section", { class: "card" }, h("h2", {}, current.label), status, saved,
        others.length > 0 && field("Paint", select([["", `${current.label} (what is trained)`], ...others.map((l) => [l, `${l} in this photo (taken away)`])], layer ?? "", async (value) => { if (timer) await save(); layer = value || null; load(); })),
        editor.other && h("label", { class: "choice small" }, minus, `Show ${current.label} without ${others.join(", ")}`)),
      h("section", { class: "card" }, h("h2", {}, "From words"), field("Word", word), field("Model", model), field("Threshold", threshold),
        h("div", { class: "cluster" }, h("button", { class: "small primary", type: "button", onclick: () => suggest({ word: word.value, model: model.value, threshold: Number(threshold.value) }) }, "This photo"),
          h("button", { class: "small", type: "button", onclick: async () => {
            try { await post("/jobs", { spec: { kind: "masks", pair: state.pair.id, model: model.value, threshold: Number(threshold.value), overwrite: true } }); toast("Masks of all photos are being made from the labels"); } catch (error) { report(error); }
          } }, "All photos, by labels"))),
      h("section", { class: "card" }, h("h2", {}, "From clicks and boxes"), field("Model for clicks", select(models("clicks"), byClicks, (v) => { byClicks = v; }), "Clicks: click on the subject; right-click or Alt-click what does not belong to it. Box: drag around it (GrabCut)."),
        field("A suggestion", select([["replace", "replaces the mask"], ["add", "is added"], ["subtract", "is taken away"]], how, (v) => { how = v; }))),
      h("section", { class: "card" }, h("h2", {}, "Files"), h("div", { class: "cluster" },
        h("button", { class: "small", type: "button", onclick: importMask }, "Import"), h("button", { class: "small", type: "button", onclick: exportMask }, "Export"), h("a", { class: "button small", href: `/api/pairs/${state.pair.id}/masks.zip`, "aria-label": "Export all masks" }, "All"),
        h("button", { class: "small danger", type: "button", onclick: async () => { clearTimeout(timer); timer = null; try { setPair(await remove(`${base()}/mask${layer ? `?without=${q(layer)}` : ""}`)); load(); } catch (error) { report(error); } } }, "Delete"))));
  }

  async function exportMask() {
    const address = URL.createObjectURL(await editor.mask.png());
    h("a", { href: address, download: `${current.name.replace(/\.[^.]*$/, "")}${layer ? `.${layer}` : ""}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  function importMask() {
    const input = h("input", { type: "file", accept: "image/*" });
    input.onchange = async () => {
      try {
        const image = await picture(URL.createObjectURL(input.files[0]));
        if (image.naturalWidth !== editor.mask.width || image.naturalHeight !== editor.mask.height) throw new Error(`The mask is ${image.naturalWidth} × ${image.naturalHeight}, the photo ${editor.mask.width} × ${editor.mask.height}; make them the same size`);
        editor.apply(image, "replace");
      } catch (error) { report(error); }
    };
    input.click();
  }

  const resize = (by) => { size.value = String(Math.max(1, Math.round(editor.size * by + Math.sign(by - 1)))); editor.size = Number(size.value); editor.ask("cursor"); };
  const keys = (event) => {
    if (typing(event)) return;
    const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey, all = photos(), at = all.findIndex((p) => p.name === current.name);
    const tool = TOOLS.find(([, , k]) => k === key);
    if (command && key === "z") event.shiftKey ? editor.redo() : editor.undo();
    else if (command && key === "y") editor.redo();
    else if (command || event.altKey) return;
    else if (tool) setTool(tool[0]);
    else if (key === "i") editor.invert();
    else if (key === "[") resize(1 / 1.2);
    else if (key === "]") resize(1.2);
    else if (key === "0") editor.fit();
    else if (key === "arrowright" && at < all.length - 1) choose(all[at + 1]);
    else if (key === "arrowleft" && at > 0) choose(all[at - 1]);
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", keys);
  const off = [on("jobs", async (job) => { if (job?.kind === "masks" && job.state === "done" && job.spec.pair === state.pair?.id) { setPair(await get(`/pairs/${state.pair.id}`)); load(); } })];
  show(main, h("div", { class: "head" }, h("h1", {}, "Masks"), state.pairs.length > 1 && h("select", { "aria-label": "Pair", onchange: async (e) => { if (timer) await save(); await choosePair(e.target.value); current = photos()[0]; if (current) { layer = null; load(); } else location.hash = "#/pair"; } }, state.pairs.map((p) => h("option", { value: p.id, selected: p.id === state.pair.id }, p.name)))),
    strip, h("div", { class: "editor" }, h("div", {}, tools, options, stage), panel));
  drawTools();
  await load();
  return () => { if (timer) save(); off.forEach((f) => f()); editor.close(); document.removeEventListener("keydown", keys); };
}
