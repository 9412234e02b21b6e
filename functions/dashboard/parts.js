// Pieces that more than one page shows.

import { call, make } from "./api.js";
import { partsButton } from "./family.js";
import { BAD, TERMINAL, between, duration, moment, progressText, since, span, standing, title, waitText, words } from "./format.js";
import { may, whoAmI } from "./login.js";
import { state, tell } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";

export const dot = (status) => html`<span class="dot ${status}" aria-hidden="true"></span>`;
export const failure = (sentence) => html`<p class="card problem" role="alert">${sentence}</p>`;
export const section = (name, content, look = "") => html`<section class="card ${look}" aria-label=${name}><h2>${name}</h2>${content}</section>`;

/** Grey lines where something is about to be, so that nothing jumps when it comes. */
export const skeleton = (lines) => html`<div class="card skeleton" role="status" aria-label="Loading">
  ${Array.from({ length: lines }, () => html`<span></span>`)}</div>`;

/** One piece per stage: done, moving, to come. The moving one swings while its share is unknown. */
export function bar(job) {
  const parent = job.status === "waiting_children" && job.children?.total;
  if (job.status !== "running" && !parent) return nothing;
  const [index, count] = parent ? [0, 1] : [job.stage_index ?? 0, job.stage_count ?? 1];
  const percent = parent ? (job.progress ?? (100 * job.children.done) / job.children.total) : (job.progress ?? nothing);
  const pieces = Array.from({ length: count }, (_, piece) => (piece < index ? 100 : piece > index ? 0 : percent));
  return html`<span class="bar" role="progressbar" aria-label=${title(job)} aria-valuenow=${percent}
    aria-valuetext=${`${standing(job)} ${parent ? "" : progressText(job)}`}>
    ${pieces.map((value) => html`<progress aria-hidden="true" max="100" value=${value}></progress>`)}</span>`;
}

/** What can be done with a job now: cancel, retry, or nothing. */
export const verbFor = (job) => (!may("write") ? null : BAD.has(job.status) ? "retry" : TERMINAL.has(job.status) || job.cancelling ? null : "cancel");

/** Cancel or retry, whichever makes sense; `then` receives the job that came of it. */
export function actions(job, then) {
  const verb = verbFor(job);
  return !verb ? nothing : html`<button type="button" class=${verb === "cancel" ? "quiet" : ""} aria-label="${words(verb)} ${title(job)}"
    @click=${(event) => act(event.currentTarget, job, verb, then)}>${words(verb)}</button>`;
}

async function act(button, job, verb, then) {
  button.disabled = true;
  try {
    const path = `/api/jobs/${job.id}/${verb}`;
    const made = await (verb === "retry" ? make(path) : call("POST", path));
    if (verb === "retry") tell(`${title(job)} is in the queue again.`);
    then(made);
  } catch (error) {
    tell(error.message);
  } finally {
    button.disabled = false;
  }
}

/** Rows of jobs; `then` as for `actions`; with `onTick(job)` each row has a box to tick. */
export const jobTable = (jobs, then, onTick = null) => html`<table class="jobs ${onTick ? "ticked" : ""}">
  <thead><tr>${onTick ? html`<th class="tick"><span class="hidden">Select</span></th>` : nothing}<th class="what">Job</th><th>Progress</th>
    <th class="figure">Age</th><th class="figure">Ran</th><th class="figure">Attempt</th><th class="steps"><span class="hidden">Steps</span></th></tr></thead>
  <tbody>${repeat(jobs, (job) => job.id, (job) => jobRow(job, then, onTick))}</tbody>
</table>`;

function jobRow(job, then, onTick) {
  const ran = between(job.started_at, job.completed_at);
  const about = [words(job.status), job.type, job.phase, /\D/.test(job.child_key ?? "") ? job.child_key : "", ...job.tags];
  const moving = job.status === "running" && !job.cancelling;
  return html`<tr data-id=${job.id}>
    ${onTick ? html`<td class="tick"><input type="checkbox" aria-label="Select ${title(job)}" .checked=${state.selected.has(job.id)} @change=${() => onTick(job)}></td>` : nothing}
    <td class="name"><div>${dot(job.cancelling ? "retrying" : job.status)}
      <span><a href="#/jobs/${job.id}">${title(job)}</a><small>${about.filter(Boolean).join(" · ")}</small></span></div></td>
    <td class="standing">
      <div><span class=${["failed", "dead_letter"].includes(job.status) ? "bad" : ""} title=${standing(job)}>${standing(job)}</span>
        ${moving ? html`<small>${progressText(job)}</small>` : nothing}
        ${job.status === "pending" ? html`<small>${waitText(job)}</small>` : nothing}
        ${partsButton({ ...job, name: title(job) }, then)}</div>${bar(job)}</td>
    <td class="figure" data-label="Age"><time datetime=${job.created_at} title=${moment(job.created_at)}>${span(since(job.created_at))}</time></td>
    <td class="figure" data-label="Ran">${ran === null ? "–" : duration(ran)}</td>
    <td class="figure" data-label="Attempt">${job.attempt || "–"}</td>
    <td class="steps">${job.retried_as ? html`<a href="#/jobs/${job.retried_as}">Run again</a>` : actions(job, then)}</td>
  </tr>`;
}

const LINKS = {
  connecting: "Connecting", live: "Live", polling: "Updates every 2 s", unreachable: "Not connected", locked: "Login needed",
};
const ICON = new URL("icon.svg", import.meta.url).pathname;
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hourCycle: "h23" });

export const header = (pause) => html`<header class="top">
  <a class="brand" href="/"><img src=${ICON} alt="" width="26" height="26"><span>Spool</span></a>
  <nav aria-label="Pages"><a href="/dashboard#/" aria-current=${state.route.page === "list" ? "page" : nothing}>Jobs</a>${may("write") ? html`<a href="/dashboard#/new"
    aria-current=${state.route.page === "new" ? "page" : nothing}>New job</a>` : nothing}${Object.values(state.types ?? {}).some(({ kind }) => kind === "agent") ? html`<a href="/dashboard#/sessions"
    aria-current=${/^(session|beginning)/.test(state.route.page) ? "page" : nothing}>Sessions</a>` : nothing}<a class="aside" href="/docs">API</a></nav>
  <span class="link ${state.paused ? "paused" : state.link}"><span role="status">${state.paused ? "Paused" : LINKS[state.link]}</span>
    ${state.asOf && (state.paused || state.link === "unreachable") ? html`<small>as of ${clock(state.asOf)}</small>` : nothing}</span>
  ${whoAmI()}
  ${pause && state.link !== "locked" ? html`<button class="quiet icon" aria-pressed=${state.paused} @click=${pause}>${state.paused ? "Resume" : "Pause"}</button>` : nothing}
  <button class="quiet icon" aria-label="Light or dark" title="Light or dark" @click=${turn}>◐</button>
</header>
${state.link === "unreachable" ? html`<p class="stale" role="alert">The server does not answer${
  state.asOf ? html`; what you see is as of ${clock(state.asOf)}` : nothing}. This page goes on by itself when it is back.</p>` : nothing}`;

export const notice = () => html`<div class="notice" role="status">${state.notice ? html`<p>${state.notice}</p>` : nothing}</div>`;

// --- Light and dark: as the system has it, until somebody says otherwise

const root = document.documentElement;
const keptTheme = () => localStorage.getItem("spool.theme");
if (keptTheme()) root.dataset.theme = keptTheme();

function turn() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("spool.theme", root.dataset.theme);
}
