// The queue in five seconds: is anything waiting, failing, slow, or not worked on?

import { duration, number, silent, since, span, title, words } from "./format.js";
import { schedulesButton } from "./schedules.js";
import { steering } from "./steer.js";
import { now, state } from "./state.js";
import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";

const HOURS = 24;
const HOUR_MS = 3_600_000;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export function overview(refresh) {
  const { stats } = state;
  if (!stats) return html`<div class="overview skeleton" role="status" aria-label="Loading"><span></span><span></span></div>`;
  const late = stats.oldest_waiting_s > 300;
  return html`<section class="overview" aria-label="The queue at a glance">
    <dl class="tiles">
      ${tile("Oldest in line", stats.oldest_waiting_s === null ? "–" : span(1000 * stats.oldest_waiting_s), late ? "warn" : "", stats.oldest_waiting_s === null ? "nobody waits" : "first in, first out")}
      ${tile("Done", number(stats.completed_per_hour * stats.hours, 0), "", "last 24 h")}
      ${tile("Failure rate", stats.failure_rate === null ? "–" : `${number(100 * stats.failure_rate)} %`, stats.failure_rate > 0.1 ? "warn" : "", endedBadly(stats.states))}
      ${percentiles("Wait", stats.wait_ms)}
      ${percentiles("Run", stats.run_ms)}
    </dl>
    <div class="halves">${chart(stats.by_hour)}${workers(stats.workers, refresh)}</div>
  </section>`;
}

/** Where to look when something fails, one click away. */
function endedBadly({ failed = 0, dead_letter: dead = 0 }) {
  const links = [[failed, "failed", "failed"], [dead, "dead_letter", dead === 1 ? "dead letter" : "dead letters"]].filter(([count]) => count);
  return links.length ? links.map(([count, status, name], index) => html`${index ? ", " : ""}<a href="#/?status=${status}">${count} ${name}</a>`) : "last 24 h";
}

const tile = (name, value, look, note) => html`<div class=${look}><dt>${name}</dt><dd>${value}</dd><dd class="note">${note}</dd></div>`;

const percentiles = (name, found) => html`<div><dt>${name}, median</dt><dd>${found ? duration(found.p50) : "–"}</dd>
  <dd class="note">${found ? html`95 % under ${duration(found.p95)}` : "nothing ran"}</dd></div>`;

/** Jobs that ended in each of the last 24 hours; what failed stands on top of what was done. */
function chart(byHour) {
  const last = Math.floor(now() / HOUR_MS);
  const ended = new Map(byHour.map(({ hour, ended }) => [Date.parse(hour) / HOUR_MS, ended]));
  const hours = Array.from({ length: HOURS }, (_, index) => {
    const { completed = 0, failed = 0, dead_letter: dead = 0, cancelled = 0 } = ended.get(last - HOURS + 1 + index) ?? {};
    return { at: (last - HOURS + 1 + index) * HOUR_MS, done: completed, bad: failed + dead, cancelled };
  });
  const most = Math.max(1, ...hours.map(({ done, bad, cancelled }) => done + bad + cancelled));
  const [done, bad] = ["done", "bad"].map((part) => hours.reduce((sum, hour) => sum + hour[part], 0));
  const label = `Jobs ended in each of the last 24 hours: ${plural(done, "job")} done, ${bad} failed, at most ${most} in one hour`;
  return html`<figure class="chart"><figcaption>Ended per hour <small>at most ${most}</small></figcaption>
    <svg viewBox="0 0 240 64" preserveAspectRatio="none" role="img" aria-label=${label}>
      <line x1="0" x2="240" y1="63.5" y2="63.5" class="axis"></line>
      ${hours.map((hour, index) => column(hour, index, most))}
    </svg>
    <p class="legend"><span class="done">done</span><span class="failed">failed</span><span class="cancelled">cancelled</span><span class="when">24 h ago → now</span></p></figure>`;
}

function column({ at, done, bad, cancelled }, index, most) {
  let y = 63;
  const pieces = [[done, "done"], [cancelled, "cancelled"], [bad, "failed"]].map(([count, look]) => {
    const height = count ? Math.max(2, (count / most) * 60) : 0;
    y -= height;
    return count ? svg`<rect class=${look} x=${10 * index + 1.5} y=${y} width="7" height=${height} rx="1"></rect>` : nothing;
  });
  const told = `${new Date(at).toLocaleString([], { hour: "2-digit", minute: "2-digit", weekday: "short" })}: ${done} done, ${bad} failed, ${cancelled} cancelled`;
  return svg`<g><title>${told}</title><rect class="hit" x=${10 * index} y="0" width="10" height="64"></rect>${pieces}</g>`;
}

function workers(seen, refresh) {
  const look = (worker) => (silent(worker) ? "failed" : worker.jobs.length ? "running" : "completed");
  const types = ({ types: names }) => (names.length > 3 ? `${names.length} kinds of jobs` : names.map(words).join(", "));
  return html`<div class="workers"><h2>Workers <small>${seen.length ? `${seen.filter((worker) => !silent(worker)).length} alive` : nothing}</small></h2>
    ${seen.length ? html`<ul>${seen.map((worker) => html`<li class=${silent(worker) ? "silent" : ""}>
      <span class="dot ${look(worker)}" aria-hidden="true"></span>
      <strong>${worker.host} <small>${worker.id.slice(-6)}</small></strong>
      <span>${silent(worker) ? "silent" : worker.jobs.length ? `${worker.jobs.length} of ${worker.slots}` : "idle"}</span>
      ${worker.jobs.length ? html`<ul class="hands" aria-label="What it runs">${worker.jobs.map((job) => html`<li><a href="#/jobs/${job.id}">${title({ ...job, params: {}, name: job.title })}</a>
        <small>${job.stage ? words(job.stage) : "Starting"}</small></li>`)}</ul>` : nothing}
      <small title=${worker.types.map(words).join(", ")}>heard ${span(since(worker.seen_at))} ago · ${types(worker)} · ${worker.version}</small></li>`)}</ul>`
    : html`<p class="bad">No worker is running, so nothing moves. Start one with <code>spool worker</code>.</p>`}
    ${steering(refresh)} ${schedulesButton(refresh)}</div>`;
}
