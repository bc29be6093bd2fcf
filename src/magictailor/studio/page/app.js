// The frame: steps on the left, what is going on below them, one page beside.

import { patch, post, remove } from "./api.js";
import { announce, dialog, h, show, toast } from "./dom.js";
import { begin, busy, jobsOf, on, state } from "./store.js";

const STEPS = [
  ["pair", "Pair", "1"], ["masks", "Masks", "2"], ["train", "Train", "3"], ["generate", "Generate", "4"], ["export", "Export", "5"],
];
const main = document.getElementById("page");
let leave = () => {};

export function shortcut(element, keys) {
  element.setAttribute("aria-keyshortcuts", keys);
  return element;
}

async function open() {
  const [name, ...rest] = (location.hash.slice(2) || "pair").split("/");
  const step = STEPS.find(([key]) => key === name) ?? STEPS[0];
  leave();
  document.title = `${step[1]} · Studio`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#/${step[0]}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const page = await import(`./pages/${step[0]}.js`);
    show(main);
    leave = (await page.open(main, rest)) ?? (() => {});
  } catch (error) {
    show(main, h("h1", {}, step[1]), h("p", { class: "notice bad", role: "alert" }, error.message));
  }
  announce(`${step[1]} page`);
}

function drawNav() {
  show(document.getElementById("nav"), STEPS.map(([key, title, number]) =>
    h("a", { href: `#/${key}`, "aria-keyshortcuts": number }, h("span", { class: "number", "aria-hidden": "true" }, number), h("span", {}, title))));
}

const WORDS = { queued: "waiting", interrupted: "interrupted", failed: "failed", paused: "paused", pausing: "pausing…", stopping: "stopping…" };

function drawActivity() {
  const open = jobsOf().filter((job) => busy(job) || job.state === "queued" || ["interrupted", "paused"].includes(job.state));
  const order = (job) => (busy(job) ? 0 : 1) * 1e9 + job.order;
  open.sort((a, b) => order(a) - order(b));
  const cut = open.filter((job) => job.state === "interrupted");
  show(document.getElementById("activity"),
    !state.connected && h("p", { class: "notice warn small" }, "The server does not answer. Jobs continue; this page reconnects by itself."),
    cut.length > 1 && h("button", { class: "small", onclick: () => post("/jobs/resume").catch(report) }, `Resume ${cut.length} interrupted jobs`),
    open.slice(0, 6).map((job) => {
      const { done, total, task } = job.progress;
      return h("a", { class: `job ${job.state}`, href: job.kind === "train" ? `#/train/${job.id}` : job.kind === "generate" ? `#/generate` : job.kind === "export" ? "#/export" : "#/masks" },
        h("span", { class: "title" }, job.title),
        h("span", { class: "soft small" }, job.state === "running" ? (total ? `${task} ${done} / ${total}` : job.progress.note ?? "starting…") : WORDS[job.state]),
        total && busy(job) ? h("progress", { max: total, value: done, "aria-label": job.title }) : null);
    }),
    open.length > 6 && h("p", { class: "soft small" }, `and ${open.length - 6} more`));
}

export function report(error) {
  toast(error.message, { bad: true });
}

const PAST = { pause: "pausing", stop: "stopping", resume: "resumed", retry: "queued again", preview: "asked for a preview", checkpoint: "asked for a checkpoint" };
const NAMES = { pause: "Pause", stop: "Stop", resume: "Resume", retry: "Try again", preview: "Generate a preview now", checkpoint: "Save now" };

// The buttons that a job's state allows.
export function jobButtons(job, { small = true } = {}) {
  const size = small ? "small" : "";
  const act = (action) => async (event) => {
    event.currentTarget.disabled = true;
    try { await post(`/jobs/${job.id}/${action}`); announce(`${job.title}: ${PAST[action]}`); } catch (error) { report(error); }
  };
  const buttons = job.actions.map((action) =>
    h("button", { class: `${size} ${["resume", "retry"].includes(action) ? "primary" : ""}`, type: "button", onclick: act(action) }, NAMES[action]));
  if (job.state === "stopping" || job.state === "pausing")
    buttons.push(h("button", { class: `${size} danger`, type: "button", onclick: () => post(`/jobs/${job.id}/kill`).catch(report) }, "Force stop"));
  if (!busy(job))
    buttons.push(h("button", { class: `${size} quiet`, type: "button", onclick: async () => {
      const sure = await dialog("Delete this job?", h("p", {}, `“${job.title}” and all its files will be deleted. This cannot be undone.`), "Delete", true);
      if (sure) await remove(`/jobs/${job.id}`).catch(report);
    } }, "Delete"));
  return buttons;
}

export async function moveJob(id, before) {
  try { await patch(`/jobs/${id}`, { move: true, before }); } catch (error) { report(error); }
}

const KEYS = [
  ["1 – 5", "Pair, Masks, Train, Generate, Export"], ["?", "this list"],
  ["B  E  L  F", "masks: brush, eraser, lasso, fill"], ["C  X", "masks: clicks, box"], ["[  ]", "masks: smaller, larger brush"],
  ["Ctrl Z,  Ctrl Shift Z", "masks: undo, redo"], ["I", "masks: invert"], ["Space + drag, wheel", "masks: pan, zoom; 0 fits the photo"],
  ["← →", "masks: previous, next photo; gallery: previous, next image"], ["S", "gallery: favourite"], ["Delete", "gallery: delete"], ["Ctrl Enter", "start: train, generate"],
];

function help() {
  const box = h("dialog", { "aria-label": "Keyboard shortcuts" }, h("h2", {}, "Keyboard shortcuts"),
    h("table", {}, h("tbody", {}, KEYS.map(([key, text]) => h("tr", {}, h("td", {}, h("kbd", {}, key)), h("td", {}, text))))),
    h("form", { method: "dialog" }, h("button", { class: "primary", autofocus: true }, "Close")));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

function theme() {
  const button = document.getElementById("theme");
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const draw = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Use the ${dark() ? "light" : "dark"} theme`); };
  const saved = localStorage.getItem("theme");
  if (saved) document.documentElement.dataset.theme = saved;
  button.onclick = () => { const next = dark() ? "light" : "dark"; document.documentElement.dataset.theme = next; localStorage.setItem("theme", next); draw(); };
  draw();
}

export const typing = (event) => event.target.closest?.("input, textarea, select, dialog") !== null;

document.addEventListener("keydown", (event) => {
  if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = STEPS.find(([, , number]) => number === event.key);
  if (step) location.hash = `#/${step[0]}`;
  else if (event.key === "?") help();
  else return;
  event.preventDefault();
});
document.getElementById("help").onclick = help;
theme();
drawNav();

// Not awaited here: pages import this module, which must be complete by then.
async function start() {
  try {
    await begin();
    on("jobs", drawActivity);
    on("connected", drawActivity);
    addEventListener("hashchange", open);
    drawActivity();
    await open();
  } catch (error) {
    show(main, h("p", { class: "notice bad", role: "alert" }, error.message));
  }
}
start();
