// Files for other tools.

import { post } from "../api.js";
import { jobButtons, report } from "../app.js";
import { field, h, select, show } from "../dom.js";
import { allSources, busy, jobsOf, nameOf, newestSource, on, state } from "../store.js";

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

export async function open(main) {
  const form = h("form", { class: "card" }), list = h("div");
  const draft = { run: newestSource(), formats: new Set(["comfyui"]), half: false, bundle: false, target: "" };

  function drawForm() {
    const runs = allSources();
    if (!runs.length) { show(form, h("div", { class: "empty" }, h("h2", {}, "Nothing to export yet"), h("p", {}, "Exports need a finished training."), h("a", { class: "button primary", href: "#/train" }, "Train"))); return; }
    if (!runs.includes(draft.run)) draft.run = newestSource();
    const box = (checked, change) => { const input = h("input", { type: "checkbox", checked }); input.onchange = () => { change(input.checked); drawForm(); }; return input; };
    show(form, h("h2", {}, "New export"), field("Training", select(runs.map((source) => [source, nameOf(source)]), draft.run, (v) => { draft.run = v; })),
      h("fieldset", { class: "field" }, h("legend", {}, "For"), Object.entries(state.choices.formats).map(([name, text]) => h("label", { class: "choice" }, box(draft.formats.has(name), (on) => (on ? draft.formats.add(name) : draft.formats.delete(name))), h("span", {}, h("strong", {}, name), ": ", text)))),
      h("label", { class: "choice" }, box(draft.half, (v) => { draft.half = v; }), "Half precision: files of half the size"),
      draft.formats.has("kohya") && h("label", { class: "choice" }, box(draft.bundle, (v) => { draft.bundle = v; }), "Embeddings also inside kohya's LoRA file, for A1111"),
      state.choices.targets.length > 0 && field("Also copy into", select([["", "nowhere: only the zip"], ...state.choices.targets], draft.target, (v) => { draft.target = v; })),
      state.choices.targets.length === 0 && h("p", { class: "help" }, "To copy straight into a tool's folder, start the studio with --export-to NAME=FOLDER."),
      h("button", { class: "primary", type: "submit", disabled: draft.formats.size === 0 }, "Export"));
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const spec = { kind: "export", run: draft.run, formats: [...draft.formats], half: draft.half, bundle: draft.bundle && draft.formats.has("kohya") };
    if (draft.target) spec.target = draft.target;
    try { const job = await post("/jobs", { spec }); state.jobs.set(job.id, job); drawList(); } catch (error) { report(error); }
  });

  function drawList() {
    const jobs = jobsOf("export").reverse();
    show(list, h("h2", {}, "Exports"), jobs.length === 0 && h("p", { class: "soft" }, "Each export is a zip with a folder for each tool. The README in it holds the prompt."),
      h("ul", { class: "queue" }, jobs.map((job) => h("li", {}, h("div", {}, h("strong", {}, job.title), h("br"), h("span", { class: `state ${job.state}` }, job.state), " ", h("span", { class: "soft small" }, job.message || (job.state === "done" ? `${job.result.files.length} files, ${megabytes(job.result.bytes)}` : busy(job) && job.progress.total ? `${job.progress.done} / ${job.progress.total}` : ""))),
        h("div", { class: "cluster" }, job.state === "done" && h("a", { class: "button primary small", href: `/api/jobs/${job.id}/export.zip` }, "Download"), jobButtons(job))))));
  }

  show(main, h("div", { class: "head" }, h("h1", {}, "Export")), h("div", { class: "columns" }, form, list));
  let sources = allSources().join();
  drawForm(); drawList();
  const off = [on("jobs", (job) => { drawList(); if (job?.kind === "train" && sources !== (sources = allSources().join())) drawForm(); })];
  return () => off.forEach((f) => f());
}
