// A form made of a JSON Schema, as GET /api/job-types publishes it. It knows no job type: only what schemas are made of.

import { words } from "./format.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

const UNITS = { s: "s", ms: "ms", db: "dB", dbtp: "dBTP", dbfs: "dBFS", lufs: "LUFS", lu: "LU", kbps: "kbit/s", px: "px", hz: "Hz", bytes: "bytes" };

/** A field's name as people write it, and its unit: `ceiling_dbtp` is Ceiling, in dBTP. */
export function label(name) {
  const parts = name.split("_");
  const unit = parts.length > 1 ? UNITS[parts.at(-1)] : undefined;
  return [words((unit ? parts.slice(0, -1) : parts).join("_")), unit];
}

/** The schema behind references, and without the null that stands for a field left out. */
export function plain(schema, root) {
  let found = schema;
  while (found.$ref) found = { ...root.$defs[found.$ref.split("/").at(-1)], ...found, $ref: undefined };
  const some = found.anyOf?.filter((one) => one.type !== "null");
  if (some?.length === 1) return plain({ ...found, anyOf: undefined, ...some[0] }, root);
  return some ? { ...found, anyOf: undefined, oneOf: some } : found;
}

/** The values that a field can take by name, or null. */
function choices({ enum: values, oneOf }) {
  if (values) return values.map((value) => [value, String(value)]);
  const named = oneOf?.flatMap((one) => ("const" in one ? [[one.const, one.title ?? String(one.const)]] : []));
  return named?.length ? named : null;
}

/** The kinds of object that a union offers, by the value of the property that tells them apart; or null. */
function kinds(schema, root) {
  const all = schema.oneOf?.map((one) => plain(one, root));
  if (!all?.every((one) => one.type === "object")) return null;
  const tag = schema.discriminator?.propertyName ?? Object.keys(all[0].properties).find((name) => "const" in all[0].properties[name]);
  return tag ? { tag, byName: new Map(all.map((one) => [one.properties[tag].const, one])) } : null;
}

/** What a new value of this schema begins as: what has a default is left to it. */
function blank(schema, root) {
  const found = plain(schema, root);
  if ("const" in found) return found.const;
  if (found.type === "array") return Array.from({ length: found.minItems ?? 0 }, (_, index) => blank(found.prefixItems?.[index] ?? found.items, root));
  if (found.type !== "object") return choices(found)?.[0][0];
  const needed = Object.entries(found.properties ?? {}).filter(([name, one]) => "const" in one || found.required?.includes(name));
  return Object.fromEntries(needed.map(([name, one]) => [name, blank(one, root)]));
}

/**
 * The fields of an object, the large ones last. `form` has `root` (the whole schema), `errors` (sentences by path), and what the page does:
 * `set(path, value)` with a path of names and numbers, and `source(path, value, id)`, which draws a recording's field.
 */
export function fields(schema, value, form, path = [], place = path) {
  const { properties = {}, required = [] } = plain(schema, form.root);
  const all = Object.entries(properties).map(([name, one]) => [name, plain(one, form.root)]).filter(([, one]) => !("const" in one));
  const large = ([, one]) => one.type === "object" || (one.type === "array" && !choices(one));
  return [...all.filter((one) => !large(one)), ...all.filter(large)].map(([name, one]) =>
    field(one, value?.[name], form, [...path, name], [...place, name], required.includes(name)));
}

/** One field; `place` is its path as the API's errors name it. */
function field(schema, value, form, path, place, required) {
  const name = path.at(-1);
  const [text, unit] = label(String(name));
  const error = form.errors[place.join(".")];
  const id = `field-${place.join("-")}`;
  const told = error ? `${id}-error` : schema.description ? `${id}-help` : nothing;
  const head = html`<span class="label">${text} ${unit ? html`<small>${unit}</small>` : nothing}${required ? html`<small>required</small>` : nothing}</span>`;
  const foot = html`${schema.description ? html`<small class="help" id="${id}-help">${schema.description}${limits(schema)}</small>` : nothing}
    ${error ? html`<small class="bad" id="${id}-error" role="alert">${error}</small>` : nothing}`;
  if (schema.type === "array" && !choices(schema)) return html`<fieldset class="group"><legend>${head}</legend>${foot}${list(schema, value ?? [], form, path, place)}</fieldset>`;
  if (schema.type === "object") return html`<fieldset class="group"><legend>${head}</legend>${foot}${fields(schema, value, form, path, place)}</fieldset>`;
  if (name === "source") return html`<div class="field wide">${head}${form.source(path, value, id)}
    ${error ? html`<small class="bad" id="${id}-error" role="alert">${error}</small>` : nothing}</div>`;
  if (schema.type === "boolean") return html`<label class="field check"><input type="checkbox" id=${id} aria-describedby=${told}
    .checked=${value ?? schema.default ?? false} @change=${(event) => form.set(path, event.target.checked)}>${head}${foot}</label>`;
  return html`<label class="field">${head}${input(schema, value, form, path, { id, told, error, required })}${foot}</label>`;
}

function input(schema, value, form, path, { id, told, error, required }) {
  const named = choices(schema);
  if (value?.title) named?.push([value, value.title]);
  const invalid = error ? "true" : nothing;
  if (named) {
    const chosen = value ?? schema.default;
    return html`<select id=${id} aria-describedby=${told} aria-invalid=${invalid} @change=${(event) => form.set(path, named[event.target.selectedIndex - (required ? 0 : 1)]?.[0])}>
      ${required ? nothing : html`<option ?selected=${value === undefined}>${schema.default == null ? "–" : `${named.find(([one]) => one === schema.default)?.[1]} (usual)`}</option>`}
      ${named.map(([one, title]) => html`<option ?selected=${value !== undefined && one === chosen}>${title}</option>`)}</select>`;
  }
  const number = ["number", "integer"].includes(schema.type);
  const read = (text) => (text === "" ? undefined : number ? Number(text) : text);
  return html`<input id=${id} type=${number ? "number" : "text"} step=${number ? (schema.type === "integer" ? "1" : "any") : nothing} min=${schema.minimum ?? nothing} max=${schema.maximum ?? nothing}
    maxlength=${schema.maxLength ?? nothing} pattern=${schema.pattern ?? nothing} ?required=${required} aria-describedby=${told} aria-invalid=${invalid}
    placeholder=${schema.default ?? nothing} .value=${value ?? ""} @input=${(event) => form.set(path, read(event.target.value))}>`;
}

/** Entries one after the other, each with a way out, and a way to add one of each kind. */
function list(schema, values, form, path, place) {
  const item = plain(schema.items ?? {}, form.root);
  const union = kinds(item, form.root);
  const full = values.length >= (schema.maxItems ?? Infinity);
  const put = (index, ...made) => form.set(path, values.toSpliced(index, 1 - made.length, ...made));
  const heading = (one) => (union ? words(String(one?.[union.tag])) : label(String(path.at(-1)))[0].replace(/s$/, ""));
  return html`<ol class="entries">${values.map((one, index) => {
    const kind = union ? union.byName.get(one?.[union.tag]) : item;
    const [at, where] = [[...path, index], [...place, index, ...(union ? [one?.[union.tag]] : [])]];
    return html`<li><div class="entry"><span>${heading(one)} ${index + 1}${union ? html` <small>${kind?.description}</small>` : nothing}</span>
        ${index ? html`<button type="button" class="quiet" aria-label="Move ${heading(one)} ${index + 1} up" @click=${() => form.set(path, values.with(index, values[index - 1]).with(index - 1, one))}>↑</button>` : nothing}
        <button type="button" class="quiet" aria-label="Remove ${heading(one)} ${index + 1}" @click=${() => put(index)}>Remove</button></div>
      ${kind?.type === "object" ? fields(kind, one, form, at, where) : kind ? field(kind, one, form, at, where, true) : nothing}</li>`;
  })}</ol>
  ${full ? nothing : union ? html`<select aria-label="Add to ${label(String(path.at(-1)))[0]}" @change=${(event) => {
      const kind = [...union.byName.values()][event.target.selectedIndex - 1];
      event.target.selectedIndex = 0;
      if (kind) form.set(path, [...values, blank(kind, form.root)]);
    }}><option>Add…</option>${[...union.byName.keys()].map((name) => html`<option>${words(String(name))}</option>`)}</select>`
    : html`<button type="button" @click=${() => form.set(path, [...values, blank(item, form.root)])}>Add ${label(String(path.at(-1)))[0].toLowerCase().replace(/s$/, "")}</button>`}`;
}

function limits({ minimum, maximum, minItems, maxItems }) {
  if (minimum !== undefined && maximum !== undefined) return ` From ${minimum} to ${maximum}.`;
  return maxItems === undefined ? "" : ` ${minItems ? `${minItems} to` : "At most"} ${maxItems}.`;
}

/** `root` with the value at `path` changed; undefined takes a name out. */
export function changed(root, [name, ...rest], value) {
  if (name === undefined) return value;
  const made = Array.isArray(root) ? [...root] : { ...root };
  const inner = changed(made[name], rest, value);
  if (inner === undefined && !Array.isArray(made)) delete made[name];
  else made[name] = inner;
  return made;
}
