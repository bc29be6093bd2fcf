// What all pages share: choices, jobs as they change, the chosen pair and run. One stream of events for the whole page.

import { get } from "./api.js";

export const state = { choices: null, jobs: new Map(), pair: null, pairs: [], connected: true };
const listeners = new Map();

export function on(name, listener) {
  if (!listeners.has(name)) listeners.set(name, new Set());
  listeners.get(name).add(listener);
  return () => listeners.get(name).delete(listener);
}

export function tell(name, value) {
  for (const listener of [...(listeners.get(name) ?? [])]) listener(value);
}

export async function begin() {
  state.choices = await get("/state");
  state.pairs = await get("/pairs");
  const last = localStorage.getItem("pair");
  const wanted = [state.choices.open_with, last, state.pairs[0]?.id].find((id) => state.pairs.some((p) => p.id === id));
  if (wanted) await choosePair(wanted);
  listen();
}

export async function choosePair(id) {
  state.pair = id ? await get(`/pairs/${id}`) : null;
  if (id) localStorage.setItem("pair", id);
  tell("pair", state.pair);
}

export function setPair(pair) {
  state.pair = pair;
  tell("pair", pair);
}

export async function refreshPairs() {
  state.pairs = await get("/pairs");
  tell("pairs", state.pairs);
}

function listen() {
  const source = new EventSource("/api/events");
  const handle = (name, run) => source.addEventListener(name, (event) => run(JSON.parse(event.data)));
  source.onopen = () => { state.connected = true; tell("connected", true); };
  source.onerror = () => { state.connected = false; tell("connected", false); };
  handle("jobs", (jobs) => {
    state.jobs = new Map(jobs.map((job) => [job.id, job]));
    tell("jobs");
    tell("anew");
  });
  handle("job", (job) => {
    state.jobs.set(job.id, job);
    tell("jobs", job);
    if (job.kind === "masks" && job.state === "done") refreshPair(job.spec.pair);
  });
  handle("progress", ({ id, progress }) => {
    const job = state.jobs.get(id);
    if (job) state.jobs.set(id, { ...job, progress });
    tell("jobs", state.jobs.get(id));
  });
  handle("gone", ({ id }) => { state.jobs.delete(id); tell("jobs"); });
  handle("anew", () => tell("anew"));
  for (const name of ["metrics", "preview", "images", "gallery"]) handle(name, (value) => tell(name, value));
  handle("pair", ({ id }) => { tell("pair-changed", id); refreshPair(id); });
}

// Read the chosen pair again, if it is this one: a job, or another page, has changed it.
async function refreshPair(id) {
  if (state.pair?.id !== id) return;
  try { setPair(await get(`/pairs/${id}`)); } catch { await refreshPairs(); }
}

export const jobsOf = (kind) => [...state.jobs.values()].filter((job) => !kind || job.kind === kind);
export const finishedRuns = () => jobsOf("train").filter((job) => job.state === "done").reverse();
// Trainings with a result: those that are done, and those that have kept a checkpoint. The newest first.
export const trainingsWithResults = () => jobsOf("train").filter((job) => job.state === "done" || job.run.checkpoints?.length).reverse();
// What pictures, exports and further trainings can be made from, as the server names them: 00001-train, 00001-train@100.
export const sourcesOf = (job) => [...(job.run.checkpoints ?? []).map((step) => `${job.id}@${step}`), ...(job.state === "done" ? [job.id] : [])];
export const allSources = () => trainingsWithResults().flatMap((job) => sourcesOf(job).reverse());
// What to begin with: the newest end of a training; if none has ended, the newest checkpoint.
export const newestSource = () => allSources().find((source) => !source.includes("@")) ?? allSources()[0];

// A job's title, with its number where another one has the same title.
export function titleOf(job) {
  const alike = jobsOf(job.kind).filter((other) => other.title === job.title).length > 1;
  return alike ? `${job.title} #${Number(job.id.split("-")[0])}` : job.title;
}

export function nameOf(source) {
  const [id, step] = source.split("@"), job = state.jobs.get(id);
  return (job ? titleOf(job) : id) + (step ? `, step ${step}` : "");
}

// The order of results side by side: by training, then by step, the end last.
export function bySource(a, b) {
  const [first, second] = [a, b].map((source) => source.split("@"));
  return first[0] === second[0] ? Number(first[1] ?? Infinity) - Number(second[1] ?? Infinity) : first[0] < second[0] ? -1 : 1;
}
export const busy = (job) => ["running", "pausing", "stopping"].includes(job.state);
