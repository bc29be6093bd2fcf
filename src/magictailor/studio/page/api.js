// The server's answers. A refusal becomes an Error whose text a person can act on.

export class Refused extends Error {
  constructor(status, body) {
    super([body.problem, body.fix].filter(Boolean).join("; "));
    this.status = status;
    this.field = body.field ?? "";
  }
}

async function ask(method, path, body, raw = false) {
  const headers = { "x-studio": "1" };
  const options = { method, headers };
  if (body instanceof Blob) {
    options.body = body;
    headers["content-type"] = "application/octet-stream";
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`/api${path}`, options);
  } catch {
    throw new Refused(0, { problem: "The studio's server does not answer", fix: "start it again; nothing is lost" });
  }
  if (!response.ok) {
    let found = { problem: `The server answered ${response.status}` };
    try { found = await response.json(); } catch { /* not JSON */ }
    throw new Refused(response.status, found);
  }
  if (raw) return response;
  return response.status === 204 ? null : response.json();
}

export const get = (path) => ask("GET", path);
export const getText = async (path) => (await ask("GET", path, undefined, true)).text();
export const post = (path, body) => ask("POST", path, body);
export const postRaw = (path, body) => ask("POST", path, body, true);
export const put = (path, body) => ask("PUT", path, body);
export const patch = (path, body) => ask("PATCH", path, body);
export const remove = (path) => ask("DELETE", path);
export const q = encodeURIComponent;
