// One dialog at a time: a question before something that cannot be taken back, or something to look at.

import { state, update } from "./state.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";

/** Ask; `then()` runs when the answer is `confirm`. */
export const ask = (title, body, confirm, then) => update({ dialog: { title, body, confirm, then } });

/** Show `body`, a function that draws it anew each time. Returns the dialog, whose `load`, if it gets one, keeps it true. */
export function show(title, body) {
  const dialog = { title, body };
  update({ dialog });
  return dialog;
}

export const closeDialog = () => update({ dialog: null });

export function dialogView() {
  const { title, body, confirm, then } = state.dialog ?? {};
  return html`<dialog aria-labelledby="dialog-title" @close=${closeDialog} @click=${closeOutside}>
    ${title ? html`<form method="dialog" @submit=${(event) => event.submitter?.value === "yes" && then()}>
      <h2 id="dialog-title">${title}</h2>
      ${typeof body === "function" ? body() : html`<p>${body}</p>`}
      <div class="buttons">${confirm
        ? html`<button value="no">Keep as it is</button><button class="primary danger" value="yes">${confirm}</button>`
        : html`<button value="no">Close</button>`}</div>
    </form>` : nothing}
  </dialog>`;
}

function closeOutside(event) {
  if (event.target === event.currentTarget) event.currentTarget.close();
}

/** After drawing: what is on the screen follows what the page knows. */
export function settleDialog() {
  const shown = document.querySelector("dialog");
  if (!shown || shown.open === Boolean(state.dialog)) return;
  if (state.dialog) shown.showModal();
  else shown.close();
}
