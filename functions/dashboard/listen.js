// Hear it: the source and each finished file, switched in place, at one loudness when they are compared.

import { bytes, words } from "./format.js";
import { section } from "./parts.js";
import { state, update } from "./state.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import "./waveform.js";

const ORIGINAL = "original";
const playable = ({ content_type: type }) => /^(audio|video)\//.test(type);
/** Only this server shows pages, each in a sandbox; other storage has them saved. */
const isPage = ({ content_type: type, url }) => type.startsWith("text/html") && new URL(url, location.href).origin === location.origin;
const picture = ({ content_type: type }) => type.startsWith("image/");

/** What can be heard of a job: `[{name, url, content_type, lufs}]`. */
export function tracks({ outputs, source, view }) {
  const { before, after } = view.result ?? {};
  const made = outputs.filter(playable).map((output) => ({ ...output, lufs: after?.[output.name]?.integrated_lufs }));
  const first = source && playable(source) && made.length ? [{ ...source, name: ORIGINAL, lufs: before?.integrated_lufs }] : [];
  return [...made, ...first];
}

export function listenCard() {
  const { outputs, playing, peaks, matched } = state.job;
  if (!outputs.length) return nothing;
  const all = tracks(state.job);
  const current = all.find((track) => track.name === playing);
  const pictures = outputs.filter(picture);
  const levels = all.map((track) => track.lufs);
  return section("Finished files", html`
    ${all.length > 1 ? html`<div class="compare"><div class="segments" role="group" aria-label="What is played">
        ${all.map(({ name }) => html`<button aria-pressed=${name === playing} @click=${() => play(name)}>${name === ORIGINAL ? "Original" : name}</button>`)}</div>
      ${levels.every((level) => level != null) ? html`<label class="check"><input type="checkbox" .checked=${matched} @change=${(event) => match(event.target.checked)}>At matched loudness</label>` : nothing}
      <kbd title="Press b to switch between the original and the result">b</kbd></div>` : nothing}
    ${repeat(all, (track) => track.name, (track) => player(track, track === current, pictures[0]))}
    ${peaks ? html`<spool-waveform .peaks=${peaks} .player=${playerOf(playing)}></spool-waveform>` : nothing}
    ${pictures.length ? html`<div class="pictures">${pictures.map((output) => html`<a href=${output.url} target="_blank" rel="noopener"><img src=${output.url} alt=${words(output.name)} loading="lazy"></a>`)}</div>` : nothing}
    <ul class="outputs">${outputs.map((output) => html`<li>
      <strong>${output.name}</strong><small>${output.content_type} · ${bytes(output.size_bytes)}</small>
      ${isPage(output) ? html`<a href=${output.url} target="_blank" rel="noopener">Open<span class="hidden"> ${output.name}</span></a>` : nothing}
      <a class=${playable(output) ? "button" : ""} href=${output.url} download>Download<span class="hidden"> ${output.name}</span></a></li>`)}</ul>`);
}

const playerOf = (name) => document.querySelector(`.player[data-name="${CSS.escape(name ?? "")}"]`);

/** Drawn again once it knows its length, so that the waveform finds it. */
function player({ name, url, content_type: type }, current, poster) {
  const look = current ? "player" : "player away";
  return type.startsWith("video/")
    ? html`<video class=${look} data-name=${name} aria-label=${name} controls playsinline preload="metadata" src=${url} poster=${poster?.url ?? nothing} @loadedmetadata=${() => update()}></video>`
    : html`<audio class=${look} data-name=${name} aria-label=${name} controls preload="metadata" src=${url} @loadedmetadata=${() => update()}></audio>`;
}

/** Go on at the same place in another file. The original is compared at one loudness: louder always sounds better. */
function play(name) {
  const { job } = state;
  const [from, to] = [playerOf(job.playing), playerOf(name)];
  if (name === ORIGINAL && job.matched === null) job.matched = true;
  job.playing = name;
  level();
  if (from && to && from !== to) {
    to.currentTime = from.currentTime;
    if (!from.paused) to.play();
    from.pause();
  }
  update();
}

function match(matched) {
  state.job.matched = matched;
  level();
  update();
}

/** A player can only be made softer: all come down to the softest. */
function level() {
  const all = tracks(state.job);
  const softest = Math.min(...all.map((track) => track.lufs));
  for (const { name, lufs } of all) {
    const element = playerOf(name);
    if (element) element.volume = state.job.matched ? 10 ** ((softest - lufs) / 20) : 1;
  }
}

/** The key `b`: the original, or back to the first finished file. */
export function compare() {
  const all = state.job?.view ? tracks(state.job) : [];
  if (all.length > 1) play(state.job.playing === ORIGINAL ? all[0].name : ORIGINAL);
}
