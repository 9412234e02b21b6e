// The list of jobs: which ones, what is ticked, and what is done with all of those at once.

import { call } from "./api.js";
import { ask } from "./dialog.js";
import { BAD, TERMINAL, notBehind, title, words } from "./format.js";
import { overview } from "./overview.js";
import { may } from "./login.js";
import { dot, failure, jobTable, skeleton, verbFor } from "./parts.js";
import { now, state, tell, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

const PAGE = 25;
const ALWAYS = ["running", "pending", "completed", "failed", "dead_letter"];
const WAITS = new Set(["pending", "scheduled", "waiting", "retrying", "waiting_children"]);
/** The first view counts jobs that wait this far, and reads each; the rest is counted once it stands. */
const GLANCE = 100;
const COUNTED = 1000;
const RECOUNT_MS = 15_000;
/** How many that ended badly are grouped by their error. */
const GROUPED = 200;
/** What the two ways to end badly mean, for whoever meets them for the first time. */
const TOLD = {
  failed: "Ended by an error that no second try would mend, such as a broken file. Mend the cause, then retry.",
  dead_letter: "Tried as often as they may be, and failed each time. Mend the cause, then retry.",
};
const SPANS = { "": "Any time", 3600: "Last hour", 86400: "Last 24 h", 604800: "Last 7 days" };
const FILTERS = ["type", "tag", "text", "within", "parts"];

// --- What it needs

let counted = { window: 0, states: {} };

/** Counts, ages, workers. Raises `ApiError`. */
export async function loadStats() {
  const stats = await call("GET", `/api/stats?count_to=${GLANCE}`);
  const full = Object.entries(stats.states).some(([name, count]) => WAITS.has(name) && count >= GLANCE);
  if (!full) counted = { window: 0, states: {} };
  update({ stats, skew: Date.parse(stats.at) - Date.now(), asOf: Date.parse(stats.at) });
  const window = Math.floor(now() / RECOUNT_MS); // the same for all pages, so that one count serves them
  if (!full || window === counted.window) return;
  counted.window = window;
  counted.states = (await call("GET", `/api/stats?count_to=${COUNTED}`)).states;
  update();
}

/** One page of jobs, and those that ended badly by their error where they are shown. Raises `ApiError`. */
export async function loadList(query) {
  const wanted = new URLSearchParams({ limit: PAGE });
  for (const name of ["status", "type", "tag", "text", "cursor"]) if (query.get(name)) wanted.set(name, query.get(name));
  if (query.get("within")) wanted.set("since", sinceOf(query));
  if (!query.has("parts") && !query.has("status")) wanted.set("parent_id", "none");
  try {
    const [{ items, next_cursor: next }, groups] = await Promise.all([call("GET", `/api/jobs?${wanted}`), loadGroups(wanted)]);
    if (state.route.query === query) update({ list: { items: notBehind(items, state.list.items), next, error: "" }, groups });
  } catch (error) {
    if (error.status) update({ list: { ...state.list, error: error.message } }); // that nobody answers is said above
    throw error;
  }
}

const sinceOf = (query) => new Date(Date.now() + state.skew - 1000 * query.get("within")).toISOString();

/** What was run again is no longer anybody's task. */
async function loadGroups(wanted) {
  if (!(wanted.get("status") in TOLD)) return { all: [], beyond: false };
  const asked = new URLSearchParams(wanted);
  asked.delete("cursor");
  asked.set("limit", GROUPED);
  const { items, next_cursor: beyond } = await call("GET", `/api/jobs?${asked}`);
  const groups = new Map();
  for (const job of items.filter((one) => one.error && !one.retried_as)) groups.set(job.error.code, [...(groups.get(job.error.code) ?? []), job]);
  return { all: [...groups].sort(([, one], [, other]) => other.length - one.length), beyond: Boolean(beyond) };
}

// --- What is drawn

export function listPage(refresh) {
  const [{ items, next, error }, { query }] = [state.list, state.route];
  return html`<main>
    <div class="heading"><h1 tabindex="-1">Jobs</h1>${may("write") ? html`<a class="button primary" href="#/new">New job</a>` : nothing}</div>
    ${overview(refresh)}
    ${tabs(query)}
    ${filters(query)}
    ${error ? failure(error) : nothing}
    ${errorGroups(refresh)}
    ${bulkBar(refresh)}
    ${items === null ? (error ? nothing : skeleton(6)) : items.length ? jobTable(items, refresh, may("write") ? tick : null) : empty(query, next)}
    <nav class="pages" aria-label="Older and newer jobs">
      ${query.has("cursor") ? html`<a href=${listLink(query, { cursor: null })}>← Newest</a>` : html`<span></span>`}
      ${next ? html`<a href=${listLink(query, { cursor: next })}>Older →</a>` : nothing}
    </nav>
  </main>`;
}

function tabs(query) {
  const current = query.get("status");
  const counts = state.stats?.states ?? {};
  const names = state.stats ? Object.keys(counts).filter((name) => counts[name] || ALWAYS.includes(name) || name === current) : ALWAYS;
  const tab = (name, content, told) => html`<a href=${listLink(query, { status: name, cursor: null })} title=${told}
    aria-current=${name === current ? "page" : nothing}>${content}</a>`;
  return html`<nav class="tabs" aria-label="Jobs by state">
    ${tab(null, "All", "Newest first")}
    ${names.map((name) => tab(name, html`${dot(name)}${words(name)} <b>${countOf(name, counts[name])}</b>`,
      TOLD[name] ?? (TERMINAL.has(name) ? "Ended in the last 24 hours" : "Now")))}
    <small>ended: last 24 h</small></nav>`;
}

function countOf(name, count) {
  if (count === undefined) return "";
  if (!WAITS.has(name) || count < GLANCE) return count.toLocaleString("en");
  const more = counted.states[name] ?? 0;
  return more >= COUNTED ? "1,000+" : more > count ? more : `${count}+`;
}

function filters(query) {
  // What the address says now, which may be ahead of what is drawn.
  const go = (changes) => location.assign(listLink(new URLSearchParams(location.hash.split("?")[1]), { ...changes, cursor: null }));
  return html`<form class="filters" role="search" aria-label="Filter the jobs" @submit=${(event) => event.preventDefault()}>
    <input type="search" name="text" placeholder="Name, title or id" aria-label="Name, title or id" maxlength="100" .value=${query.get("text") ?? ""}
      @change=${(event) => go({ text: event.target.value.trim() })}>
    <select name="type" aria-label="Type" @change=${(event) => go({ type: event.target.value })}>
      <option value="">All types</option>
      ${Object.keys(state.types ?? {}).map((name) => html`<option value=${name} ?selected=${name === query.get("type")}>${words(name)}</option>`)}</select>
    <select name="within" aria-label="Created" @change=${(event) => go({ within: event.target.value })}>
      ${Object.entries(SPANS).map(([value, name]) => html`<option value=${value} ?selected=${value === (query.get("within") ?? "")}>${name}</option>`)}</select>
    <input name="tag" placeholder="Tag" aria-label="Tag" maxlength="64" .value=${query.get("tag") ?? ""} @change=${(event) => go({ tag: event.target.value.trim() })}>
    <label class="check"><input type="checkbox" name="parts" ?disabled=${query.has("status")} .checked=${query.has("parts") || query.has("status")}
      @change=${(event) => go({ parts: event.target.checked ? "all" : null })}>Parts of jobs too</label>
    ${FILTERS.some((name) => query.has(name)) ? html`<a href=${listLink(new URLSearchParams(), { status: query.get("status") })}>Clear</a>` : nothing}
  </form>`;
}

function empty(query, next) {
  const filtered = FILTERS.some((name) => query.has(name));
  const [sentence, help] = next ? ["Nothing here yet.", "Only part of the jobs was looked through; go on with Older."]
    : query.has("cursor") ? ["There are no older jobs.", ""]
    : filtered ? ["No job fits.", "Clear the filters to see all."]
    : query.has("status") ? [`No job is ${words(query.get("status")).toLowerCase()}.`, ""]
    : ["No jobs yet.", may("write") ? "Drop a recording anywhere on this page and it appears here." : ""];
  return html`<div class="card empty"><p><strong>${sentence}</strong></p><p>${help}</p></div>`;
}

function listLink(query, changes) {
  const wanted = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) value ? wanted.set(name, value) : wanted.delete(name);
  return `#/${wanted.size ? `?${wanted}` : ""}`;
}

// --- What is ticked, and what is done with it

export function tick(job) {
  if (!state.selected.delete(job.id)) state.selected.add(job.id);
  update();
}

function bulkBar(refresh) {
  const jobs = (state.list.items ?? []).filter((job) => state.selected.has(job.id));
  if (!jobs.length) return nothing;
  const all = jobs.length === state.list.items.length;
  const by = { cancel: jobs.filter((job) => verbFor(job) === "cancel"), retry: jobs.filter((job) => BAD.has(job.status) && !job.retried_as), delete: may("admin") ? jobs.filter((job) => TERMINAL.has(job.status)) : [] };
  return html`<div class="bulk" role="toolbar" aria-label="What to do with the selected jobs"><strong>${jobs.length} selected</strong>
    ${Object.entries(by).map(([verb, fitting]) => (fitting.length ? html`<button @click=${() => askFor(verb, fitting, refresh)}>${words(verb)} ${fitting.length}</button>` : nothing))}
    ${all ? nothing : html`<button class="quiet" @click=${() => update({ selected: new Set(state.list.items.map((job) => job.id)) })}>Select all ${state.list.items.length}</button>`}
    <button class="quiet" @click=${() => update({ selected: new Set() })}>Clear</button></div>`;
}

function errorGroups(refresh) {
  const { all, beyond } = state.groups;
  const status = state.route.query.get("status");
  if (!all.length) return nothing;
  return html`<section class="card groups" aria-label="By error">
    <h2>By error <small>${beyond ? `of the newest ${GROUPED}` : ""}</small></h2><p class="quiet">${TOLD[status]}</p>
    <ul>${all.map(([code, jobs]) => html`<li><b>${jobs.length}</b><span><code>${code}</code><small>${jobs[0].error.message}</small></span>
      ${may("write") ? html`<button @click=${() => askForAll(code, jobs, refresh)}>Retry ${beyond ? "all" : jobs.length}</button>` : nothing}
      ${may("admin") ? html`<button class="quiet" @click=${() => askFor("delete", jobs, refresh)}>Delete ${jobs.length}</button>` : nothing}</li>`)}</ul></section>`;
}

/** Every job that ended by one error, however many: the server takes them by filter, each once. */
function askForAll(code, jobs, refresh) {
  const { query } = state.route;
  const body = { status: query.get("status"), error: code };
  for (const name of ["type", "tag", "text"]) if (query.get(name)) body[name] = query.get(name);
  if (query.get("within")) body.since = sinceOf(query);
  const what = jobs.length === 1 ? title(jobs[0]) : `${jobs.length} jobs`;
  const [question, sentence] = state.groups.beyond
    ? [`Retry all jobs that ended with ${code}?`, `They are ${jobs.length} of the newest ${GROUPED}, and the older ones too. Each begins again as a new job.`]
    : [`Retry ${what}?`, "Each begins again as a new job."];
  ask(question, sentence, state.groups.beyond ? "Retry all" : `Retry ${what}`, () => retryAll(body, refresh));
}

async function retryAll(body, refresh) {
  let [retried, cursor] = [0, null];
  try {
    do {
      const done = await call("POST", "/api/jobs/retry", { ...body, ...(cursor ? { cursor } : {}) }, { patient: true });
      retried += done.retried;
      cursor = done.next_cursor;
      tell(`Retry: ${retried} in the queue again${cursor ? ", going on" : ""}.`);
    } while (cursor);
  } catch (error) {
    tell(`${retried ? `${retried} are in the queue again. ` : ""}${error.message}`);
  }
  refresh();
}

const WORDS = {
  cancel: ["Cancel", "What they have done so far is lost."],
  retry: ["Retry", "Each begins again as a new job."],
  delete: ["Delete", "Their history and finished files go with them, for good."],
};

export function askFor(verb, jobs, then) {
  const [word, sentence] = WORDS[verb];
  const what = jobs.length === 1 ? title(jobs[0]) : `${jobs.length} jobs`;
  ask(`${word} ${what}?`, sentence, `${word} ${what}`, () => runAll(verb, jobs, then));
}

const REQUESTS = {
  cancel: (id) => ["POST", `/api/jobs/${id}/cancel`],
  retry: (id) => ["POST", `/api/jobs/${id}/retry`],
  delete: (id) => ["DELETE", `/api/jobs/${id}?purge=true`],
};

/** A few at a time; when the server asks for patience, after that; what is refused is said once, at the end. */
async function runAll(verb, jobs, then) {
  const queue = [...jobs];
  const refused = [];
  const work = async () => {
    for (let job; (job = queue.shift()); ) {
      try {
        await call(...REQUESTS[verb](job.id), null, { patient: true });
        state.selected.delete(job.id);
      } catch (error) {
        refused.push(error.message);
      }
      tell(`${words(verb)}: ${jobs.length - queue.length - refused.length} of ${jobs.length}.`);
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  tell(`${words(verb)}: ${jobs.length - refused.length} of ${jobs.length} done.${refused.length ? ` ${refused[0]}` : ""}`);
  then();
}
