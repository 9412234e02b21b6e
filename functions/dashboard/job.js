// The page of one job: what it is doing, what it made, and what it said.

import { call, history } from "./api.js";
import { BAD, TERMINAL, curl, notBehind, number, title, words } from "./format.js";
import { graph, phases } from "./family.js";
import { may } from "./login.js";
import { lifeCard, noteSpeed } from "./life.js";
import { askFor } from "./list.js";
import { listenCard, tracks } from "./listen.js";
import { addLines, logCard } from "./log.js";
import { saidCard } from "./said.js";
import { actions, dot, failure, section, skeleton } from "./parts.js";
import { copy, state, update } from "./state.js";
import { keyed } from "./vendor/lit-html/directives/keyed.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Read the job, its new lines, its children, and its outputs once they are there. Raises `ApiError`. */
export async function loadJob(id) {
  if (state.job?.id !== id) {
    state.job = { id, view: null, error: "", lines: [], read: 0, children: [], outputs: [], source: null, peaks: null, playing: "", matched: null, pace: null, filter: { level: "debug", text: "" } };
  }
  const [shown, path] = [state.job, `/api/jobs/${id}`];
  try {
    const [view, lines] = await Promise.all([call("GET", path), history(id, shown.read)]);
    addLines(shown, lines);
    notBehind([view], [shown.view].filter(Boolean));
    Object.assign(shown, { view, error: "", read: lines.at(-1)?.id ?? shown.read });
    noteSpeed(shown, view);
    if (view.children?.total) shown.children = notBehind((await call("GET", `${path}/children`)).items, shown.children);
    if (view.outputs.length && !shown.outputs.length) await loadOutputs(shown, path);
  } catch (error) {
    if (error.status) shown.error = error.message; // that nobody answers is said above
    throw error;
  } finally {
    update();
  }
}

async function loadOutputs(shown, path) {
  const { source } = shown.view.params;
  const [{ items }, asset] = await Promise.all([
    call("GET", `${path}/outputs`),
    // An upload may be gone, or a link, which this page may not reach: then there is nothing to compare with.
    typeof source === "string" && !/^https?:/.test(source) ? call("GET", `/api/assets/${encodeURIComponent(source)}`).catch(() => null) : null,
  ]);
  Object.assign(shown, { outputs: items, source: asset?.url ? asset : null });
  shown.playing = tracks(shown)[0]?.name;
  const peaks = items.find((output) => output.name === "peaks.json");
  // Without its waveform the player stands alone, and works.
  if (peaks) shown.peaks = await fetch(peaks.url).then((answer) => answer.json()).catch(() => null);
}

/** The page; `then` receives the job that came of a cancel or a retry. */
export function jobPage(then) {
  const { view: job, error } = state.job ?? {};
  if (!job) return html`<main>${back()}${error ? failure(error) : [skeleton(2), skeleton(5)]}</main>`;
  return html`<main class="job">
    ${back(job.parent_id)}
    <div class="heading"><h1 tabindex="-1">${dot(job.cancelling ? "retrying" : job.status)} ${title(job)}</h1><div class="buttons">${tools(job)}${actions(job, then)}</div></div>
    <p class="quiet">${words(job.status)} · ${job.type} · <button class="inline" title="Copy the id" @click=${() => copy(job.id, "The id")}><code>${job.id}</code></button>${
      job.tags.map((tag) => html` · <a href="#/?tag=${encodeURIComponent(tag)}">${tag}</a>`)}${
      job.retry_of ? html` · <a href="#/jobs/${job.retry_of}">the try before</a>` : nothing}${
      job.retried_as ? html` · <a href="#/jobs/${job.retried_as}">run again as</a>` : nothing}${
      job.session_id ? html` · <a href="#/sessions/${job.session_id}">its session</a>` : nothing}</p>
    ${error ? failure(error) : nothing}
    ${keyed(job.id, [errorCard(job), lifeCard(job), cards(job, then), logCard(), detailsCard(job)])}
  </main>`;
}

/** Once there is a result it comes first; until then what is being done. */
function cards(job, then) {
  const [work, made] = [[saidCard(job), partsCard(then)], [listenCard(), loudnessCard(job), findingsCard(job)]];
  return job.status === "completed" ? [made, work] : [work, made];
}

const back = (parent) => html`<p class="back"><a href="#/">← All jobs</a>${
  parent ? html`<a href="#/jobs/${parent}">↑ The job it is part of</a>` : nothing}</p>`;

const tools = (job) => html`
  <button class="quiet" @click=${() => copy(curl({ type: job.type, params: job.params }), "The curl command")}>Copy as curl</button>
  ${TERMINAL.has(job.status) && may("admin") ? html`<button class="quiet" @click=${() => askFor("delete", [job], () => location.assign("#/"))}>Delete</button>` : nothing}
  ${TERMINAL.has(job.status) && may("write") ? html`<a class="button" href="#/new?from=${job.id}">${BAD.has(job.status) ? "Retry with changes" : "Again, with changes"}</a>` : nothing}`;

/** Whose fault it is, and what to do, by the first word of the error's code. */
const CAUSES = {
  bad_input: ["The file", "Export the recording again or take another one, then start a new job. The same file would end the same way, so it was not tried again."],
  unsupported: ["The file's format", "Save it in another format, such as WAV, MP3 or MP4, then start a new job."],
  network: ["The link, or the way to it", "Open the link in a private window of your browser. When it opens there, retry; else correct it with Retry with changes."],
  timeout: ["Time", "It took longer than it may. Retry when the machine has less to do, or split the recording."],
  worker_lost: ["The machine that worked on it", "Nothing is wrong with your file. Retry; if it happens again, the machine may be short of memory."],
};
const PART = ["One of its parts", "Open the part below that ended badly: it says what is wrong there. Retry runs it again and keeps the parts that are done."];
const OURS = ["Spool, not you", "Retry when the cause is mended; if it stays, give the job's id and the log below to whoever runs this Spool."];

function errorCard({ status, error, attempt }) {
  if (!error || error.kind === "cancelled" || status === "completed") return nothing;
  const [whose, advice] = CAUSES[error.kind] ?? CAUSES[error.code.split(".")[0]] ?? (error.code.startsWith("child_") ? PART : OURS);
  const tries = attempt > 1 ? `after ${attempt} attempts` : "at the first attempt";
  return html`<section class="card problem" aria-label="What went wrong"><h2>${error.message}</h2>
    <dl><div><dt>Where the cause is</dt><dd>${whose}</dd></div>
      <div><dt>What to do</dt><dd>${TERMINAL.has(status) ? advice : "Nothing: it is tried again by itself."}</dd></div></dl>
    <p class="quiet"><code>${error.code}</code>${error.stage ? ` while ${error.stage}` : ""}, ${tries}</p></section>`;
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
  return section("Loudness", html`${result.target_lufs == null ? nothing : html`<p class="quiet">Target ${number(result.target_lufs)} LUFS, true peak at most ${number(result.ceiling_dbtp)} dBTP;
      measured in the finished files.</p>`}
    <div class="scroll" tabindex="0" role="group" aria-label="Loudness before and after"><table class="measures">
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

/** Its parts: a small picture of what comes after what, then each phase as a list. */
function partsCard(then) {
  const { children } = state.job;
  return children.length ? [section("Parts", graph(children)), phases(children, then)] : nothing;
}

const detailsCard = (job) => section("Parameters", html`<pre tabindex="0">${JSON.stringify(job.params, null, 2)}</pre>
  ${job.result ? html`<details><summary>Result as JSON</summary><pre tabindex="0">${JSON.stringify(job.result, null, 2)}</pre></details>` : nothing}`);
