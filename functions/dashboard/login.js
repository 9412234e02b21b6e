// Who is here, what they may do, and how they come in and go.

import { call } from "./api.js";
import { state, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Ask once who this is. Raises `ApiError`. */
export async function loadMe() {
  if (!state.me) update({ me: await call("GET", "/api/me") });
}

/** Whether the person at the page may "read", "write" or "admin"; before that is known nothing is offered. */
export const may = (scope) => Boolean(state.me?.scopes.includes(scope));

const form = { busy: false, error: "" };

/** A key that may only write gets here, too: what the pages show has to be read. */
const reason = () => form.error || (state.me?.scopes.length ? `The key ${state.me.name} may not read, which these pages need; log in with another one.` : "");

export const loginForm = (heading = html`<h1 tabindex="-1">Log in</h1>`) => html`<form class="card login" aria-label="Log in" @submit=${logIn}>
  ${heading}
  <p class="quiet">Give a key that somebody made for you with <code>spool keys create</code>, or one of this Spool's <code>SPOOL_API_TOKENS</code>.</p>
  <label class="field"><span class="label">Key or token</span>
    <input name="key" type="password" autocomplete="current-password" spellcheck="false" required maxlength="1000" autofocus
      aria-invalid=${reason() ? "true" : nothing} aria-describedby="login-error"></label>
  <p id="login-error" class="bad" role="alert">${reason()}</p>
  <button class="primary" ?disabled=${form.busy}>Log in</button>
  <p><small>This browser stays logged in for a week, or until you log out. The key itself is not kept.</small></p>
</form>`;

async function logIn(event) {
  event.preventDefault();
  Object.assign(form, { busy: true, error: "" });
  update();
  try {
    await call("POST", "/api/login", { key: new FormData(event.target).get("key") });
    location.reload();
  } catch (error) {
    Object.assign(form, { busy: false, error: error.status === 401 ? "This is no key or token of this Spool, or it was revoked." : error.message });
    update();
  }
}

/** What this login may do, and the way out; nothing where no login is needed. */
export const whoAmI = () => (!may("read") ? nothing : html`
  ${may("write") ? nothing : html`<b class="badge">Read only</b>`}
  ${state.me.login_ends_at ? html`<button class="quiet icon" title=${state.me.name ? `Logged in with the key ${state.me.name}` : "Logged in with a token"} @click=${logOut}>Log out</button>` : nothing}`);

async function logOut() {
  await call("POST", "/api/logout").catch(() => null); // when nobody answers, the page says so anyway
  location.reload();
}
