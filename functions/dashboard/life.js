// The life of a job: what it waited for, what each attempt did, how long each stage took, and how fast it is now.

import { BAD, between, bytes, duration, number, progressText, since, span, standing, waitText, words } from "./format.js";
import { bar } from "./parts.js";
import { now, state } from "./state.js";
import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";

/** Stages whose progress is counted in bytes; the others count seconds of the recording. */
const TRANSFERS = new Set(["downloading", "uploading", "fetching"]);

export function lifeCard(job) {
  const pieces = life(job);
  const spent = new Map();
  for (const { attempt, stage, from, to } of pieces) {
    if (attempt === job.attempt && stage !== null) spent.set(stage, (spent.get(stage) ?? 0) + to - from);
  }
  const moving = job.status === "running" ? job.stage_index : null;
  const ran = between(job.started_at, job.completed_at);
  const facts = {
    Created: `${span(since(job.created_at))} ago`,
    Waited: duration(between(job.created_at, job.started_at ?? job.completed_at)),
    Ran: ran === null ? "–" : duration(ran),
    Attempt: job.attempt || "–",
    ...(job.priority ? { Priority: job.priority } : {}),
  };
  return html`<section class="card life" aria-label="Progress">
    <div class="heading"><strong>${BAD.has(job.status) ? words(job.status) : job.status === "completed" ? "Done" : standing(job)}</strong>
      <span class="quiet figures">${job.status === "running" ? [progressText(job), speed(job)].filter(Boolean).join(" · ") : job.status === "completed" && standing(job) !== "Done" ? standing(job) : waitText(job)}</span></div>
    ${bar(job)}
    <ol class="stages">${state.types?.[job.type]?.stages.map((name, index) => html`
      <li class=${index === moving ? "moving" : spent.has(index) ? "reached" : ""} aria-current=${index === moving ? "step" : nothing}>
        ${words(name)}<small>${spent.has(index) ? (spent.get(index) < 1000 ? "< 1 s" : duration(spent.get(index))) : "–"}</small></li>`)}</ol>
    ${timeline(pieces)}
    <dl class="facts">${Object.entries(facts).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
  </section>`;
}

/** Its life in pieces, oldest first: `{name, look, from, to, attempt, stage}`, times in ms, the stage by its number. */
function life(job) {
  const end = job.completed_at ? Date.parse(job.completed_at) : now();
  const pieces = [];
  const open = (line, name, look, stage = null) => {
    const at = Date.parse(line.at);
    if (pieces.length) pieces.at(-1).to = at;
    pieces.push({ name, look, from: at, to: end, attempt: line.attempt, stage });
  };
  for (const line of state.job.lines) {
    if (line.kind === "stage") open(line, words(line.message), `stage-${line.data.index % 5}`, line.data.index);
    else if (line.kind === "state" && line.message === "running") open(line, "Starting", "starting");
    else if (line.kind === "state" && !["completed", ...BAD].includes(line.message)) open(line, WAITING[line.message] ?? words(line.message), line.message === "retrying" ? "retrying" : "waits");
  }
  return pieces;
}

const WAITING = { pending: "In line", scheduled: "Scheduled", waiting: "Waits for earlier parts", waiting_children: "Waits for its parts", retrying: "Waits to try again" };

/** All of it to scale, and in words. */
function timeline(all) {
  const pieces = all.filter((piece) => piece.to > piece.from);
  if (pieces.length < 2) return nothing;
  const [from, to] = [pieces[0].from, pieces.at(-1).to];
  const x = (at) => (1000 * (at - from)) / (to - from);
  const attempts = new Set(pieces.map((piece) => piece.attempt)).size;
  const told = (piece) => `${piece.name}: ${duration(piece.to - piece.from)}${attempts > 2 && piece.attempt ? `, attempt ${piece.attempt}` : ""}`;
  return html`<details class="timeline"><summary><span class="hidden">Timeline: ${pieces.map(told).join("; ")}</span>
      <svg viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true">${pieces.map((piece) => svg`<rect class=${piece.look}
        x=${x(piece.from)} y="0" width=${Math.max(1.5, x(piece.to) - x(piece.from) - 1.5)} height="12"><title>${told(piece)}</title></rect>`)}</svg></summary>
    <ol>${pieces.map((piece) => html`<li><span class="swatch ${piece.look}"></span><span>${piece.name}</span><small>${
      piece.attempt ? `attempt ${piece.attempt}` : ""}</small><b>${duration(piece.to - piece.from)}</b></li>`)}</ol></details>`;
}

/** Remember where the stage stood when it was first seen, so that its speed can be told. */
export function noteSpeed(shown, { stage, progress_current: current }) {
  if (current == null) return;
  if (shown.pace?.stage !== stage || current < shown.pace.first) shown.pace = { stage, first: current, at: performance.now() };
  else Object.assign(shown.pace, { last: current, seen: performance.now() });
}

function speed({ stage }) {
  const { pace } = state.job;
  if (!pace || pace.stage !== stage || !(pace.last > pace.first)) return "";
  const perSecond = (1000 * (pace.last - pace.first)) / (pace.seen - pace.at);
  return TRANSFERS.has(stage) ? `${bytes(perSecond)}/s` : `${number(perSecond, perSecond < 10 ? 1 : 0)}× real time`;
}
