// Conversations with agents: how each stands, what was said last, and the page to read on and reply.

import { call, make, upload } from "./api.js";
import { bytes, moment, since, span, words } from "./format.js";
import { changed, fields } from "./form.js";
import { may } from "./login.js";
import { partsButton } from "./family.js";
import { failure, skeleton } from "./parts.js";
import { state, tell, update } from "./state.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

const PAGE = 30;
const STANDS = {
  not_started: "Not started", processing: "At work", waiting_for_input: "Needs input", error: "Ended badly", completed: "Done",
};

/** The programs that can be talked to, by name. */
export const agents = () => Object.values(state.types ?? {}).filter(({ kind }) => kind === "agent").map((type) => ({ ...type, program: type.name.slice("agent:".length) }));
const titleOf = ({ title, program }) => title ?? agents().find((one) => one.program === program)?.title ?? words(program);
export const sessionTitle = () => (state.session?.view ? titleOf(state.session.view) : "Session");

// --- What it needs

export async function loadSessions(query) {
  const cursor = query.get("cursor");
  const { items, next_cursor: next } = await call("GET", `/api/sessions?limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  update({ sessions: { items, next } });
}

const blank = () => ({ text: "", files: [], busy: false, error: "" });

/** The newest messages, anew each time: what an attempt said that then failed is no longer part of it. Raises `ApiError`. */
export async function loadSession(id) {
  if (state.session?.id !== id) state.session = { id, view: null, earlier: [], more: null, error: "", reply: blank() };
  const shown = state.session;
  try {
    const view = await call("GET", `/api/sessions/${id}`);
    Object.assign(shown, { view, more: shown.more ?? view.more, error: "" });
  } catch (error) {
    if (error.status) shown.error = error.message;
    throw error;
  } finally {
    update();
  }
}

async function loadEarlier(shown) {
  const first = shown.earlier[0] ?? shown.view.messages[0];
  try {
    const { messages, more } = await call("GET", `/api/sessions/${shown.id}?before=${first.id}`);
    Object.assign(shown, { earlier: [...messages, ...shown.earlier], more });
  } catch (error) {
    tell(error.message);
  }
  update();
}

// --- The cards

const badge = ({ status, cancelling }) => html`<span class="stand ${status}"><span class="dot" aria-hidden="true"></span>${cancelling ? "Stopping" : STANDS[status]}</span>`;

export function sessionsPage(refresh) {
  const { items, next } = state.sessions;
  return html`<main>
    <div class="heading"><h1 tabindex="-1">Sessions</h1>${may("write") && agents().length ? html`<a class="button primary" href="#/sessions/new">New session</a>` : nothing}</div>
    ${items === null ? skeleton(6) : items.length ? html`<ul class="sessions">${repeat(items, (one) => one.id, (one) => card(one, refresh))}</ul>` : html`<div class="card empty">
      <p><strong>No sessions yet.</strong></p><p>${agents().length ? "Begin one, and the agent answers here." : html`No agent is registered; <code>SPOOL_PROGRAMS</code> names the file that does.`}</p></div>`}
    <nav class="pages" aria-label="Older and newer sessions">${state.route.query.has("cursor") ? html`<a href="#/sessions">← Newest</a>` : html`<span></span>`}
      ${next ? html`<a href="#/sessions?cursor=${encodeURIComponent(next)}">Older →</a>` : nothing}</nav>
  </main>`;
}

const card = (session, refresh) => html`<li class="card session ${session.status}" data-id=${session.id}>
  <div class="heading"><h2><a href="#/sessions/${session.id}">${titleOf(session)}</a></h2>${badge(session)}</div>
  <div class="preview follow" tabindex="0" role="group" aria-label="What ${titleOf(session)} said last">${
    session.error ? html`<p class="bad">${session.error.message}</p>` : session.preview.length ? session.preview.map(({ text }) => html`<p>${text}</p>`) : html`<p class="quiet">Nothing was said yet.</p>`}</div>
  <p class="quiet"><small>${parts(session, refresh)}${session.program} · <time datetime=${session.updated_at} title=${moment(session.updated_at)}>${span(since(session.updated_at))} ago</time></small></p></li>`;

/** What its newest turn has made others do. */
const parts = (session, refresh) => (session.children ? html`${partsButton({ id: session.last_job_id, name: titleOf(session), children: session.children }, refresh)}, ${session.children.done} done · ` : nothing);

// --- One session

export function sessionPage(refresh) {
  const shown = state.session;
  if (!shown?.view) return html`<main class="narrow"><p class="back"><a href="#/sessions">← All sessions</a></p>${shown?.error ? failure(shown.error) : skeleton(6)}</main>`;
  const { view } = shown;
  const messages = [...shown.earlier, ...view.messages];
  return html`<main class="narrow talk">
    <p class="back"><a href="#/sessions">← All sessions</a></p>
    <div class="heading"><h1 tabindex="-1">${titleOf(view)}</h1><div class="buttons">${badge(view)}
      ${view.last_job_id ? html`<a class="button quiet" href="#/jobs/${view.last_job_id}">Its job</a>` : nothing}</div></div>
    <p class="quiet">${view.program} · begun ${span(since(view.created_at))} ago</p>
    ${shown.error ? failure(shown.error) : nothing}
    <section class="card said follow" tabindex="0" role="log" aria-label="What was said">
      ${shown.more ? html`<p class="more"><button class="quiet" @click=${() => loadEarlier(shown)}>Earlier messages</button></p>` : nothing}
      ${messages.length ? html`<ol>${repeat(messages, (one) => one.id, (one, index) => message(one, messages[index + 1]?.job_id !== one.job_id, titleOf(view), refresh))}</ol>` : html`<p class="quiet">Nothing was said yet.</p>`}
      ${view.status === "processing" ? html`<p class="thinking quiet"><span></span><span></span><span></span>${view.cancelling ? "Stopping" : "At work"}</p>` : nothing}
    </section>
    ${view.error ? html`<section class="card problem" aria-label="What went wrong"><h2>${view.error.message}</h2>
      <p class="quiet">Say it again, or something else: the next turn begins where this one did. <a href="#/jobs/${view.last_job_id}">What happened</a></p></section>` : nothing}
    ${may("write") ? replyForm(shown, refresh) : nothing}
  </main>`;
}

const WHO = { user: "You", system: "Note" };

/** The last of a turn leads to the jobs that the turn has added. */
const message = ({ role, text, at, job_id: job, assets, parts: total }, last, name, refresh) => html`<li class=${role}>
  <p class="who"><b>${WHO[role] ?? "Agent"}</b> <a class="quiet" href="#/jobs/${job}" title=${moment(at)}><time datetime=${at}>${new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })}</time></a></p>
  <p class="text">${text}</p>
  ${assets.length ? html`<p class="files">${assets.map(({ filename }) => html`<span class="badge">${filename}</span>`)}</p>` : nothing}
  ${last && total ? html`<p class="quiet"><small>${partsButton({ id: job, name, children: { total } }, refresh)}</small></p>` : nothing}</li>`;

// --- What a person says

/** Asked anew when it is sent: fingers are faster than the page is drawn. */
const ready = ({ reply, view }) => view.status !== "processing" && !reply.busy && reply.text.trim() !== "" && reply.files.every((file) => file.asset);

function replyForm(shown, refresh) {
  const { reply, view } = shown;
  const busy = view.status === "processing";
  return html`<form class="card reply" aria-label="Say something" @submit=${(event) => (event.preventDefault(), ready(shown) && send(shown, refresh))}>
    ${textField(reply, "Reply")}
    ${reply.error ? html`<p class="bad" role="alert">${reply.error}</p>` : nothing}
    <div class="buttons">${attach(reply)}<span class="grow"></span>
      ${busy && view.active_job_id ? html`<button type="button" ?disabled=${view.cancelling} @click=${() => stop(view, refresh)}>Stop</button>` : nothing}
      <button class="primary" ?disabled=${!ready(shown)}>Send</button></div></form>`;
}

/** A finger has no Shift: there Enter begins a line, and the button sends. */
const byFinger = () => matchMedia("(pointer: coarse)").matches;

const textField = (reply, name) => html`<textarea rows="3" maxlength="8000" aria-label=${name} placeholder=${byFinger() ? "Say something" : "Enter sends, Shift and Enter begin a line"} .value=${reply.text}
    @input=${(event) => update(Object.assign(reply, { text: event.target.value }) && {})} @keydown=${enter}></textarea>
  ${reply.files.length ? html`<p class="files">${reply.files.map((file) => html`<span class="badge">${file.name}${file.asset ? nothing : html` <small>${file.told}</small>`}
    <button type="button" class="inline" aria-label="Take ${file.name} out" @click=${() => update(Object.assign(reply, { files: reply.files.filter((one) => one !== file) }) && {})}>×</button></span>`)}</p>` : nothing}`;

function enter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || byFinger()) return;
  event.preventDefault();
  event.target.form.requestSubmit();
}

const attach = (reply) => html`<label class="button quiet">Add files<input class="hidden" type="file" multiple aria-label="Add files" @change=${(event) => {
  for (const file of event.target.files) take(reply, file);
  event.target.value = "";
}}></label>`;

async function take(reply, file) {
  const taken = { name: file.name, asset: null, told: "0 %" };
  update(Object.assign(reply, { files: [...reply.files, taken], error: "" }) && {});
  try {
    taken.asset = await upload(file, (sent, total) => update(Object.assign(taken, { told: `${bytes(sent)} of ${bytes(total)}` }) && {}));
  } catch (error) {
    Object.assign(reply, { files: reply.files.filter((one) => one !== taken), error: `${file.name}: ${error.message}` });
  }
  update();
}

const said = ({ text, files }) => ({ text, ...(files.length ? { assets: files.map((file) => file.asset) } : {}) });

async function send(shown, refresh) {
  const { reply } = shown;
  update(Object.assign(reply, { busy: true, error: "" }) && {});
  try {
    await make(`/api/sessions/${shown.id}/messages`, said(reply));
    shown.reply = blank();
    await refresh();
    document.querySelector(".reply textarea")?.focus();
  } catch (error) {
    Object.assign(reply, { busy: false, error: error.message });
  }
  update();
}

async function stop({ active_job_id: id }, refresh) {
  try {
    await call("POST", `/api/jobs/${id}/cancel`);
  } catch (error) {
    tell(error.message);
  }
  refresh();
}

// --- A new session

export function loadBeginning() {
  const [first] = agents();
  state.beginning ??= { program: first?.program, title: "", params: {}, errors: {}, reply: blank() };
  update();
}

export function beginningPage(open) {
  const draft = state.beginning;
  const kind = agents().find((one) => one.program === draft?.program);
  if (!kind || !may("write")) return html`<main class="narrow"><h1 tabindex="-1">New session</h1>${state.types ? html`<p class="card empty">${may("write") ? "No agent is registered." : "You may look, but not begin sessions."}</p>` : skeleton(4)}</main>`;
  const change = (changes) => update(Object.assign(draft, { errors: {} }, changes) && {});
  const form = { root: kind.session_params, errors: draft.errors, set: (path, value) => change({ params: changed(draft.params, path, value) }) };
  return html`<main class="narrow"><div class="heading"><h1 tabindex="-1">New session</h1></div>
    <form class="card new" aria-label="New session" novalidate @submit=${(event) => begin(event, draft, open)}>
      <label class="field"><span class="label">Agent</span><select name="program" @change=${(event) => change({ program: event.target.value, params: {} })}>
        ${agents().map((one) => html`<option value=${one.program} ?selected=${one === kind}>${one.title}</option>`)}</select></label>
      <label class="field"><span class="label">Title</span><input name="title" maxlength="120" placeholder=${kind.title} .value=${draft.title} @input=${(event) => change({ title: event.target.value })}></label>
      ${fields(kind.session_params, draft.params, form)}
      <div class="field wide"><span class="label">First message</span>${textField(draft.reply, "First message")}</div>
      ${draft.reply.error ? html`<div class="wide">${failure(draft.reply.error)}</div>` : nothing}
      <div class="buttons wide">${attach(draft.reply)}<span class="grow"></span><button class="primary" ?disabled=${draft.reply.busy || !draft.reply.files.every((file) => file.asset)}>Begin</button></div>
    </form></main>`;
}

async function begin(event, draft, open) {
  event.preventDefault();
  const { program, params, title, reply } = draft;
  update(Object.assign(reply, { busy: true, error: "" }) && {});
  try {
    const made = await make("/api/sessions", { program, params, ...(title.trim() ? { title: title.trim() } : {}), ...(reply.text.trim() ? { message: said(reply) } : {}) });
    state.beginning = null;
    open(made);
  } catch (error) {
    draft.errors = Object.fromEntries((error.errors ?? []).filter(({ field }) => field.startsWith("params.")).map(({ field, message: told }) => [field.slice(7), told]));
    Object.assign(reply, { busy: false, error: Object.keys(draft.errors).length ? "" : error.message });
  }
  update();
}
