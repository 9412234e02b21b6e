// The page of one job: what it is doing, what it made, and what it said.

import { call, history } from "./api.js";
import { BAD, TERMINAL, between, bytes, duration, moment, number, progressText, since, span, standing, title, words } from "./format.js";
import { actions, bar, dot, failure, jobTable } from "./parts.js";
import { state, update } from "./state.js";
import { keyed } from "./vendor/lit-html/directives/keyed.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import "./waveform.js";

/** Lines kept on the page. */
const LOG_LINES = 2000;
const PHASES = ["pre", "core", "post"];

/** Read the job, its new lines, its children, and its outputs once they are there. Raises `ApiError`. */
export async function loadJob(id) {
  if (state.job?.id !== id) state.job = { id, view: null, error: "", lines: [], read: 0, children: [], outputs: [], peaks: null, playing: "" };
  const [shown, path] = [state.job, `/api/jobs/${id}`];
  try {
    const [view, lines] = await Promise.all([call("GET", path), history(id, shown.read)]);
    addLines(shown, lines);
    Object.assign(shown, { view, error: "", read: lines.at(-1)?.id ?? shown.read });
    if (view.children?.total) shown.children = (await call("GET", `${path}/children`)).items;
    if (view.outputs.length && !shown.outputs.length) await loadOutputs(shown, path);
  } catch (error) {
    shown.error = error.message;
    throw error;
  } finally {
    update();
  }
}

async function loadOutputs(shown, path) {
  shown.outputs = (await call("GET", `${path}/outputs`)).items;
  shown.playing = shown.outputs.find(playable)?.name;
  const peaks = shown.outputs.find((output) => output.name === "peaks.json");
  // Without its waveform the player stands alone, and works.
  if (peaks) shown.peaks = await fetch(peaks.url).then((answer) => answer.json()).catch(() => null);
}

/** Lines of history, from wherever they came; each is kept once, in order. */
export function addLines(shown, lines) {
  const known = new Map([...shown.lines, ...lines].map((line) => [line.id, line]));
  shown.lines = [...known.values()].sort((one, other) => one.id - other.id).slice(-LOG_LINES);
}

const playable = (output) => /^(audio|video)\//.test(output.content_type);
/** Only this server shows pages, each in a sandbox; other storage has them saved. */
const isPage = ({ content_type: type, url }) => type.startsWith("text/html") && new URL(url, location.href).origin === location.origin;
const section = (name, content) => html`<section class="card" aria-label=${name}><h2>${name}</h2>${content}</section>`;

/** The page; `then` receives the job that came of a cancel or a retry. */
export function jobPage(then) {
  const { view: job, error } = state.job ?? {};
  if (!job) return html`<main>${back()}${error ? failure(error) : html`<p class="quiet">Loading the job…</p>`}</main>`;
  return html`<main class="job">
    ${back(job.parent_id)}
    <div class="heading"><h1 tabindex="-1">${dot(job.cancelling ? "retrying" : job.status)} ${title(job)}</h1>${actions(job, then)}</div>
    <p class="quiet">${words(job.status)} · ${job.type} · <code>${job.id}</code>${
      job.retry_of ? html` · <a href="#/jobs/${job.retry_of}">the try before</a>` : nothing}</p>
    ${error ? failure(error) : nothing}
    ${keyed(job.id, [errorCard(job), lifeCard(job), outputsCard(), loudnessCard(job), findingsCard(job), childrenCards(then), logCard(), detailsCard(job)])}
  </main>`;
}

const back = (parent) => html`<p class="back"><a href="#/">← All jobs</a>${
  parent ? html`<a href="#/jobs/${parent}">↑ The job it is part of</a>` : nothing}</p>`;

function errorCard({ status, error, attempt }) {
  if (!error || error.kind === "cancelled" || status === "completed") return nothing;
  const advice = !TERMINAL.has(status) ? "Nothing to do: it is tried again by itself."
    : error.kind === "permanent" ? "The same source would end the same way, so it was not tried again. Mend the cause, then start a new job."
    : `It was tried ${attempt === 1 ? "once" : `${attempt} times`}. When the cause is mended, Retry begins it again as a new job.`;
  return html`<section class="card problem" aria-label="What went wrong"><h2>${error.message}</h2><p>${advice}</p>
    <p class="quiet"><code>${error.code}</code>${error.stage ? ` while ${error.stage}` : ""}, attempt ${error.attempt}</p></section>`;
}

function lifeCard(job) {
  const spent = stageTimes(job);
  const moving = job.status === "running" ? job.stage_index : null;
  const ran = between(job.started_at, job.completed_at);
  const facts = {
    Created: `${span(since(job.created_at))} ago`,
    Waited: duration(between(job.created_at, job.started_at ?? job.completed_at)),
    Ran: ran === null ? "–" : duration(ran),
    Attempt: job.attempt || "–",
    Priority: job.priority,
  };
  return html`<section class="card life" aria-label="Progress">
    <div class="heading"><strong>${BAD.has(job.status) ? words(job.status) : standing(job)}</strong>
      <span class="quiet">${job.status === "running" ? progressText(job) : nothing}</span></div>
    ${bar(job)}
    <ol class="stages">${state.types?.[job.type]?.stages.map((name, index) => html`
      <li class=${index === moving ? "moving" : spent[index] === undefined ? "" : "reached"} aria-current=${index === moving ? "step" : nothing}>
        ${words(name)}<small>${spent[index] === undefined ? "–" : spent[index] < 1000 ? "< 1 s" : span(spent[index])}</small></li>`)}</ol>
    <dl class="facts">${Object.entries(facts).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
  </section>`;
}

/** Milliseconds in each stage of the latest attempt, by index; lines are timed when they are written, to about a second. */
function stageTimes(job) {
  const lines = state.job.lines.filter((line) => line.attempt === job.attempt && ["stage", "state"].includes(line.kind));
  const spent = [];
  for (const [place, line] of lines.entries()) {
    if (line.kind === "stage") spent[line.data.index] = between(line.at, lines[place + 1]?.at ?? job.completed_at);
  }
  return spent;
}

function outputsCard() {
  const { outputs, playing, peaks } = state.job;
  const current = outputs.find((output) => output.name === playing);
  return !outputs.length ? nothing : section("Finished files", html`
    ${current ? player(current, outputs.find((output) => output.content_type.startsWith("image/"))) : nothing}
    ${peaks && current ? html`<spool-waveform .peaks=${peaks} .player=${document.querySelector(".player")}></spool-waveform>` : nothing}
    <ul class="outputs">${outputs.map((output) => html`<li>
      <strong>${output.name}</strong><small>${output.content_type} · ${bytes(output.size_bytes)}</small>
      ${playable(output) && output !== current
        ? html`<button class="quiet" aria-label="Play ${output.name}" @click=${() => play(output.name)}>Play</button>` : nothing}
      ${isPage(output) ? html`<a href=${output.url} target="_blank" rel="noopener">Open<span class="hidden"> ${output.name}</span></a>` : nothing}
      <a href=${output.url} download>Download<span class="hidden"> ${output.name}</span></a></li>`)}</ul>`);
}

/** Drawn again once it knows its length, so that the waveform finds it. */
const player = ({ name, url, content_type: type }, poster) => keyed(name, type.startsWith("video/")
  ? html`<video class="player" controls playsinline preload="metadata" src=${url} poster=${poster?.url ?? nothing} @loadedmetadata=${() => update()}></video>`
  : html`<audio class="player" controls preload="metadata" src=${url} @loadedmetadata=${() => update()}></audio>`);

function play(name) {
  state.job.playing = name;
  update();
}

const MEASURES = [
  ["integrated_lufs", "Loudness", "LUFS", 2],
  ["true_peak_dbtp", "True peak", "dBTP", 2],
  ["loudness_range_lu", "Loudness range", "LU", 1],
  ["max_short_term_lufs", "Loudest 3 s", "LUFS", 1],
  ["noise_floor_lufs", "Noise floor", "LUFS", 1],
  ["clipped_samples", "Clipped samples", "", 0],
];

function loudnessCard({ result }) {
  if (!result?.before || !result.after) return nothing;
  const columns = [["Before", result.before], ...Object.entries(result.after)];
  const cell = (value, digits) => html`<td>${value == null ? "–" : number(value, digits)}</td>`;
  return section("Loudness", html`<p class="quiet">Target ${number(result.target_lufs)} LUFS, true peak at most ${number(result.ceiling_dbtp)} dBTP;
      measured in the finished files.</p>
    <div class="scroll"><table class="measures">
      <thead><tr><td></td>${columns.map(([name]) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>${MEASURES.map(([key, name, unit, digits]) => html`<tr><th scope="row">${name} <small>${unit}</small></th>
        ${columns.map(([, facts]) => cell(facts[key], digits))}</tr>`)}</tbody>
    </table></div>
    ${(result.warnings ?? []).map((warning) => html`<p class="warning">${warning}</p>`)}`);
}

/** What a report found, problems first. */
function findingsCard({ result }) {
  if (!result?.findings) return nothing;
  const said = result.findings.map(({ weight, message }) => html`<p class=${weight === "problem" ? "bad" : "warning"}>${message}</p>`);
  return section("What to do", said.length ? said : html`<p class="quiet">Nothing stands out.</p>`);
}

function childrenCards(then) {
  const phases = PHASES.map((phase) => [phase, state.job.children.filter((child) => child.phase === phase)]);
  return phases.map(([phase, jobs]) => (!jobs.length ? nothing : html`<section aria-label="Parts: ${phase}">
    <h2>${words(phase)} <small>${jobs.length}</small></h2>${jobTable(jobs, then)}</section>`));
}

const logCard = () => section("Log", html`<ol class="log" tabindex="0" aria-label="Lines, oldest first">
  ${repeat(state.job.lines, (line) => line.id, (line) => html`<li class=${line.level}>
    <time datetime=${line.at} title=${moment(line.at)}>${new Date(line.at).toLocaleTimeString([], { hourCycle: "h23" })}</time>
    ${line.kind === "log" && line.data ? html`<details><summary>${line.message}</summary><small>${JSON.stringify(line.data, null, 1)}</small></details>`
      : html`<span>${lineText(line)}</span>`}</li>`)}</ol>`);

function lineText({ kind, message, data, attempt }) {
  if (kind === "stage") return `${words(message)}, stage ${data.index + 1} of ${data.count}`;
  if (kind !== "state") return message;
  return [words(message), attempt > 1 ? `, attempt ${attempt}` : "", data?.error ? `: ${data.error.message}` : ""].join("");
}

const detailsCard = (job) => section("Parameters", html`<pre>${JSON.stringify(job.params, null, 2)}</pre>
  ${job.result ? html`<details><summary>Result as JSON</summary><pre>${JSON.stringify(job.result, null, 2)}</pre></details>` : nothing}`);

/** Draw, and keep the log at its end unless it was scrolled up. */
export function followLog(draw) {
  const before = document.querySelector(".log");
  const atEnd = !before || before.scrollHeight - before.scrollTop - before.clientHeight < 40;
  draw();
  const log = document.querySelector(".log");
  if (log && atEnd) log.scrollTop = log.scrollHeight;
}
