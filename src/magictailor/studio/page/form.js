// A form made from the recipe's own schema: a field for every setting, with its default, range and help.

import { h } from "./dom.js";

const resolve = (schema, root) => (schema?.$ref ? resolve(root.$defs[schema.$ref.split("/").pop()], root) : schema);

// The schema of a value, of those that are possible.
function chosen(schema, value, root) {
  schema = resolve(schema, root);
  const options = (schema?.anyOf ?? schema?.oneOf)?.map((s) => resolve(s, root));
  if (!options) return schema ?? {};
  const fits = (s) => value === null ? s.type === "null" : typeof value === "object" && !Array.isArray(value)
    ? s.type === "object" && (value.kind === undefined || s.properties?.kind?.const === value.kind || s.properties?.kind?.enum?.includes(value.kind)) : s.type !== "null" && s.type !== "object";
  return { ...(options.find(fits) ?? options[0]), ...(schema.description && { description: schema.description }), optional: options.some((s) => s.type === "null") };
}

const words = (name) => name.replaceAll("_", " ");

// Returns [element, settings()]: key=value of every field that was changed. left: keys that the form leaves to others.
export function settingsForm(recipe, schema, left = []) {
  const inputs = [];
  const leaf = (key, value, own) => {
    const id = `s-${key}`, text = value === null ? "" : Array.isArray(value) ? JSON.stringify(value) : String(value);
    let input;
    if (typeof value === "boolean") input = h("input", { type: "checkbox", id, checked: value });
    else if (own.enum) { input = h("select", { id }, own.enum.map((v) => h("option", { value: v, selected: v === value }, v))); }
    else if (["number", "integer"].includes(own.type) && !own.optional) input = h("input", { type: "number", id, value: text, step: own.type === "integer" ? "1" : "any", min: own.minimum, max: own.maximum });
    else input = h("input", { type: "text", id, value: text, placeholder: value === null ? "none" : "", spellcheck: "false" });
    const box = h("div", { class: "field" }, h("label", { for: id }, words(key.split(".").pop())), input, h("span", { class: "help", id: `${id}-help` }, [own.description, range(own), value === null ? "empty: none" : ""].filter(Boolean).join("; ")));
    input.setAttribute("aria-describedby", `${id}-help`);
    const now = () => (input.type === "checkbox" ? String(input.checked) : input.value.trim() === "" ? "none" : input.value.trim());
    const before = now();
    input.addEventListener("input", () => box.classList.toggle("changed", now() !== before));
    inputs.push(() => (now() === before ? null : `${key}=${now()}`));
    return box;
  };
  const range = (own) => { const low = own.minimum ?? own.exclusiveMinimum, high = own.maximum ?? own.exclusiveMaximum; return low !== undefined && high !== undefined ? `${low} to ${high}` : low !== undefined ? `${own.exclusiveMinimum !== undefined ? "above" : "from"} ${low}` : ""; };
  const group = (key, value, own, title) => {
    const simple = [], nested = [];
    for (const [name, inner] of Object.entries(value)) {
      const full = key ? `${key}.${name}` : name;
      if (["kind", "method"].includes(name) || left.includes(full)) continue;
      const below = chosen(own.properties?.[name], inner, schema);
      if (inner !== null && typeof inner === "object" && !Array.isArray(inner)) nested.push(group(full, inner, below, words(name) + (inner.kind ? `: ${inner.kind}` : "")));
      else if (Array.isArray(inner) && inner.some((v) => typeof v === "object")) inner.forEach((v, n) => nested.push(group(`${full}.${n}`, v, chosen(resolve(own.properties?.[name], schema)?.items, v, schema), `${words(name)} ${n + 1}${v.kind ? `: ${v.kind}` : ""}`)));
      else simple.push(leaf(full, inner, below));
    }
    const help = own.description?.split("\n\n")[0].replaceAll("``", "") ?? "";
    return h("fieldset", {}, h("legend", {}, title), help && key && h("p", { class: "help" }, help), h("div", { class: "grid" }, simple), nested);
  };
  return [h("div", { class: "settings" }, group("", recipe, resolve(schema, schema), "All settings")), () => inputs.map((f) => f()).filter(Boolean)];
}
