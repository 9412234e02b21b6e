// What a job said: the newest at the end, by level, and by text.

import { moment, words } from "./format.js";
import { section } from "./parts.js";
import { state, update } from "./state.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Lines kept on the page. */
const LINES = 2000;
const LEVELS = ["debug", "info", "warn", "error"];

/** Lines of history, from wherever they came; each is kept once, in order. */
export function addLines(shown, lines) {
  if (!lines.length) return;
  const known = new Map([...shown.lines, ...lines].map((line) => [line.id, line]));
  shown.lines = [...known.values()].sort((one, other) => one.id - other.id).slice(-LINES);
}

export function logCard() {
  const { lines, filter } = state.job;
  const text = filter.text.toLowerCase();
  const shown = lines.filter((line) => LEVELS.indexOf(line.level) >= LEVELS.indexOf(filter.level) &&
    (!text || lineText(line).toLowerCase().includes(text) || (line.data && JSON.stringify(line.data).toLowerCase().includes(text))));
  const set = (changes) => update(Object.assign(filter, changes) && {});
  return section("Log", html`<div class="logtools">
      <input type="search" placeholder="Search the log" aria-label="Search the log" .value=${filter.text} @input=${(event) => set({ text: event.target.value })}>
      <select aria-label="Lowest level" @change=${(event) => set({ level: event.target.value })}>
        ${LEVELS.map((level) => html`<option value=${level} ?selected=${level === filter.level}>${level === "debug" ? "All lines" : level === "error" ? "Errors only" : `${words(level)} and above`}</option>`)}</select>
      <small aria-live="polite">${shown.length === lines.length ? `${lines.length} lines` : `${shown.length} of ${lines.length} lines`}</small></div>
    <ol class="log follow" tabindex="0" aria-label="Lines, oldest first">
    ${repeat(shown, (line) => line.id, (line) => html`<li class=${line.level}>
      <time datetime=${line.at} title=${moment(line.at)}>${new Date(line.at).toLocaleTimeString([], { hourCycle: "h23" })}</time>
      ${line.kind === "log" && line.data ? html`<details><summary>${line.message}</summary><small>${JSON.stringify(line.data, null, 1)}</small></details>`
        : html`<span>${lineText(line)}</span>`}</li>`)}
    ${shown.length ? nothing : html`<li class="debug"><span></span><span>${lines.length ? "No line fits." : "Nothing was said yet."}</span></li>`}</ol>`);
}

function lineText({ kind, message, data, attempt }) {
  if (kind === "stage") return `${words(message)}, stage ${data.index + 1} of ${data.count}`;
  if (kind !== "state") return message;
  return [words(message), attempt > 1 ? `, attempt ${attempt}` : "", data?.error ? `: ${data.error.message}` : ""].join("");
}

/** Draw, and keep what grows at its end unless it was scrolled up. */
export function followEnds(draw) {
  const away = new Set([...document.querySelectorAll(".follow")].filter((one) => one.scrollHeight - one.scrollTop - one.clientHeight >= 40));
  draw();
  for (const one of document.querySelectorAll(".follow")) if (!away.has(one)) one.scrollTop = one.scrollHeight;
}
