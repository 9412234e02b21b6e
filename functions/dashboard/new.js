// A new job of any type: its form, the same as JSON, and the same as curl.

import { call, upload } from "./api.js";
import { create } from "./create.js";
import { bytes, curl, words } from "./format.js";
import { changed, fields } from "./form.js";
import { may } from "./login.js";
import { failure, skeleton } from "./parts.js";
import { copy, state, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Begin a draft: an empty one, or with the parameters of the job `from`. Raises `ApiError`. */
export async function loadDraft(query) {
  const copied = query.get("from");
  if (state.draft?.key === query.toString()) return;
  const job = copied && (await call("GET", `/api/jobs/${copied}`));
  const type = job?.type ?? query.get("type") ?? "ingest";
  update({ draft: { key: query.toString(), from: job, type, params: job?.params ?? {}, extra: job ? { priority: job.priority || undefined, tags: job.tags } : {},
    errors: {}, general: "", sending: {}, json: null, busy: false } });
}

/** What is asked for, as the API takes it. */
function request({ type, params, extra }) {
  const { priority, tags, run_at: at } = extra;
  return { type, params, ...(priority ? { priority } : {}), ...(tags?.length ? { tags } : {}), ...(at ? { run_at: new Date(at).toISOString() } : {}) };
}

function change(changes) {
  Object.assign(state.draft, changes);
  update();
}

/** The page; `open(job)` is called with what was started. */
export function newPage(open) {
  const { draft, types } = state;
  if (state.me && !may("write")) return html`<main><h1 tabindex="-1">New job</h1><p class="card empty">You may look, but not start jobs.</p></main>`;
  if (!draft || !types) return html`<main><h1 tabindex="-1">New job</h1>${skeleton(6)}</main>`;
  const kind = types[draft.type];
  const form = {
    root: kind.params,
    errors: draft.errors,
    set: (path, value) => change({ params: changed(draft.params, path, value), errors: {}, general: "" }),
    source: (path, value, id) => sourceField(draft, path, value, id),
  };
  const body = fields(kind.params, draft.params, form);
  return html`<main class="narrow">
    <div class="heading"><h1 tabindex="-1">${draft.from ? "Try again, changed" : "New job"}</h1>
      <div class="segments" role="group" aria-label="How to fill it in">
        <button aria-pressed=${draft.json === null} @click=${() => fromJson(draft)}>Form</button>
        <button aria-pressed=${draft.json !== null} @click=${() => change({ json: draft.json ?? JSON.stringify(request(draft), null, 2) })}>JSON</button></div></div>
    <form class="card new" aria-label="New job" novalidate @submit=${(event) => start(event, open)}>
      ${draft.json === null ? html`
        <label class="field wide"><span class="label">Type</span><select name="type" @change=${(event) => change({ type: event.target.value, params: kept(draft, event.target.value), errors: {}, general: "" })}>
          ${Object.values(types).filter((one) => one.kind !== "agent").map(({ name, title }) => html`<option value=${name} ?selected=${name === draft.type}>${words(name)}: ${title}</option>`)}</select></label>
        ${kind.stages.length ? nothing : html`<p class="wide quiet">A ${draft.type} only holds other jobs together; give its <code>children</code> in the JSON view.</p>`}
        ${body}
        <details class="wide"><summary>When and how</summary><div class="new">${extras(draft)}</div></details>`
      : html`<label class="field wide"><span class="label">The request <small>POST /api/jobs</small></span>
          <textarea rows="18" spellcheck="false" .value=${draft.json} @input=${(event) => change({ json: event.target.value, general: "" })}></textarea></label>`}
      ${draft.general ? html`<div class="wide">${failure(draft.general)}</div>` : nothing}
      <div class="buttons wide"><button class="primary" ?disabled=${draft.busy || Object.keys(draft.sending).length}>${draft.busy ? "Starting" : "Start"}</button>
        <button type="button" @click=${() => copy(curl(request(draft)), "The curl command")}>Copy as curl</button></div>
    </form></main>`;
}

/** What another type can use too stays filled in. */
function kept({ params }, type) {
  const known = state.types[type].params.properties ?? {};
  return Object.fromEntries(Object.entries(params).filter(([name, value]) => name in known && typeof value !== "object"));
}

const extras = ({ extra, errors }) => {
  const set = (name, value) => change({ extra: { ...state.draft.extra, [name]: value }, errors: {} });
  const wrong = (name) => (errors[`/${name}`] ? html`<small class="bad" role="alert">${errors[`/${name}`]}</small>` : nothing);
  return html`<label class="field"><span class="label">Priority</span><input type="number" min="-100" max="100" placeholder="0" .value=${extra.priority ?? ""}
      @input=${(event) => set("priority", event.target.value === "" ? undefined : Number(event.target.value))}><small class="help">Higher goes first; equal ones in order of arrival.</small>${wrong("priority")}</label>
    <label class="field"><span class="label">Not before</span><input type="datetime-local" .value=${extra.run_at ?? ""} @input=${(event) => set("run_at", event.target.value)}>
      <small class="help">At once when left empty.</small>${wrong("run_at")}</label>
    <label class="field"><span class="label">Tags</span><input .value=${extra.tags?.join(", ") ?? ""} @change=${(event) => set("tags", event.target.value.split(",").map((tag) => tag.trim()).filter(Boolean))}>
      <small class="help">Words to find it by, with commas between them.</small>${wrong("tags")}</label>`;
};

/** A recording: a file, which is sent at once, or a link. */
function sourceField(draft, path, value, id) {
  const key = path.join(".");
  const sending = draft.sending[key];
  const set = (params) => change({ params, errors: {}, general: "" });
  return html`<div class="source">
    <label class="button">Choose a file<input class="hidden" type="file" aria-label="Choose a file" @change=${(event) => event.target.files[0] && send(draft, path, event.target.files[0])}></label>
    <input id=${id} aria-label="Link, or the id of an upload" placeholder="or paste a link: https://…" maxlength="2048" .value=${value ?? ""}
      @input=${(event) => set(changed(draft.params, path, event.target.value.trim() || undefined))}></div>
    ${sending ? html`<p class="sending"><progress max="1" value=${sending.share} aria-label="Upload"></progress><small>${sending.text}</small></p>`
      : draft.names?.[value] ? html`<small>${draft.names[value]}, sent</small>` : nothing}`;
}

async function send(draft, path, file) {
  const key = path.join(".");
  const told = (sent, total) => {
    draft.sending[key] = { share: sent / total, text: `${file.name}, ${bytes(sent)} of ${bytes(total)}` };
    update();
  };
  told(0, file.size);
  try {
    const asset = await upload(file, told);
    draft.names = { ...draft.names, [asset]: file.name };
    draft.params = changed(draft.params, path, asset);
  } catch (error) {
    draft.general = error.message;
  }
  delete draft.sending[key];
  update();
}

/** Back from JSON to the form, when it can be read. */
function fromJson(draft) {
  if (draft.json === null) return;
  try {
    const { type, params = {}, priority, tags, run_at: at, ...rest } = JSON.parse(draft.json);
    if (!state.types[type]) throw new Error(`there is no type ${type}`);
    if (Object.keys(rest).length) throw new Error(`${Object.keys(rest).join(" and ")} can only be given here`);
    change({ type, params, extra: { ...draft.extra, priority, tags, run_at: at && draft.extra.run_at }, json: null, general: "" });
  } catch (error) {
    change({ general: `This cannot be shown as a form: ${error.message}.` });
  }
}

async function start(event, open) {
  event.preventDefault();
  const { draft } = state;
  change({ busy: true, errors: {}, general: "" });
  try {
    const job = await create(draft.json === null ? request(draft) : JSON.parse(draft.json));
    update({ draft: null });
    open(job);
  } catch (error) {
    const errors = Object.fromEntries((error.errors ?? []).map(({ field, message }) => [field.startsWith("params.") ? field.slice(7) : `/${field}`, message]));
    change({ busy: false, errors, general: draft.json === null && Object.keys(errors).length ? "" : error.message });
    const shown = Object.keys(errors).some((path) => path.startsWith("/") ? document.querySelector("details.wide") : document.getElementById(`field-${path.replaceAll(".", "-")}`));
    if (!shown) change({ general: error.message });
    setTimeout(() => document.querySelector("[aria-invalid]")?.focus(), 50);
  }
}
