// The dashboard: start reading here. A route, what it needs from the API, what is drawn, and how it stays live.

import { begin, loadTypes } from "./create.js";
import { dialogView, settleDialog } from "./dialog.js";
import { TERMINAL, title } from "./format.js";
import { jobPage, loadJob } from "./job.js";
import { listen } from "./keys.js";
import { noteSpeed } from "./life.js";
import { listPage, loadList, loadStats } from "./list.js";
import { follow } from "./live.js";
import { addLines, followEnds } from "./log.js";
import { loadMe, loginForm, may } from "./login.js";
import { loadDraft, newPage } from "./new.js";
import { header, notice } from "./parts.js";
import { beginningPage, loadBeginning, loadSession, loadSessions, sessionPage, sessionTitle, sessionsPage } from "./sessions.js";
import { now, onUpdate, state, tell, update } from "./state.js";
import { html, nothing, render } from "./vendor/lit-html/lit-html.js";

// --- Where we are: #/, #/?status=failed&cursor=…, #/new?type=…, #/jobs/ID, #/sessions, #/sessions/new, #/sessions/ID

const NAMED = { "/new": "new", "/sessions": "sessions", "/sessions/new": "beginning" };
let arrived = false;

function readRoute() {
  const [path, query] = location.hash.slice(1).split("?");
  const before = state.route;
  const [, kind, id = null] = path.match(/^\/(jobs|sessions)\/([\w-]+)$/) ?? [];
  const page = NAMED[path] ?? { jobs: "job", sessions: "session" }[kind] ?? "list";
  state.route = { page, id: NAMED[path] ? null : id, query: new URLSearchParams(query) };
  // Another filter keeps the rows until the new ones are there, so that the page does not jump.
  if (before.page !== state.route.page) Object.assign(state, { list: { items: null, next: null, error: "" }, draft: null, sessions: { items: null, next: null }, beginning: null });
  Object.assign(state, { selected: new Set(), dialog: null });
  if (state.route.page !== before.page || state.route.id !== before.id) arrived = true;
  update();
}

function go() {
  readRoute();
  refresh();
}

const open = (job) => location.assign(`#/jobs/${job.id}`);
const openSession = (session) => location.assign(`#/sessions/${session.id}`);
const openAll = (jobs) => (jobs.length === 1 ? open(jobs[0]) : location.assign("#/"));

// --- What it needs

let reading = null;
let next = null;

/** Read everything that is shown; calls during a read share one more. Resolves to "ok", "unreachable" or "locked". */
function refresh() {
  if (reading) return (next ??= reading.then(() => ((next = null), refresh())));
  return (reading = load().finally(() => (reading = null)));
}

const LOADS = {
  list: ({ query }) => [loadStats(), loadList(query)],
  job: ({ id }) => [loadJob(id), state.stats ? null : loadStats()], // the counts bring the server's clock
  new: ({ query }) => [loadDraft(query)],
  sessions: ({ query }) => [loadSessions(query), state.stats ? null : loadStats()],
  session: ({ id }) => [loadSession(id), state.stats ? null : loadStats()],
  beginning: () => [loadTypes().then(loadBeginning)],
};

async function load() {
  try {
    await loadMe();
    if (!may("read")) return lock();
    await Promise.all([loadTypes(), ...LOADS[state.route.page](state.route), state.dialog?.load?.()]);
    update({ asOf: now() });
    return "ok";
  } catch (error) {
    if (error.status === 401) return lock(null); // the login has ended, or the key was revoked
    if (error.status === 0) update({ link: "unreachable" });
    else if (!error.status) throw error;
    return error.status === 0 ? "unreachable" : "ok";
  }
}

function lock(me = state.me) {
  update({ me, link: "locked" });
  return "locked";
}

// --- What is drawn

const PAGES = {
  list: () => listPage(refresh),
  job: () => jobPage((job) => (job.id === state.route.id ? refresh() : open(job))),
  new: () => newPage(open),
  sessions: () => sessionsPage(refresh),
  session: () => sessionPage(refresh),
  beginning: () => beginningPage(openSession),
};

function page() {
  const main = state.link === "locked" ? html`<main class="narrow">${loginForm()}</main>` : PAGES[state.route.page]();
  return [header(pause), main, notice(), dialogView(), dropping ? html`<p class="dropping">Drop to start a job</p>` : nothing];
}

const HEADINGS = { list: () => "Jobs", new: () => "New job", sessions: () => "Sessions", session: sessionTitle, beginning: () => "New session", job: () => (state.job?.view ? title(state.job.view) : "Job") };

function draw() {
  followEnds(() => render(page(), document.body));
  settleDialog();
  const job = state.route.page === "job" ? state.job?.view : null;
  const percent = job?.status === "running" && job.progress !== null ? `${Math.floor(job.progress)} % ` : "";
  const heading = arrived && document.querySelector("h1");
  if (heading) {
    arrived = false;
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true });
  }
  document.title = `${percent}${HEADINGS[state.route.page]()} · Spool`;
}

// --- How it stays live

const BEAT_MS = 30_000;
let refreshTimer = null;
let missed = false;

function pause() {
  update({ paused: !state.paused, asOf: now() });
  if (!state.paused) refresh();
}

function onEvent(line) {
  if (state.paused) return;
  if (state.route.id && state.job?.id === line.job_id) addLines(state.job, [line]);
  update({ asOf: now() });
  if (!concerns(line)) return;
  if (document.hidden) missed = true;
  else refreshTimer ??= setTimeout(() => {
    refreshTimer = null;
    refresh();
  }, 300);
}

/** A job that runs or has ended changes only by itself or its parts; one that waits moves when others do. */
function concerns(line) {
  if (state.route.page.startsWith("session")) return line.kind === "state" || line.kind === "message";
  if (line.kind !== "state") return false;
  if (state.dialog?.load) return true;
  const view = state.route.page === "job" ? state.job?.view : null;
  if (!view || line.job_id === view.id) return true;
  return !TERMINAL.has(view.status) && (view.status !== "running" || view.children?.total > 0);
}

function onJob(changes) {
  if (state.paused) return;
  const hands = (state.stats?.workers ?? []).flatMap((worker) => worker.jobs);
  const shown = [...(state.list.items ?? []), ...(state.job?.children ?? []), ...(state.dialog?.jobs ?? []), ...hands, state.job?.view];
  for (const job of shown) if (job?.id === changes.id) Object.assign(job, changes);
  if (state.job?.view?.id === changes.id) noteSpeed(state.job, state.job.view);
  update({ asOf: now() });
}

/** A tab that nobody sees asks for nothing; it catches up when it is looked at. */
function seen() {
  if (document.hidden || !missed) return;
  missed = false;
  refresh();
}

/** Workers beat every 30 s. All pages look at the same moment, so that the server reads once for all of them. */
function beat() {
  setTimeout(() => {
    if (state.link === "live" && !state.paused && !document.hidden) refresh();
    beat();
  }, BEAT_MS - (now() % BEAT_MS));
}

// --- A recording dropped anywhere is a job

let dropping = false;

function hover(event, over) {
  if (!may("write") || ![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
  event.preventDefault();
  dropping = over;
  update();
}

function drop(event) {
  hover(event, false);
  const files = [...(event.dataTransfer?.files ?? [])];
  if (!files.length || !may("write")) return;
  tell(`Sending ${files.map((file) => file.name).join(", ")}…`);
  begin(null, files, openAll).then((error) => error && tell(error));
}

onUpdate(draw);
readRoute();
window.addEventListener("hashchange", go);
document.addEventListener("visibilitychange", seen);
document.addEventListener("dragover", (event) => hover(event, true));
document.addEventListener("dragleave", (event) => event.relatedTarget || hover(event, false));
document.addEventListener("drop", drop);
setInterval(update, 1000); // ages and durations move
listen(pause);
beat();
follow({ onEvent, onJob, refresh: () => (state.paused ? Promise.resolve("ok") : refresh()), onLink: (link) => update({ link }) });
