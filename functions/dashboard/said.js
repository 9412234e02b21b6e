// What a program says while it works: its messages, and looks at what it is making, as they come.

import { moment } from "./format.js";
import { section } from "./parts.js";
import { state } from "./state.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** The newest stand for all: a program may show a thousand. */
const SHOWN = 12;
const PICTURE = /^data:image\/(png|jpeg|webp|gif);base64,[\w+/=]+$/;

/** Of the newest attempt: what an earlier one said is in the log. */
export function saidCard(job) {
  const lines = state.job.lines.filter((line) => line.attempt === job.attempt);
  const messages = lines.filter((line) => line.kind === "message" && line.data?.role === "assistant");
  const previews = lines.filter((line) => line.kind === "preview").slice(-SHOWN);
  return [
    previews.length ? section("Previews", html`<ol class="previews follow">${repeat(previews, (line) => line.id, preview)}</ol>`) : nothing,
    messages.length ? section("Messages", html`<div class="said follow" tabindex="0" role="log" aria-label="What the program said">
      <ol>${repeat(messages, (line) => line.id, (line) => html`<li><p class="text">${line.message}</p></li>`)}</ol></div>`) : nothing,
  ];
}

function preview({ message, data, at }) {
  const { image, ...facts } = typeof data?.preview === "object" ? (data.preview ?? {}) : { value: data?.preview };
  const told = Object.entries(facts).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return html`<li title=${moment(at)}>${PICTURE.test(image ?? "") ? html`<img src=${image} alt=${message}>` : nothing}
    <span>${message}</span>${told.map(([name, value]) => html`<small>${name} ${value}</small>`)}</li>`;
}
