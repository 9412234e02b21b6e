// The parts of a job: what comes after what as a small picture, each phase as a list, and both over any row.

import { call } from "./api.js";
import { show } from "./dialog.js";
import { title, words } from "./format.js";
import { bar, dot, jobTable, skeleton } from "./parts.js";
import { state, tell, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

const PHASES = ["pre", "core", "post"];

/** A part by the name that its parent gave it; a bare number is none. */
const part = (job) => (/\D/.test(job.child_key ?? "") ? job.child_key : title(job));

const byPhase = (jobs) => PHASES.map((phase) => [phase, jobs.filter((child) => child.phase === phase)]).filter(([, found]) => found.length);

export const graph = (jobs) => html`<ol class="graph">${byPhase(jobs).map(([phase, found]) => html`<li><b>${words(phase)}</b><ul>
  ${found.map((job) => html`<li class=${job.status}><a href="#/jobs/${job.id}">${dot(job.status)}<span>${part(job)}</span></a>${bar(job)}</li>`)}</ul></li>`)}</ol>`;

/** One list for each phase; `then` as for `actions`. */
export const phases = (jobs, then) => byPhase(jobs).map(([phase, found]) => html`<section aria-label="Parts: ${phase}">
  <h2>${words(phase)} <small>${found.length}</small></h2>${jobTable(found, then)}</section>`);

/** A button that opens the parts of the job `id`; `children` counts them. */
export const partsButton = ({ id, name, children }, then) => (!children?.total ? nothing : html`<button type="button" class="inline"
  @click=${() => showParts(id, name, then)}>Show ${children.total === 1 ? "its part" : `${children.total} parts`}</button>`);

/** The children of a job over the page, kept true while they are looked at. */
async function showParts(id, name, then) {
  const shown = show(name, () => (shown.jobs ? [graph(shown.jobs), phases(shown.jobs, then)] : skeleton(3)));
  shown.load = async () => {
    const { items } = await call("GET", `/api/jobs/${id}/children`);
    Object.assign(shown, { jobs: items });
    update();
  };
  await shown.load().catch((error) => {
    tell(error.message);
    if (state.dialog === shown) update({ dialog: null });
  });
}
