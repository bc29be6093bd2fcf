// Training: choose, queue, and watch.

import { get, getText, post, q } from "../api.js";
import { jobButtons, moveJob, report, typing } from "../app.js";
import { Chart } from "../chart.js";
import { announce, duration, field, h, loras, select, show } from "../dom.js";
import { settingsForm } from "../form.js";
import { allSources, busy, choosePair, jobsOf, nameOf, on, sourcesOf, state, titleOf } from "../store.js";

const BASES = { // what a list of models calls them
  embedded: "embedded: the small base of the world", "embedded-dit": "embedded-dit: the same with a transformer",
};

export async function open(main, [id]) {
  return id ? watch(main, id) : choose(main);
}

// --- a new training, and the queue

async function choose(main) {
  let settings = () => [], pairReady = false, turn = 0, wait = null;
  const queue = h("div");
  const form = h("form", { class: "card" });
  const values = { model: "embedded", method: "magictailor", preset: "", precision: "", start: "", loras: [] };
  const advanced = h("details", {}, h("summary", {}, "Advanced settings"), h("p", { class: "soft" }, "Opening…"));
  const keep = h("input", { type: "number", min: "0", max: "10000000", step: "1" });
  const expected = h("div", { class: "expected", "aria-live": "polite" });

  function spec() {
    const found = { kind: "train", pair: state.pair.id, model: values.model, method: values.method, settings: [...settings(), ...(Number(keep.value) > 0 ? [`sampling.keep_every=${Number(keep.value)}`] : [])] };
    for (const name of ["preset", "precision", "start"]) if (values[name]) found[name] = values[name];
    if (values.loras.length) found.loras = values.loras;
    return found;
  }

  async function drawSettings() {
    try {
      const { recipe, schema } = await get(`/recipe?method=${q(values.method)}&model=${q(values.model)}`);
      const [element, changed] = settingsForm(recipe, schema, ["sampling.keep_every"]);
      settings = changed;
      const steps = recipe.phases.reduce((sum, p) => sum + p.steps, 0), small = recipe.train.every((part) => ["lora", "pseudo-words"].includes(part.kind));
      keep.value = String(small ? recipe.sampling.preview_every : 0);
      show(advanced, h("summary", {}, `Advanced settings (${steps} steps in ${recipe.phases.length} phase${recipe.phases.length > 1 ? "s" : ""})`), element);
      drawExpected();
    } catch (error) { report(error); }
  }

  // What is known before it begins: measured here, or calculated; nothing is guessed.
  async function drawExpected() {
    if (!state.pair) { show(expected); return; }
    const own = ++turn, card = state.choices.cards[0];
    try {
      const found = await post("/expectation", spec());
      if (own !== turn) return;
      const by = found.measured ? `measured in “${nameOf(found.measured)}”` : "";
      const preset = card ? [found.preset, `${found.proposed ? "proposed for" : "chosen; the GPU is"} ${card.name}, ${card.gigabytes} GB`] : [found.proposed ? "none" : found.preset, "no GPU found: this runs on the CPU"];
      const tight = card && !found.measured && found.memory_gb > card.gigabytes;
      const rows = [["Preset", ...preset],
        ["Time", found.seconds === null ? "not known yet" : `about ${duration(found.seconds)} for ${found.steps} steps`, found.seconds === null ? `${found.steps} steps; the time left is shown after the first of them` : `${by}; previews take extra time`],
        ["Memory", found.memory_gb === null ? "not known yet" : `about ${found.memory_gb.toFixed(1)} GB`, found.memory_gb === null ? found.unknown : found.measured ? "the most that the same training took" : "calculated for six photos and rank 32, not measured here"]];
      show(expected, h("dl", {}, rows.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, note && h("span", { class: "help" }, note))))),
        tight && h("p", { class: "notice warn small" }, "That is more than the GPU has. Choose a smaller preset."));
    } catch (error) { if (own === turn) show(expected, h("p", { class: "error small" }, error.message)); }
  }
  const later = () => { clearTimeout(wait); wait = setTimeout(drawExpected, 300); };

  function drawForm() {
    const { pair, choices } = { pair: state.pair, choices: state.choices };
    pairReady = Boolean(pair) && pair.problems.length === 0;
    const set = (name, redraw) => (value) => { values[name] = value; if (redraw) drawSettings(); else later(); };
    const hub = h("input", { type: "text", placeholder: "or a name on the hub: owner/model", "aria-label": "A model on the hub", maxlength: 200 });
    hub.onchange = () => { if (hub.value.trim()) { values.model = hub.value.trim(); drawSettings(); } };
    const groups = Object.groupBy ? Object.groupBy(choices.methods, (m) => m.group) : { methods: choices.methods };
    const method = h("select", { onchange: () => { values.method = method.value; drawSettings(); } }, Object.entries(groups).map(([group, list]) => h("optgroup", { label: group }, list.map((m) => h("option", { value: m.name, selected: m.name === values.method }, `${m.name}: ${m.summary}`)))));
    show(form, h("h2", {}, "New training"),
      field("Pair", select(state.pairs.map((p) => [p.id, p.name]), pair?.id, (v) => choosePair(v).catch(report))),
      !pair && h("p", { class: "notice warn" }, "There is no pair yet. ", h("a", { href: "#/pair" }, "Make one")),
      pair && !pairReady && h("div", { class: "notice warn" }, h("ul", {}, pair.problems.slice(0, 4).map((p) => h("li", {}, p)))),
      field("Base", select(choices.models.map((m) => [m, BASES[m] || m]), values.model, set("model", true)), "For photos, choose a base such as Stable Diffusion; the embedded bases know only the world's characters."), hub,
      field("Method", method),
      h("div", { class: "two" }, field("Preset", select([["", choices.cards.length ? "the GPU's" : "no GPU: none needed"], ...choices.presets], values.preset, set("preset")), "Memory of the GPU"),
        field("Precision", select([["", "automatic"], "fp32", "bf16", "fp16", "int8", "nf4"], values.precision, set("precision")))),
      allSources().length > 0 && field("Start from", select([["", "the base alone"], ...allSources().map((source) => [source, nameOf(source)])], values.start, set("start"))),
      choices.loras.length > 0 && loras(choices.loras, values.loras, set("loras")),
      field("Keep a checkpoint every", keep, "steps, to compare and to choose from; 0: only the end"),
      advanced, expected,
      h("button", { class: "primary", type: "submit", disabled: !pairReady, "aria-keyshortcuts": "Control+Enter" }, "Train"));
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try { const job = await post("/jobs", { spec: spec() }); state.jobs.set(job.id, job); location.hash = `#/train/${job.id}`; } catch (error) { report(error); }
  });
  form.addEventListener("input", later);
  const keys = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); };
  document.addEventListener("keydown", keys);

  function drawQueue() {
    const jobs = jobsOf().sort((a, b) => (busy(b) - busy(a)) || ((b.state === "queued") - (a.state === "queued")) || (a.state === "queued" ? a.order - b.order : b.created - a.created));
    const waiting = jobs.filter((j) => j.state === "queued" || j.state === "paused").sort((a, b) => a.order - b.order);
    show(queue, h("h2", {}, "Jobs"), jobs.length === 0 && h("p", { class: "soft" }, "Trainings, images and exports are listed here. They continue when this page is closed."),
      h("ul", { class: "queue" }, jobs.map((job) => {
        const at = waiting.indexOf(job);
        return h("li", { "data-job": job.id }, h("div", {}, job.kind === "train" ? h("a", { href: `#/train/${job.id}` }, titleOf(job)) : h("span", {}, titleOf(job)), h("br"), h("span", { class: `state ${job.state}` }, job.state), " ", h("span", { class: "soft small" }, job.message || (job.progress.total && busy(job) ? `${job.progress.task} ${job.progress.done} / ${job.progress.total}` : job.kind))),
          h("div", { class: "cluster" }, at > 0 && h("button", { class: "small quiet", "aria-label": `Move ${job.title} up`, onclick: () => moveJob(job.id, waiting[at - 1].id) }, "↑"),
            at >= 0 && at < waiting.length - 1 && h("button", { class: "small quiet", "aria-label": `Move ${job.title} down`, onclick: () => moveJob(job.id, waiting[at + 2]?.id ?? null) }, "↓"), jobButtons(job)));
      })));
  }

  show(main, h("div", { class: "head" }, h("h1", {}, "Train")), h("div", { class: "columns" }, form, queue));
  drawForm(); drawQueue(); drawSettings();
  const off = [on("pair", () => { drawForm(); later(); }), on("pairs", drawForm), on("jobs", (job) => { drawQueue(); if (job?.kind === "train" && job.state === "done") later(); })];
  return () => { off.forEach((f) => f()); clearTimeout(wait); document.removeEventListener("keydown", keys); };
}

// --- one training

async function watch(main, id) {
  const canvas = h("canvas", { class: "chart", role: "img", "aria-label": "Losses over steps" });
  const chart = new Chart(canvas), head = h("div", { class: "head" }), notice = h("div"), key = h("p", { class: "key" }), numbers = h("dl", { class: "numbers" }), film = h("div", { class: "film", tabIndex: 0, "aria-label": "Previews" });
  const log = h("pre", { class: "log", tabIndex: 0 }), logBox = h("details", {}, h("summary", {}, "Log"), log);
  let last = null, began = null;

  const job = () => state.jobs.get(id);
  function drawHead() {
    const found = job();
    if (!found) { show(main, h("h1", {}, "Train"), h("p", { class: "notice warn" }, "This training no longer exists. ", h("a", { href: "#/train" }, "All jobs"))); return; }
    const bar = found.progress.total && busy(found) ? h("progress", { max: found.progress.total, value: found.progress.done, "aria-label": "Steps" }) : null;
    show(head, h("div", {}, h("a", { href: "#/train", class: "small" }, "← All jobs"), h("h1", {}, titleOf(found), " ", h("span", { class: `state ${found.state}` }, found.state))), h("div", { class: "cluster" }, jobButtons(found, { small: false }),
      sourcesOf(found).length > 0 && h("a", { class: "button primary", href: `#/generate/${sourcesOf(found).at(-1)}` }, "Generate")));
    show(notice, bar, found.state === "interrupted" && h("p", { class: "notice warn" }, "The process ended before the training did. Resume continues from the last checkpoint; on a CPU, the result is exactly the same as without the interruption."),
      found.state === "failed" && h("p", { class: "notice bad", role: "alert" }, [found.message, found.fix].filter(Boolean).join("; ")),
      busy(found) && !found.run.steps && h("p", { class: "soft" }, "The base is being loaded. The first preview comes before the first step."));
    const labels = Object.values(found.run.words ?? {});
    show(key, labels.map((label, n) => h("span", { class: `c${n}` }, h("i"), label)), labels.length > 1 && h("span", { class: "soft" }, "lines: loss of each; bar below: which sample each step trained"));
    drawNumbers();
  }

  function drawNumbers() {
    const found = job(), steps = found?.run.steps;
    if (!found || !last) { show(numbers); return; }
    const speed = began && last.step > began.step ? (performance.now() - began.at) / 1000 / (last.step - began.step) : null;
    const rows = [["Step", `${last.step + 1}${steps ? ` / ${steps}` : ""}`], ["Loss", last.loss?.toFixed(4)], ["Learning rate", last.lr?.toExponential(1)], ["Left", busy(found) && speed && steps ? duration(speed * (steps - last.step - 1)) : found.run.finished ? "finished" : "–"]];
    if (found.progress.saved !== undefined) rows.push(["Saved at", found.progress.saved]);
    if (found.run.finished) rows.push(["Took", duration(found.run.seconds)]);
    show(numbers, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value ?? "–"))));
  }

  const frame = ({ step, files }) => h("figure", { "data-step": step }, files.map((file) => h("img", { src: `/api/jobs/${id}/previews/${q(file)}?v=${Date.now()}`, alt: `preview after step ${step}`, loading: "lazy" })), h("figcaption", { class: "small soft" }, `step ${step}`));
  async function refresh() {
    try {
      const [curves, previews] = await Promise.all([get(`/jobs/${id}/curves`), get(`/jobs/${id}/previews`)]);
      chart.set(curves.columns, job()?.run.phases);
      last = curves.last;
      show(film, previews.length ? previews.map(frame) : h("p", { class: "soft" }, "Previews appear here while it trains."));
      drawNumbers();
    } catch (error) { report(error); }
  }
  async function drawLog() { if (logBox.open) { log.textContent = (await getText(`/jobs/${id}/log`).catch((e) => e.message)) || "Nothing was printed."; } }
  logBox.addEventListener("toggle", drawLog);

  show(main, head, notice, canvas, key, numbers, h("h2", {}, "Previews"), h("p", { class: "soft small" }, "One seed while it learns: the two together, then each alone."), film, logBox);
  drawHead();
  await refresh();
  const off = [
    on("jobs", (changed) => { if (!changed || changed.id === id) { const before = chart.phases.length; drawHead(); if (!before) chart.phases = job()?.run.phases ?? []; drawLog(); } }),
    on("metrics", (news) => {
      if (news.id !== id) return;
      if (news.anew) refresh(); else chart.add(news.rows);
      last = news.rows.at(-1) ?? last;
      began ??= last && { step: last.step, at: performance.now() };
      drawNumbers();
    }),
    on("preview", (news) => { if (news.id === id) { film.querySelector("p")?.remove(); film.querySelector(`[data-step="${news.step}"]`)?.remove(); film.append(frame(news)); film.scrollLeft = film.scrollWidth; announce(`Preview after step ${news.step}`); } }),
    on("anew", refresh),
  ];
  const keys = (event) => { if (!typing(event) && event.key === "Escape") location.hash = "#/train"; };
  document.addEventListener("keydown", keys);
  return () => { off.forEach((f) => f()); document.removeEventListener("keydown", keys); };
}

