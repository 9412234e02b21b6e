// The keyboard alone is enough. Keys do nothing while something is typed.

import { show } from "./dialog.js";
import { tick } from "./list.js";
import { compare } from "./listen.js";
import { html } from "./vendor/lit-html/lit-html.js";

const KEYS = [
  ["j  k", "next and previous job"],
  ["Enter", "open it"],
  ["x", "tick it"],
  ["/", "search"],
  ["n", "new job"],
  ["g", "all jobs"],
  ["c", "cancel or retry: the job of this page, or the one you are on"],
  ["b", "compare with the original"],
  ["Space", "play or pause, on a job's page"],
  ["p", "pause the live view"],
  ["?", "these keys"],
];

const help = () => show("Keys", () => html`<dl class="keys">${KEYS.map(([key, does]) => html`<div><dt>${key.split("  ").map((one) => html`<kbd>${one}</kbd>`)}</dt><dd>${does}</dd></div>`)}</dl>`);

const rows = () => [...document.querySelectorAll("main > .jobs tbody tr")];
const here = () => rows().findIndex((row) => row.contains(document.activeElement));

function move(step) {
  const all = rows();
  const next = here() < 0 ? (step > 0 ? 0 : all.length - 1) : here() + step;
  all[next]?.querySelector("a").focus();
}

function act(key, pause) {
  const row = rows()[here()];
  switch (key) {
    case "j": return move(1);
    case "k": return move(-1);
    case "x": return row?.querySelector("input") && tick({ id: row.dataset.id });
    case "/": return document.querySelector("input[type=search]")?.focus();
    case "n": return location.assign("#/new");
    case "g": return location.assign("#/");
    case "c": return (row ?? document.querySelector("main.job > .heading"))?.querySelector("button[aria-label^=Cancel], button[aria-label^=Retry]")?.click();
    case "b": return compare();
    case " ": return playOrPause();
    case "p": return pause();
    case "?": return help();
    default: return false;
  }
}

function playOrPause() {
  const player = document.querySelector(".player:not(.away)");
  if (!player) return false;
  if (player.paused) player.play();
  else player.pause();
}

/** `pause()` stops or resumes the live view. */
export function listen(pause) {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const typing = target.closest("input:not([type=checkbox]), textarea, select, dialog");
    const itsOwn = key === " " && target.closest("button, a, summary, input, audio, video, .log");
    if (typing || itsOwn || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (act(key, pause) !== false) event.preventDefault();
  });
}
