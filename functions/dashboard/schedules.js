// Jobs that are made again and again, the upkeep of the deployment among them: one of them now, or none for a while.

import { call } from "./api.js";
import { show } from "./dialog.js";
import { moment, since, span } from "./format.js";
import { may } from "./login.js";
import { update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Opens the list; read then and after each change, so that a page which nobody asks costs nothing. */
export const schedulesButton = (refresh) => html`<button type="button" class="steer" @click=${() => open(refresh)}>Schedules…</button>`;

function open(refresh) {
  let found = null;
  let fault = "";
  let told = "";
  const load = async () => {
    try {
      found = (await call("GET", "/api/schedules")).items;
      fault = "";
    } catch (error) {
      fault = error.message;
    }
    update();
  };
  const act = async (button, work, said) => {
    button.disabled = true;
    try {
      await work();
      told = said;
      await Promise.all([load(), refresh()]);
    } catch (error) {
      [fault, told] = [error.message, ""];
      update();
    } finally {
      button.disabled = false;
    }
  };
  show("Schedules", () => html`
    ${fault ? html`<p class="bad" role="alert">${fault}</p>` : nothing}
    <p role="status" class="quiet">${told}</p>
    ${found === null ? html`<p class="quiet">Reading …</p>` : !found.length
      ? html`<p>There are none. <code>spool schedules defaults</code> adds backups, their trial restores and the rest of the upkeep.</p>`
      : html`<ul class="schedules">${found.map((one) => row(one, act))}</ul><p class="quiet">Times of the expressions are UTC.</p>`}`);
  load();
}

function row(one, act) {
  const { name, cron, type, params, paused, next_at: next, last_at: last, last_job_id: job, skipped } = one;
  const path = `/api/schedules/${encodeURIComponent(name)}`;
  return html`<li><div><b>${name}</b> <code>${cron}</code> <small>${params.duty ?? type}</small>
      <small>${paused ? "paused" : `next ${moment(next)}`}${last && job ? html` · <a href="#/jobs/${job}">last ${span(since(last))} ago</a>` : nothing}${skipped ? ` · skipped ${skipped}` : ""}</small></div>
    ${may("admin") ? html`<span>
      <button type="button" @click=${(event) => act(event.currentTarget, () => call("POST", `${path}/run`), `${name}: its job is in the queue.`)}>Run now<span class="hidden"> ${name}</span></button>
      <button type="button" class="quiet" @click=${(event) => act(event.currentTarget, () => call("PATCH", path, { paused: !paused }), paused ? `${name} goes on.` : `${name} is paused.`)}>${paused ? "Resume" : "Pause"}<span class="hidden"> ${name}</span></button></span>` : nothing}</li>`;
}
