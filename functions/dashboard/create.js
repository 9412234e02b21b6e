// The card that starts a job at once: files dropped, chosen, or a link pasted.

import { call, make, upload } from "./api.js";
import { bytes } from "./format.js";
import { state, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** What is wrong with one file or link, and says nothing of the next. */
const ONE_ALONE = [413, 415, 422];
const form = { sending: null, error: "", over: false };

function change(changes) {
  Object.assign(form, changes);
  update();
}

/** The job types, once: what the forms offer, and the names of the stages. Raises `ApiError`. */
export async function loadTypes() {
  const { items } = state.types ? {} : await call("GET", "/api/job-types");
  if (items) update({ types: Object.fromEntries(items.map((type) => [type.name, type])) });
}

/** Shows the card; `then(jobs, error)` is called with what was started, and what of it was not. */
export function createCard(then) {
  const { sending, error } = form;
  const params = state.types?.ingest.params;
  const presets = params?.properties.preset.oneOf.filter((one) => one.const) ?? [];
  const formats = params?.$defs.OutputSpec.properties.format.enum ?? [];
  return html`<form class="card create" aria-label="New job" @submit=${(event) => paste(event, then)}>
    <label class="drop ${form.over ? "over" : ""}" @dragover=${(event) => hover(event, true)} @dragleave=${(event) => hover(event, false)} @drop=${(event) => drop(event, then)}>
      <input class="hidden" type="file" multiple accept="audio/*,video/*" ?disabled=${sending} @change=${(event) => begin(event.target.form, event.target.files, then)}>
      ${sending ? html`<strong>${sending.name}</strong><progress max="1" value=${sending.share} aria-label="Upload"></progress><small>${sending.text}</small>`
      : html`<strong>Drop a recording here, or choose one</strong><small>Sound or video, up to 20 GB. It starts at once.</small>`}
    </label>
    ${error ? html`<p class="bad" role="alert">${error}</p>` : nothing}
    <div class="options">
      <label>Loudness <select name="preset">${presets.map((one) => html`<option value=${one.const}>${one.title}</option>`)}</select></label>
      <fieldset><legend>Files to make <small>(none chosen: mp3, or mp4 for video)</small></legend>
        ${formats.map((one) => html`<label class="check"><input type="checkbox" name="format" value=${one}>${one}</label>`)}</fieldset>
      <label>Or a link <input name="url" type="url" placeholder="https://…" pattern="https?://.+"></label>
      <button ?disabled=${sending}>Start from the link</button>
    </div>
  </form>`;
}

function hover(event, over) {
  event.preventDefault();
  change({ over });
}

function drop(event, then) {
  hover(event, false);
  if (!form.sending) begin(event.currentTarget.form ?? event.currentTarget.closest("form"), event.dataTransfer.files, then);
}

function paste(event, then) {
  event.preventDefault();
  const url = new FormData(event.target).get("url");
  if (url) begin(event.target, [url], then);
  else change({ error: "Paste a link first, or drop a file." });
}

/** Start one job for each source, with what `options` (the card's form, or null) says. */
export async function begin(options, sources, then) {
  const given = new FormData(options ?? undefined);
  const params = { preset: given.get("preset") ?? undefined };
  if (given.has("format")) params.outputs = given.getAll("format").map((format) => ({ format }));
  change({ sending: { name: "", share: 0, text: "" }, error: "" });
  const jobs = [], wrong = [];
  for (const [at, source] of [...sources].entries()) {
    try {
      jobs.push(await submit(source, params));
    } catch (error) {
      wrong.push(sources.length > 1 ? `${source.name ?? source}: ${error.message}` : error.message);
      if (ONE_ALONE.includes(error.status)) continue;
      if (at + 1 < sources.length) wrong.push(`The ${sources.length - at - 1} after it were not sent; send them again.`);
      break;
    }
  }
  if (wrong.length && jobs.length) wrong.push(`${jobs.length} of ${sources.length} are in the queue.`);
  if (!wrong.length) options?.reset();
  change({ sending: null, error: wrong.join(" ") });
  if (jobs.length) then(jobs, form.error);
  return form.error;
}

async function submit(source, params) {
  if (typeof source === "string") return create({ type: "ingest", params: { ...params, source } });
  const onProgress = (sent, total) => change({ sending: { name: source.name, share: sent / total, text: `${bytes(sent)} of ${bytes(total)}` } });
  return create({ type: "ingest", params: { ...params, source: await upload(source, onProgress) } });
}

/** A new job, whichever type. */
export const create = (request) => make("/api/jobs", request);
