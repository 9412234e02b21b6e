// What the page knows, in one object. Change it through `update`, and what is seen follows.

export const state = {
  route: { page: "list", id: null, query: new URLSearchParams() },
  me: null, // {name, scopes, login_ends_at}
  link: "connecting", // connecting | live | polling | unreachable | locked
  paused: false,
  asOf: null, // when what is shown was last known to be true, by the server's clock
  notice: "",
  types: null, // job types by name
  stats: null,
  list: { items: null, next: null, error: "" },
  selected: new Set(), // ids of ticked rows
  groups: { all: [], beyond: false }, // jobs that ended badly and were not run again, by their error; `beyond` what was read there may be more
  dialog: null, // {title, body, confirm, then, load, jobs}: see dialog.js
  job: null, // what job.js loaded for the job page
  sessions: { items: null, next: null },
  session: null, // what sessions.js loaded for the page of one
  beginning: null, // the session that is being begun
  draft: null, // what new.js is filling in
  skew: 0, // the server's clock minus ours, in ms
};

let draw = () => {};
let due = false;

export function onUpdate(callback) {
  draw = callback;
}

/** Merge the changes and draw soon; many updates in a row are drawn once. */
export function update(changes = {}) {
  Object.assign(state, changes);
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    draw();
  }, 16);
}

export const now = () => Date.now() + state.skew;

let noticeTimer;

/** A sentence at the foot of the page, for a while. */
export function tell(notice) {
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => update({ notice: "" }), 8000);
  update({ notice });
}

/** Put text on the clipboard and say so; where the browser refuses, the text itself is shown. */
export function copy(text, what) {
  const done = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("no clipboard"));
  done.then(() => tell(`${what} copied.`), () => tell(text));
}
