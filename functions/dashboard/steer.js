// Job types that rest or are limited: what is held back is said, and whoever may lets it go on.

import { call } from "./api.js";
import { since, span, words } from "./format.js";
import { may } from "./login.js";
import { state, tell } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Types that are paused or limited, then a place to pause another. */
export function steering(refresh) {
  const { steering: held } = state.stats;
  const paused = held.filter((one) => one.paused_at);
  const limited = held.filter((one) => one.max_running !== null);
  const free = Object.values(state.types ?? {}).filter(({ name, stages }) => stages.length && !paused.some((one) => one.type === name));
  return html`
    ${paused.map(({ type, paused_at: at }) => html`<p class="held warning"><span><b>${words(type)}</b> is paused, for ${span(since(at))} now: its jobs wait.</span>
      ${may("admin") ? html`<button @click=${(event) => steer(event.currentTarget, type, false, refresh)}>Resume<span class="hidden"> ${words(type)}</span></button>` : nothing}</p>`)}
    ${limited.map(({ type, running, max_running: most }) => html`<p class="held quiet">${words(type)}: ${running} of at most ${most} at once.</p>`)}
    ${may("admin") && free.length ? html`<select class="steer" aria-label="Pause one kind of job" @change=${(event) => {
      const [{ value }] = event.target.selectedOptions;
      event.target.selectedIndex = 0;
      if (value) steer(event.target, value, true, refresh);
    }}><option value="">Pause a type…</option>${free.map(({ name }) => html`<option value=${name}>${words(name)}</option>`)}</select>` : nothing}`;
}

async function steer(control, type, paused, refresh) {
  control.disabled = true;
  try {
    await call("PATCH", `/api/job-types/${type}`, { paused });
    tell(paused ? `${words(type)} is paused: what runs goes on, what waits stays.` : `${words(type)} goes on.`);
    await refresh();
  } catch (error) {
    tell(error.message);
  } finally {
    control.disabled = false;
  }
}
