// The card that starts a job: files dropped, chosen, or a link pasted.

import { call, make, upload } from "./api.js";
import { bytes } from "./format.js";
import { state, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

const form = { files: [], sending: null, error: "", over: false };

function change(changes) {
  Object.assign(form, changes);
  update();
}

/** The job types, once: what the card offers, and the names of the stages. Raises `ApiError`. */
export async function loadTypes() {
  const { items } = state.types ? {} : await call("GET", "/api/job-types");
  if (items) update({ types: Object.fromEntries(items.map((type) => [type.name, type])) });
}

/** Shows the card; `then(jobs)` is called with what was started. */
export function createCard(then) {
  const { files, sending, error } = form;
  const params = state.types?.ingest.params;
  const presets = params?.properties.preset.oneOf ?? [];
  const formats = params?.$defs.OutputSpec.properties.format.enum ?? [];
  return html`<form class="card create" aria-label="New job" @submit=${(event) => start(event, then)}>
    <label class="drop ${form.over ? "over" : ""}" @dragover=${(event) => hover(event, true)} @dragleave=${(event) => hover(event, false)} @drop=${drop}>
      <input class="hidden" type="file" multiple accept="audio/*,video/*" ?disabled=${sending} @change=${(event) => choose(event.target.files)}>
      ${files.length ? html`<strong>${files.map((file) => file.name).join(", ")}</strong>
        <small>${bytes(files.reduce((sum, file) => sum + file.size, 0))}, choose again to change</small>`
      : html`<strong>Drop a recording here, or choose one</strong><small>Sound or video, up to 20 GB</small>`}
    </label>
    <div class="options">
      <label>Or a link <input name="url" type="url" placeholder="https://…" pattern="https?://.+" ?disabled=${files.length}></label>
      <label>Loudness <select name="preset">${presets.map((one) => html`<option value=${one.const}>${one.title}</option>`)}</select></label>
      <fieldset><legend>Files to make <small>(none chosen: mp3, or mp4 for video)</small></legend>
        ${formats.map((one) => html`<label class="check"><input type="checkbox" name="format" value=${one}>${one}</label>`)}</fieldset>
      <button class="primary" ?disabled=${sending}>${sending ? "Sending" : "Start"}</button>
    </div>
    ${sending ? html`<p class="sending"><progress max="1" value=${sending.share} aria-label="Upload"></progress><small>${sending.text}</small></p>` : nothing}
    ${error ? html`<p class="bad" role="alert">${error}</p>` : nothing}
  </form>`;
}

function hover(event, over) {
  event.preventDefault();
  change({ over });
}

function drop(event) {
  hover(event, false);
  if (!form.sending) choose(event.dataTransfer.files);
}

function choose(files) {
  if (files.length) change({ files: [...files], error: "" });
}

async function start(event, then) {
  event.preventDefault();
  const given = new FormData(event.target);
  const params = { preset: given.get("preset") ?? undefined };
  if (given.has("format")) params.outputs = given.getAll("format").map((format) => ({ format }));
  const sources = form.files.length ? form.files : [given.get("url")].filter(Boolean);
  if (!sources.length) return change({ error: "Choose a file or paste a link first." });
  change({ sending: { share: 0, text: "" }, error: "" });
  const jobs = [];
  try {
    for (const source of sources) jobs.push(await submit(source, params));
    event.target.reset();
  } catch (error) {
    form.error = error.message;
  }
  change({ sending: null, files: form.files.slice(jobs.length) }); // what was started is not started twice
  if (jobs.length) then(jobs);
}

async function submit(source, params) {
  if (typeof source === "string") return create({ ...params, source });
  // File names hold spaces and signs of many kinds; the API takes those that print.
  const name = source.name.replace(/\p{Z}/gu, " ").replace(/\p{C}/gu, "");
  const onProgress = (sent, total) => change({ sending: { share: sent / total, text: `${name}, ${bytes(sent)} of ${bytes(total)}` } });
  const asset = await upload(source, name, onProgress);
  return create({ ...params, source: asset });
}

const create = (params) => make("/api/jobs", { type: "ingest", params });
