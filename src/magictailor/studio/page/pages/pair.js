// Photos of the concept and of its components: drop, paste, order, name, replace.

import { patch, post, put, q, remove } from "../api.js";
import { report } from "../app.js";
import { announce, dialog, field, h, percent, show, toast } from "../dom.js";
import { choosePair, on, refreshPairs, setPair, state } from "../store.js";

const ACCEPT = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff";
const thumb = (photo) => `/api/pairs/${state.pair.id}/photos/${q(photo.name)}/thumb`;

export async function open(main) {
  const draw = () => show(main, head(), state.pair ? body() : empty());
  const off = [on("pair", draw), on("pairs", draw)];
  const paste = (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length && state.pair) { event.preventDefault(); upload(files, emptiest()); }
  };
  document.addEventListener("paste", paste);
  draw();
  return () => { off.forEach((f) => f()); document.removeEventListener("paste", paste); };
}

const emptiest = () => state.pair.samples.reduce((best, s, n, all) => (s.photos.length < all[best].photos.length ? n : best), 0);

function head() {
  const chooser = h("select", { "aria-label": "Pair", onchange: (e) => choosePair(e.target.value).catch(report) },
    state.pairs.map((p) => h("option", { value: p.id, selected: p.id === state.pair?.id }, p.name)));
  return h("div", { class: "head" }, h("h1", {}, "Pair"), h("div", { class: "cluster" },
    state.pairs.length > 0 && chooser,
    h("button", { class: "small", onclick: create }, "New pair"), h("button", { class: "small", onclick: openFolder }, "Open a folder"),
    h("button", { class: "small", onclick: world }, "A pair of the world")));
}

function empty() {
  const box = h("div", { class: "empty" }, h("h2", {}, "Begin with a few photos"),
    h("p", {}, "A pair is a concept (a person, a tower) and a component that it should get (a hairstyle, a roof). Three photos of each are enough."),
    h("div", { class: "cluster center" }, h("button", { class: "primary", onclick: create }, "New pair"),
      h("button", { onclick: openFolder }, "Open a folder"), h("button", { onclick: world }, "Try a pair of the world")));
  return box;
}

async function create() {
  const answer = await dialog("A new pair", h("div", {},
    field("Name", h("input", { name: "name", required: true, maxlength: 60, autofocus: true, placeholder: "Ada and the salon" })),
    field("What is the concept?", h("input", { name: "concept", required: true, maxlength: 40, placeholder: "person" }), "One ordinary word. Prompts call it <person>."),
    field("What is the component?", h("input", { name: "component", maxlength: 40, placeholder: "hair" }), "The part that is taken over. More can be added later.")), "Create");
  if (!answer) return;
  try {
    const pair = await post("/pairs", { name: answer.name, labels: [answer.concept, answer.component].filter(Boolean) });
    await refreshPairs();
    await choosePair(pair.id);
  } catch (error) { report(error); }
}

async function world() {
  const answer = await dialog("A pair of the world", h("div", {},
    h("p", {}, "Cartoon characters with masks, which the embedded base knows. Each number is another pair."),
    field("Number", h("input", { name: "seed", type: "number", value: "100000060", min: 0, max: 4294967295, required: true }))), "Create");
  if (!answer) return;
  try {
    const pair = await post("/pairs/world", { seed: Number(answer.seed) });
    await refreshPairs();
    await choosePair(pair.id);
    toast(`${pair.name} is ready to train`);
  } catch (error) { report(error); }
}

function openFolder() {
  const input = h("input", { type: "file" });
  input.webkitdirectory = true;
  input.onchange = async () => {
    const files = [...input.files].filter((f) => /\.(jpe?g|png|webp|gif|bmp|tiff?|toml)$/i.test(f.name));
    try {
      const { id } = await post("/folders");
      for (const [n, file] of files.entries()) {
        announce(`${n + 1} of ${files.length}`);
        await put(`/folders/${id}?path=${q(file.webkitRelativePath)}`, file);
      }
      const pair = await post(`/folders/${id}/pair`, { name: files[0]?.webkitRelativePath.split("/")[0] ?? "folder" });
      await refreshPairs();
      await choosePair(pair.id);
    } catch (error) { report(error); }
  };
  input.click();
}

async function upload(files, sample, instead = null) {
  const pair = state.pair.id;
  let good = 0;
  for (const file of files) {
    try {
      const query = `name=${q(file.name || "pasted.png")}${instead ? `&instead=${q(instead)}` : ""}`;
      setPair(await post(`/pairs/${pair}/samples/${sample}/photos?${query}`, file));
      good += 1;
    } catch (error) { toast(`${file.name}: ${error.message}`, { bad: true }); }
  }
  if (good) { announce(`${good} photos added`); refreshPairs(); }
}

function pick(sample, instead = null) {
  const input = h("input", { type: "file", accept: ACCEPT, multiple: !instead });
  input.onchange = () => upload([...input.files], sample, instead);
  input.click();
}

function body() {
  const { pair } = state;
  const ready = pair.problems.length === 0;
  return [
    ready
      ? h("div", { class: "notice good cluster spread" }, h("strong", {}, "Ready to train"), h("span", { class: "cluster" }, h("a", { class: "button small", href: "#/masks" }, "Look at the masks"), h("a", { class: "button small primary", href: "#/train" }, "Train")))
      : h("div", { class: "notice warn" }, h("strong", {}, "Before it can be trained"), h("ul", {}, pair.problems.map((p) => h("li", {}, p))), pair.samples.every((s) => s.photos.length) && h("a", { href: "#/masks" }, "Make the masks")),
    h("div", { class: "columns stack-top" }, pair.samples.map(sampleCard)),
    h("div", { class: "cluster foot-actions" },
      h("button", { class: "small", onclick: addSample }, "Add a component"), h("button", { class: "small", onclick: rename }, "Rename the pair"),
      h("button", { class: "small danger", onclick: removePair }, "Delete the pair")),
  ];
}

async function change(promise) {
  try { setPair(await promise); await refreshPairs(); } catch (error) { report(error); }
}

async function addSample() {
  const answer = await dialog("Another component", field("What is it?", h("input", { name: "label", required: true, maxlength: 40, autofocus: true })), "Add");
  if (answer) await change(post(`/pairs/${state.pair.id}/samples`, { label: answer.label }));
}

async function rename() {
  const answer = await dialog("Rename the pair", field("Name", h("input", { name: "name", value: state.pair.name, required: true, maxlength: 60 })), "Rename");
  if (answer) await change(patch(`/pairs/${state.pair.id}`, { name: answer.name }));
}

async function removePair() {
  const { id, name } = state.pair;
  try {
    await remove(`/pairs/${id}`);
    await refreshPairs();
    await choosePair(state.pairs[0]?.id ?? null);
    toast(`${name} is deleted`, { undo: async () => { await post(`/pairs/${id}/undelete`); await refreshPairs(); await choosePair(id); } });
  } catch (error) { report(error); }
}

async function relabel(number, sample) {
  const answer = await dialog(`Name of ${sample.label}`, h("div", {},
    field("Label", h("input", { name: "label", value: sample.label, required: true, maxlength: 40 })),
    field("Word in prompts", h("input", { name: "word", value: sample.word, maxlength: 42 }), "Like <ada-2>: a to z, digits and dashes between < and >.")), "Save");
  if (!answer) return;
  const word = answer.word && answer.word !== sample.word ? answer.word : answer.label === sample.label ? sample.word : null;
  await change(patch(`/pairs/${state.pair.id}/samples/${number}`, { label: answer.label, word }));
}

function sampleCard(sample, number) {
  const drop = h("div", { class: "drop" }, h("button", { class: "small", onclick: () => pick(number) }, "Add photos"), h("p", { class: "soft small" }, "or drop them here, or paste"));
  const card = h("section", { class: `card sample ${number === 0 ? "concept" : ""}`, "aria-label": sample.label },
    h("div", { class: "cluster spread" }, h("h2", {}, number === 0 ? "Concept: " : "Component: ", sample.label, " ", h("code", {}, sample.word)),
      h("div", { class: "cluster" }, h("button", { class: "small quiet", onclick: () => relabel(number, sample) }, "Rename"),
        number > 0 && sample.photos.length === 0 && h("button", { class: "small quiet", onclick: () => change(remove(`/pairs/${state.pair.id}/samples/${number}`)) }, "Remove"))),
    sample.photos.length === 0 && h("p", { class: "soft" }, number === 0 ? "Photos that show the whole of it, in different places." : "Photos that show it well; it does not matter who wears it."),
    h("ul", { class: "photos" }, sample.photos.map((photo, place) => photoItem(photo, place, number))), drop);
  const over = (on) => (event) => { event.preventDefault(); drop.classList.toggle("over", on); };
  card.addEventListener("dragover", over(true));
  card.addEventListener("dragleave", over(false));
  card.addEventListener("drop", (event) => {
    over(false)(event);
    const moved = event.dataTransfer.getData("text/photo");
    if (moved) move(moved, number, event.target.closest?.(".photo")?.dataset.photo);
    else upload([...event.dataTransfer.files].filter((f) => f.size), number);
  });
  return card;
}

async function move(photo, sample, before) {
  const samples = state.pair.samples.map((s) => s.photos.map((p) => p.name).filter((n) => n !== photo));
  const place = before && before !== photo ? samples[sample].indexOf(before) : samples[sample].length;
  samples[sample].splice(place, 0, photo);
  await change(put(`/pairs/${state.pair.id}/arrangement`, { samples }));
}

function photoItem(photo, place, sample) {
  const id = state.pair.id;
  const names = state.pair.samples[sample].photos.map((p) => p.name);
  const mask = photo.coverage === null ? "no mask" : `mask ${percent(photo.coverage)}`;
  const item = h("li", { class: "photo", draggable: "true", "data-photo": photo.name },
    h("a", { href: `#/masks/${q(photo.name)}`, "aria-label": `${photo.name}, ${mask}; edit its mask` }, h("img", { src: thumb(photo), alt: "", loading: "lazy", draggable: "false" })),
    h("span", { class: "small" }, h("strong", {}, photo.name), h("br"), h("span", { class: photo.coverage && !photo.too_small ? "soft" : "error" }, `${photo.width} × ${photo.height}, ${mask}`), photo.note && h("span", { class: "note" }, photo.note)),
    h("div", { class: "bar" },
      h("button", { class: "quiet", "aria-label": `Move ${photo.name} forward`, disabled: place === 0, onclick: () => move(photo.name, sample, names[place - 1]) }, "←"),
      h("button", { class: "quiet", "aria-label": `Move ${photo.name} back`, disabled: place === names.length - 1, onclick: () => move(photo.name, sample, names[place + 2]) }, "→"),
      h("button", { class: "quiet", "aria-label": `Swap ${photo.name} for another`, onclick: () => pick(sample, photo.name) }, "Swap"),
      h("button", { class: "quiet", "aria-label": `Remove ${photo.name}`, onclick: async () => {
        await change(remove(`/pairs/${id}/photos/${q(photo.name)}`));
        toast(`${photo.name} is removed`, { undo: () => change(post(`/pairs/${id}/photos/${q(photo.name)}/restore`)) });
      } }, "×")));
  item.addEventListener("dragstart", (event) => { event.dataTransfer.setData("text/photo", photo.name); item.classList.add("dragged"); });
  item.addEventListener("dragend", () => item.classList.remove("dragged"));
  return item;
}

