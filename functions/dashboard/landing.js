// The landing page's drop zone: a file dropped here is a job, and its page opens.

import { createCard, loadTypes } from "./create.js";
import { failure, notice, tokenForm } from "./parts.js";
import { onUpdate, state, update } from "./state.js";
import { render } from "./vendor/lit-html/lit-html.js";

const place = document.getElementById("new");
const open = (jobs) => location.assign(jobs.length === 1 ? `/dashboard#/jobs/${jobs[0].id}` : "/dashboard");

onUpdate(() => render(state.link === "locked" ? tokenForm() : [createCard(open), notice()], place));
update();
loadTypes().catch((error) => {
  if (error.status === 401) update({ link: "locked" });
  else render(failure(error.message), place);
});
