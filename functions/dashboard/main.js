// The dashboard: start reading here. A route, what it needs from the API, what is drawn, and how it stays live.

import { call } from "./api.js";
import { createCard, loadTypes } from "./create.js";
import { title, words } from "./format.js";
import { addLines, followLog, jobPage, loadJob } from "./job.js";
import { follow } from "./live.js";
import { dot, failure, header, jobTable, notice, tokenForm } from "./parts.js";
import { onUpdate, state, update } from "./state.js";
import { html, nothing, render } from "./vendor/lit-html/lit-html.js";

const PAGE = 25;
const ALWAYS = ["running", "pending", "completed", "failed"];

// --- Where we are: #/, #/?status=failed&cursor=…, #/jobs/ID

function readRoute() {
  const [path, query] = location.hash.slice(1).split("?");
  state.route = { id: path.match(/^\/jobs\/([\w-]+)$/)?.[1], query: new URLSearchParams(query) };
  state.list = { items: null, next: null, error: "" };
  update();
}

let arrived = false;

function go() {
  readRoute();
  arrived = true;
  refresh();
}

const open = (job) => location.assign(`#/jobs/${job.id}`);

// --- What it needs

let reading = null;
let next = null;

/** Read everything that is shown; calls during a read share one more. Resolves to "ok", "unreachable" or "locked". */
function refresh() {
  if (reading) return (next ??= reading.then(() => ((next = null), refresh())));
  return (reading = load().finally(() => (reading = null)));
}

async function load() {
  try {
    await Promise.all([loadStats(), loadTypes(), state.route.id ? loadJob(state.route.id) : loadList(state.route.query)]);
    return "ok";
  } catch (error) {
    const link = { 0: "unreachable", 401: "locked" }[error.status];
    if (link) update({ link });
    return link ?? "ok";
  }
}

async function loadStats() {
  const stats = await call("GET", "/api/stats");
  update({ stats, skew: Date.parse(stats.at) - Date.now() });
}

/** The top level, or all jobs in one state. */
async function loadList(query) {
  const wanted = new URLSearchParams([...query, ["limit", PAGE], ...(query.has("status") ? [] : [["parent_id", "none"]])]);
  try {
    const { items, next_cursor: next } = await call("GET", `/api/jobs?${wanted}`);
    if (state.route.query === query) update({ list: { items, next, error: "" } });
  } catch (error) {
    update({ list: { ...state.list, error: error.message } });
    throw error;
  }
}

// --- What is drawn

function page() {
  const main = state.link === "locked" ? html`<main>${tokenForm()}</main>`
    : state.route.id ? jobPage((job) => (job.id === state.route.id ? refresh() : open(job)))
    : listPage(state.list, state.route.query);
  return [header(), main, notice()];
}

const listPage = ({ items, next, error }, query) => html`<main>
  <h1 class="hidden" tabindex="-1">Jobs</h1>
  ${createCard((jobs) => (jobs.length === 1 ? open(jobs[0]) : refresh()))}
  ${tabs(query.get("status"))}
  ${error ? failure(error) : nothing}
  ${items === null ? html`<p class="empty">${error ? nothing : "Loading the jobs…"}</p>` : items.length ? jobTable(items, refresh) : empty(query)}
  <nav class="pages" aria-label="Older and newer jobs">
    ${query.has("cursor") ? html`<a href=${listLink(query, null)}>← Newest</a>` : html`<span></span>`}
    ${next ? html`<a href=${listLink(query, next)}>Older →</a>` : nothing}
  </nav>
</main>`;

function tabs(current) {
  const counts = state.stats?.states ?? {};
  const names = Object.keys(counts).filter((name) => counts[name] || ALWAYS.includes(name) || name === current);
  const tab = (name, link, content) => html`<a href=${link} aria-current=${name === current ? "page" : nothing}>${content}</a>`;
  return html`<nav class="tabs" aria-label="Jobs by state; ended ones of the last 24 hours are counted">
    ${tab(null, "#/", "All")}
    ${names.map((name) => tab(name, `#/?status=${name}`, html`${dot(name)}${words(name)} <b>${counts[name]}</b>`))}</nav>`;
}

const empty = (query) => html`<p class="empty">${query.has("cursor") ? "There are no older jobs."
  : query.has("status") ? `No job is ${words(query.get("status")).toLowerCase()}.`
  : "No jobs yet. Drop a recording above and it appears here."}</p>`;

function listLink(query, cursor) {
  const kept = [...query].filter(([name]) => name !== "cursor");
  return `#/?${new URLSearchParams(cursor ? [...kept, ["cursor", cursor]] : kept)}`;
}

function draw() {
  followLog(() => render(page(), document.body));
  const job = state.route.id ? state.job?.view : null;
  const percent = job?.status === "running" && job.progress !== null ? `${Math.floor(job.progress)} % ` : "";
  const heading = arrived && document.querySelector("h1");
  if (heading) {
    arrived = false;
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true });
  }
  document.title = `${job ? percent + title(job) : "Jobs"} · Spool`;
}

// --- How it stays live

let refreshTimer = null;

function onEvent(line) {
  if (state.route.id && state.job?.id === line.job_id) addLines(state.job, [line]);
  update();
  if (line.kind !== "state") return;
  refreshTimer ??= setTimeout(() => {
    refreshTimer = null;
    refresh();
  }, 300);
}

function onJob(changes) {
  const shown = [...(state.list.items ?? []), ...(state.job?.children ?? []), state.job?.view];
  for (const job of shown) if (job?.id === changes.id) Object.assign(job, changes);
  update();
}

onUpdate(draw);
readRoute();
window.addEventListener("hashchange", go);
setInterval(update, 1000); // ages and durations move
follow({ onEvent, onJob, refresh, onLink: (link) => update({ link }) });
