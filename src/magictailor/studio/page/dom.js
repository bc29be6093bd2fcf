// Elements without a framework: h("button", {class: "primary", onclick}, "Train").

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !["list", "form", "width", "height"].includes(name) && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function show(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return parent;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}\u00a0%`;

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}

export function toast(text, { undo = null, bad = false } = {}) {
  const box = h("div", { class: `toast ${bad ? "bad" : ""}` }, h("span", {}, text));
  const away = () => box.remove();
  if (undo) box.append(h("button", { class: "quiet", onclick: () => { away(); undo(); } }, "Undo"));
  box.append(h("button", { class: "quiet", "aria-label": "Dismiss", onclick: away }, "×"));
  document.getElementById("toasts").append(box);
  setTimeout(away, undo || bad ? 12000 : 5000);
}

export function field(label, control, help = "") {
  control.id ||= `f${Math.random().toString(36).slice(2)}`;
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, help && h("span", { class: "help" }, help));
}

export function select(options, value, onchange) {
  const box = h("select", { onchange: () => onchange?.(box.value) });
  for (const option of options) {
    const [key, text, off] = Array.isArray(option) ? option : [option, option];
    box.append(h("option", { value: key, selected: key === value, disabled: Boolean(off) }, text));
  }
  return box;
}

// A box and a strength for each file; chosen(): FILE=STRENGTH of those that are taken. kept: what was chosen before.
export function loras(names, kept, changed) {
  const strengths = new Map(kept.map((text) => text.split("=")));
  const tell = () => changed([...strengths].map(([name, strength]) => `${name}=${strength}`));
  return h("fieldset", { class: "field" }, h("legend", {}, "Community LoRAs"), names.map((name) => {
    const box = h("input", { type: "checkbox", checked: strengths.has(name) }), strength = h("input", { type: "number", min: "-4", max: "4", step: "0.1", value: strengths.get(name) ?? "1", "aria-label": `Strength of ${name}` });
    const take = () => { if (box.checked) strengths.set(name, strength.value || "1"); else strengths.delete(name); tell(); };
    box.onchange = take;
    strength.onchange = take;
    return h("div", { class: "lora" }, h("label", { class: "choice small" }, box, name), strength);
  }));
}

// A dialog that resolves to true or to the form's values; null when it is left.
export function dialog(title, body, confirm = "OK", danger = false) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" }, h("h2", {}, title), body, h("div", { class: "cluster end" },
      h("button", { type: "button", class: "quiet", onclick: () => box.close() }, "Cancel"),
      h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm)));
    const box = h("dialog", { "aria-label": title }, form);
    let answer = null;
    form.addEventListener("submit", () => { answer = Object.fromEntries(new FormData(form)); });
    box.addEventListener("close", () => { box.remove(); resolve(answer); });
    document.body.append(box);
    box.showModal();
  });
}
