// Pieces that more than one page shows.

import { call, make, token } from "./api.js";
import { BAD, TERMINAL, between, duration, moment, progressText, since, span, standing, title, words } from "./format.js";
import { state, tell } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";

export const dot = (status) => html`<span class="dot ${status}" aria-hidden="true"></span>`;
export const failure = (sentence) => html`<p class="card problem" role="alert">${sentence}</p>`;

/** One piece per stage: done, moving, to come. The moving one swings while its share is unknown. */
export function bar(job) {
  const parent = job.status === "waiting_children" && job.children?.total;
  if (job.status !== "running" && !parent) return nothing;
  const [index, count] = parent ? [0, 1] : [job.stage_index ?? 0, job.stage_count ?? 1];
  const percent = parent ? (100 * job.children.done) / job.children.total : (job.progress ?? nothing);
  const pieces = Array.from({ length: count }, (_, piece) => (piece < index ? 100 : piece > index ? 0 : percent));
  return html`<span class="bar" role="progressbar" aria-label=${title(job)} aria-valuenow=${percent}
    aria-valuetext=${`${standing(job)} ${parent ? "" : progressText(job)}`}>
    ${pieces.map((value) => html`<progress aria-hidden="true" max="100" value=${value}></progress>`)}</span>`;
}

/** Cancel or retry, whichever makes sense; `then` receives the job that came of it. */
export function actions(job, then) {
  const button = (verb, look) => html`<button class=${look} aria-label="${words(verb)} ${title(job)}"
    @click=${(event) => act(event.currentTarget, job, verb, then)}>${words(verb)}</button>`;
  if (BAD.has(job.status)) return button("retry", "");
  return TERMINAL.has(job.status) || job.cancelling ? nothing : button("cancel", "quiet");
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

/** Rows of jobs; `then` as for `actions`. */
export const jobTable = (jobs, then) => html`<table class="jobs">
  <thead><tr><th>Job</th><th>Progress</th><th>Age</th><th>Ran</th><th>Attempt</th><th><span class="hidden">Steps</span></th></tr></thead>
  <tbody>${repeat(jobs, (job) => job.id, (job) => jobRow(job, then))}</tbody>
</table>`;

function jobRow(job, then) {
  const ran = between(job.started_at, job.completed_at);
  const about = [words(job.status), job.type, job.phase, ...job.tags];
  const moving = job.status === "running" && !job.cancelling;
  return html`<tr>
    <td class="name">${dot(job.cancelling ? "retrying" : job.status)}
      <div><a href="#/jobs/${job.id}">${title(job)}</a><small>${about.filter(Boolean).join(" · ")}</small></div></td>
    <td class="standing">
      <span class=${["failed", "dead_letter"].includes(job.status) ? "bad" : ""} title=${standing(job)}>${standing(job)}</span>
      ${moving ? html`<small>${progressText(job)}</small>` : nothing}${bar(job)}</td>
    <td class="figure" data-label="Age"><time datetime=${job.created_at} title=${moment(job.created_at)}>${span(since(job.created_at))}</time></td>
    <td class="figure" data-label="Ran">${ran === null ? "–" : duration(ran)}</td>
    <td class="figure" data-label="Attempt">${job.attempt || "–"}</td>
    <td class="steps">${actions(job, then)}</td>
  </tr>`;
}

const LINKS = {
  connecting: "Connecting", live: "Live", polling: "Updates every 2 s", unreachable: "Server unreachable, retrying", locked: "Token needed",
};

export const header = () => html`<header class="top">
  <a class="brand" href="/"><img src="/dashboard/icon.svg" alt="" width="26" height="26">Spool</a>
  <nav aria-label="Pages"><a href="/dashboard#/">Jobs</a><a href="/docs">API</a></nav>
  <span class="link ${state.link}" role="status">${LINKS[state.link]}</span>
</header>`;

export const notice = () => html`<div class="notice" role="status">${state.notice ? html`<p>${state.notice}</p>` : nothing}</div>`;

export const tokenForm = () => html`<form class="card token" @submit=${keepToken}>
  <h2>This Spool asks for a token</h2>
  <p>Enter one of its <code>SPOOL_API_TOKENS</code>. It is kept until you close this tab.</p>
  ${token.get() ? html`<p class="bad">The token given before was refused.</p>` : nothing}
  <div class="line"><input name="token" type="password" autocomplete="off" required aria-label="Token"><button>Continue</button></div>
</form>`;

function keepToken(event) {
  event.preventDefault();
  token.set(new FormData(event.target).get("token").trim());
  location.reload();
}
