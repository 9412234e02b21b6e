// The landing page's drop zone: a file dropped here is a job, and its page opens.

import { createCard, loadTypes } from "./create.js";
import { loadMe, loginForm, may } from "./login.js";
import { failure, notice } from "./parts.js";
import { onUpdate, state, update } from "./state.js";
import { html, render } from "./vendor/lit-html/lit-html.js";

const place = document.getElementById("new");
const open = (jobs, error) => error || location.assign(jobs.length === 1 ? `/dashboard#/jobs/${jobs[0].id}` : "/dashboard");
const onlooker = () => html`<p class="card">You may look, but not start jobs: <a href="/dashboard">see all jobs</a>.</p>`;

/** Nothing is promised before it is known who this is. */
function card() {
  if (!state.me) return html`<div class="card create waiting" role="status" aria-label="Loading"></div>`;
  if (!may("read")) return loginForm(html`<h2>Log in</h2>`);
  return may("write") ? [createCard(open), notice()] : onlooker();
}

onUpdate(() => render(card(), place));
update();
loadMe()
  .then(() => may("read") && loadTypes())
  .catch((error) => render(failure(error.message), place));
