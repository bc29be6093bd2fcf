// Images of finished trainings: prompts, a gallery of everything, the same seeds side by side.

import { get, post, q } from "../api.js";
import { jobButtons, report, typing } from "../app.js";
import { announce, dialog, field, h, loras, select, show, toast } from "../dom.js";
import { VirtualGallery } from "../gallery.js";
import { allSources, busy, bySource, jobsOf, nameOf, newestSource, on, sourcesOf, state, titleOf, trainingsWithResults } from "../store.js";

let draft = null; // kept while the page is left and entered again

export async function open(main, [wanted]) {
  const gallery = new VirtualGallery({ open: view });
  const form = h("form", { class: "card" }), working = h("div", { "aria-live": "polite" }), comparison = h("section"), count = h("span", { class: "soft small" }), none = h("p", { class: "none", hidden: true });
  draft ??= { runs: [], prompts: "", number: 4, seed: 0, steps: "", guidance: "", emphasis: "", scheduler: "", loras: [] };
  const known = () => { const there = new Set(allSources()); draft.runs = draft.runs.filter((source) => there.has(source)); };
  if (wanted && allSources().includes(wanted)) { draft.runs = [wanted]; draft.prompts = ""; }
  known();
  if (!draft.runs.length) draft.runs = [newestSource()].filter(Boolean);
  const jobsChosen = () => trainingsWithResults().filter((job) => draft.runs.some((source) => source.split("@")[0] === job.id));
  const words = () => [...new Set(jobsChosen().flatMap((job) => Object.keys(job.run.words ?? {})))];
  const together = () => { const [first, ...rest] = words(); return rest.length ? `${first} with ${rest.join(" and ")}` : first ?? ""; };
  const prompts = h("textarea", { rows: 3, maxlength: 4000, placeholder: "One prompt per line", "aria-keyshortcuts": "Control+Enter" });

  function insert(text) {
    const at = prompts.selectionStart ?? prompts.value.length, before = prompts.value.slice(0, at), gap = before && !/\s$/.test(before) && !text.startsWith(",") ? " " : "";
    prompts.value = before + gap + text + prompts.value.slice(prompts.selectionEnd ?? at);
    draft.prompts = prompts.value;
    prompts.focus();
  }

  // A training: one box if there is nothing but its end, else one for each checkpoint.
  function chooser(job) {
    const box = (source, text) => {
      const input = h("input", { type: "checkbox", checked: draft.runs.includes(source), "data-source": source });
      input.onchange = () => { draft.runs = input.checked ? [...draft.runs, source] : draft.runs.filter((other) => other !== source); drawForm(); form.querySelector(`[data-source="${source}"]`)?.focus(); };
      return h("label", { class: "choice small" }, input, text);
    };
    const sources = sourcesOf(job);
    if (sources.length === 1 && sources[0] === job.id) return box(job.id, titleOf(job));
    return h("div", { role: "group", "aria-label": titleOf(job) }, h("span", { class: "small" }, titleOf(job)),
      h("div", { class: "steps" }, sources.map((source) => box(source, source.includes("@") ? `step ${source.split("@")[1]}` : "the end"))));
  }

  function drawForm() {
    known();
    if (!allSources().length) {
      show(form, h("h2", {}, "New images"), h("div", { class: "empty" }, h("p", {}, "Images need a finished training."), h("a", { class: "button primary", href: "#/train" }, "Train")));
      return;
    }
    draft.prompts ||= together();
    prompts.value = draft.prompts;
    prompts.oninput = () => { draft.prompts = prompts.value; };
    const number = (name, attributes) => { const box = h("input", { type: "number", value: String(draft[name]), ...attributes }); box.oninput = () => { draft[name] = box.value; }; return box; };
    const first = jobsChosen()[0]?.run.sampling ?? {};
    show(form, h("h2", {}, "New images"),
      h("fieldset", { class: "field sources" }, h("legend", {}, "Trainings"), trainingsWithResults().map(chooser), h("span", { class: "help" }, draft.runs.length > 1 ? `${draft.runs.length} of them: the same prompts and seeds for each, side by side.` : "Choose several, or several checkpoints of one, to compare them.")),
      field("Prompts", prompts),
      h("div", { class: "chips", role: "group", "aria-label": "Words" }, words().map((word) => h("button", { class: "word", type: "button", onclick: () => insert(word) }, word))),
      h("details", {}, h("summary", {}, "Places, styles and views"), Object.entries(state.choices.prompts).map(([group, texts]) => h("div", { class: "chips", role: "group", "aria-label": group }, Object.values(texts).map((text) => h("button", { type: "button", onclick: () => insert(`, ${text}`) }, text)))),
        h("button", { class: "small", type: "button", onclick: () => { draft.prompts = prompts.value = Object.values(state.choices.prompts).flatMap((t) => Object.values(t)).map((t) => `${together()}, ${t}`).join("\n"); } }, "All twenty")),
      h("div", { class: "two" }, field("Images per prompt", number("number", { min: 1, max: 10000 })), field("First seed", number("seed", { min: 0, max: 4294967295 }))),
      h("details", {}, h("summary", {}, "Guidance, steps, sampler"), h("div", { class: "two" }, field("Guidance", number("guidance", { min: 0, max: 100, step: "any", placeholder: first.guidance })), field("Steps", number("steps", { min: 1, max: 1000, placeholder: first.steps }))),
        field("Component emphasis", number("emphasis", { min: 0, max: 2, step: 0.1, placeholder: first.emphasis ?? 0 }), "0 to 2. If the component is too weak, try 1."),
        field("Sampler", select([["", "the base's own"], "ddim", "dpm++", "dpm++-karras", "sde-dpm++", ["own", "own (flow matching)"], ["euler", "euler (flow matching)"]], draft.scheduler, (v) => { draft.scheduler = v; })),
        state.choices.loras.length > 0 && loras(state.choices.loras, draft.loras, (chosen) => { draft.loras = chosen; })),
      h("button", { class: "primary", type: "submit", disabled: !draft.runs.length }, "Generate"));
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const lines = prompts.value.split("\n").map((l) => l.trim()).filter(Boolean);
    const spec = { kind: "generate", runs: draft.runs, prompts: lines, number: Number(draft.number), seed: Number(draft.seed) };
    if (draft.scheduler) spec.scheduler = draft.scheduler;
    if (draft.steps !== "") spec.steps = Number(draft.steps);
    if (draft.guidance !== "") spec.guidance = Number(draft.guidance);
    if (draft.emphasis !== "") spec.emphasis = Number(draft.emphasis);
    if (draft.loras.length) spec.loras = draft.loras;
    try { const job = await post("/jobs", { spec }); state.jobs.set(job.id, job); drawWorking(); if (draft.runs.length > 1 || lines.length > 1) compare(job.id); } catch (error) { report(error); }
  });

  function drawWorking() {
    const jobs = jobsOf("generate").filter((job) => job.state !== "done");
    show(working, jobs.map((job) => h("div", { class: "card" }, h("div", { class: "cluster spread" }, h("span", {}, h("strong", {}, job.title), " ", h("span", { class: `state ${job.state}` }, job.state), " ", h("span", { class: "soft small" }, job.message || (job.progress.total ? `${job.progress.done} / ${job.progress.total}` : ""))), h("span", { class: "cluster" }, jobButtons(job))),
      busy(job) && job.progress.total && h("progress", { max: job.progress.total, value: job.progress.done, "aria-label": job.title }))));
  }

  // --- everything that was generated

  const text = h("input", { type: "search", placeholder: "Find in prompts, methods, pairs", "aria-label": "Find images" }), starred = h("input", { type: "checkbox" });
  const query = () => `text=${q(text.value)}&favourite=${starred.checked}`;
  async function reload() { try { await gallery.load(query()); count.textContent = `${gallery.total} image${gallery.total === 1 ? "" : "s"}`; gallery.element.dataset.total = gallery.total; gallery.element.hidden = gallery.total === 0; none.hidden = gallery.total > 0; zip.hidden = gallery.total === 0; none.textContent = text.value || starred.checked ? "No images match. Change the search." : "Everything you generate is saved here."; gallery.ask(); } catch (error) { report(error); } }
  let wait = null, viewing = false; // while an image is looked at, the order of the others stays
  const later = () => { clearTimeout(wait); wait = setTimeout(() => { if (!viewing) reload(); }, 250); };
  text.oninput = later;
  starred.onchange = later;

  const zip = h("button", { class: "small", type: "button", title: "the first 500 that are shown", onclick: async () => {
    try {
      const { rows } = await get(`/gallery?limit=500&${query()}`);
      if (rows.length) h("a", { href: `/api/gallery/pictures.zip?${rows.map((row) => `id=${q(row.id)}`).join("&")}`, download: "pictures.zip" }).click();
    } catch (error) { report(error); }
  } }, "Download as zip");
  const bin = h("button", { class: "small quiet", type: "button", onclick: async () => {
    if (!(await dialog("Empty the bin?", h("p", {}, "The files of deleted images are removed for good. The images in the gallery stay."), "Empty it", true))) return;
    try { const { removed } = await post("/gallery/empty-bin"); toast(`${removed} image${removed === 1 ? "" : "s"} removed`); } catch (error) { report(error); }
  } }, "Empty the bin");

  async function view(index) {
    let at = index;
    const box = h("dialog", { class: "viewer", "aria-label": "Image" });
    viewing = true;
    async function draw() {
      const row = await gallery.row(at);
      if (!row) { box.close(); return; }
      const image = `/api/images/${q(row.job)}/${row.name}`;
      const favourite = async () => { try { await post("/gallery/marks", { ids: [row.id], favourite: !row.favourite }); row.favourite = !row.favourite; draw(); } catch (error) { report(error); } };
      const gone = async () => { try { await post("/gallery/marks", { ids: [row.id], deleted: true }); box.close(); toast("The image is deleted", { undo: async () => { await post("/gallery/marks", { ids: [row.id], deleted: false }); reload(); } }); } catch (error) { report(error); } };
      const reuse = () => { draft = { ...draft, prompts: row.prompt, seed: row.seed, steps: row.steps, guidance: row.guidance, emphasis: row.emphasis ?? "", scheduler: row.scheduler, runs: allSources().includes(row.run) ? [row.run] : draft.runs }; box.close(); drawForm(); prompts.focus(); };
      box.onkeydown = (event) => { const key = event.key; if (key === "ArrowRight" && at < gallery.total - 1) { at++; draw(); } else if (key === "ArrowLeft" && at > 0) { at--; draw(); } else if (key.toLowerCase() === "s") favourite(); else if (key === "Delete") gone(); };
      show(box, h("div", { class: "columns" }, h("img", { src: image, alt: row.prompt }), h("div", {}, h("p", {}, h("strong", {}, row.prompt)),
        h("dl", { class: "numbers" }, [["Seed", row.seed], ["Training", nameOf(row.run)], ["Method", row.method], ["Guidance", row.guidance], ["Component emphasis", row.emphasis ?? 0], ["Steps", row.steps], ["Sampler", row.scheduler], ["Pair", row.pair], ["Base", row.model], ["Size", `${row.width} × ${row.height}`]].map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v)))),
        h("div", { class: "cluster foot-actions" }, h("button", { type: "button", "aria-pressed": String(row.favourite), onclick: favourite }, row.favourite ? "★ Favourite" : "☆ Favourite"), h("button", { type: "button", onclick: reuse }, "Use these settings"), h("button", { type: "button", onclick: () => { box.close(); compare(row.job).then(() => comparison.scrollIntoView({ block: "nearest" })); } }, "Compare"), h("a", { class: "button", href: `${image}?download=true` }, "Download"), h("button", { type: "button", class: "danger", onclick: gone }, "Delete"), h("button", { type: "button", class: "primary", onclick: () => box.close() }, "Close")))));
      box.querySelector(".primary").focus();
    }
    box.addEventListener("close", () => { viewing = false; box.remove(); reload(); });
    document.body.append(box);
    box.showModal();
    try { await draw(); } catch (error) { box.close(); report(error); }
  }

  // --- the same prompts and seeds side by side

  let compared = null;
  async function compare(job) {
    compared = job;
    try {
      const own = (await get(`/gallery?job=${q(job)}&limit=500`)).rows, key = (r) => `${r.prompt}\n${r.seed}`;
      const columns = [...new Map(own.map((r) => [key(r), r])).values()].sort((a, b) => (a.prompt === b.prompt ? a.seed - b.seed : a.prompt < b.prompt ? -1 : 1)).slice(0, 60);
      // Whatever else was generated from these prompts with the same settings belongs to the comparison, too.
      const alike = (r) => own.some((o) => key(o) === key(r) && ["steps", "guidance", "emphasis", "scheduler", "model"].every((name) => o[name] === r[name]));
      const prompts = [...new Set(columns.map((c) => c.prompt))], found = prompts.length > 25 ? [] : (await get(`/gallery?limit=500${prompts.map((p) => `&prompt=${q(p)}`).join("")}`)).rows;
      const rows = [...found.filter(alike), ...own];
      const by = new Map(rows.map((r) => [`${r.run}\n${key(r)}`, r])), owners = [...new Set(rows.map((r) => r.run))].sort(bySource);
      show(comparison, h("div", { class: "cluster spread" }, h("h2", {}, "Side by side"), h("button", { class: "small quiet", type: "button", onclick: () => { compared = null; show(comparison); } }, "Close")),
        rows.length === 0 ? h("p", { class: "soft" }, "Images appear here one by one.") : h("div", { class: "compare" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}), columns.map((c) => h("th", { class: "small" }, `${c.prompt}, seed ${c.seed}`)))),
          h("tbody", {}, owners.map((run) => h("tr", {}, h("th", { class: "small", scope: "row" }, nameOf(run)), columns.map((c) => { const r = by.get(`${run}\n${key(c)}`); return h("td", {}, r ? h("img", { src: `/api/images/${q(r.job)}/${r.name}/thumb`, alt: `${nameOf(run)}: ${r.prompt}, seed ${r.seed}` }) : ""); })))))));
      comparison.dataset.pictures = rows.length;
    } catch (error) { report(error); }
  }

  const keys = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); else if (!typing(event) && event.key === "/") { text.focus(); event.preventDefault(); } };
  document.addEventListener("keydown", keys);
  show(main, h("div", { class: "head" }, h("h1", {}, "Generate")), h("div", { class: "columns generate" }, form, h("div", { class: "stack" }, working, comparison, h("div", { class: "cluster" }, text, h("label", { class: "choice" }, starred, "Favourites"), count, zip), none, gallery.element, h("div", { class: "cluster end" }, bin))));
  let sources = allSources().join();
  drawForm(); drawWorking();
  await reload();
  const off = [on("jobs", (job) => { drawWorking(); if (job?.kind === "train" && sources !== (sources = allSources().join())) drawForm(); }), on("images", ({ id, rows }) => { later(); announce(`${rows.length} new images`); if (compared === id) compare(id); }), on("gallery", later), on("anew", later)];
  return () => { off.forEach((f) => f()); gallery.close(); document.removeEventListener("keydown", keys); clearTimeout(wait); };
}
