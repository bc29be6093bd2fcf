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
  handle("job", (job) => { state.jobs.set(job.id, job); tell("jobs", job); });
  handle("gone", ({ id }) => { state.jobs.delete(id); tell("jobs"); });
  handle("anew", () => tell("anew"));
  for (const name of ["metrics", "preview", "images", "gallery"]) handle(name, (value) => tell(name, value));
  handle("pair", async ({ id }) => {
    tell("pair-changed", id);
    if (state.pair?.id !== id) return;
    try { setPair(await get(`/pairs/${id}`)); } catch { await refreshPairs(); }
  });
}

export const jobsOf = (kind) => [...state.jobs.values()].filter((job) => !kind || job.kind === kind);
export const finishedRuns = () => jobsOf("train").filter((job) => job.state === "done").reverse();
export const busy = (job) => ["running", "pausing", "stopping"].includes(job.state);
