// Values as people read them.

import { now, state } from "./state.js";

export const BAD = new Set(["failed", "dead_letter", "cancelled"]);
export const TERMINAL = new Set([...BAD, "completed"]);

const FLOW = ["progress", "progress_current", "progress_total", "eta_s"];

/** The jobs, none with less progress than is known: an answer may be a moment older than what the live view told. */
export function notBehind(jobs, known) {
  const before = new Map((known ?? []).map((job) => [job.id, job]));
  for (const job of jobs) {
    const last = before.get(job.id);
    const same = last && ["status", "attempt", "stage_index"].every((name) => last[name] === job[name]);
    if (same && last.progress > job.progress) for (const name of FLOW) job[name] = last[name];
  }
  return jobs;
}

export const words = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

/** What a person would call this job: its title, its file or link, its part in a family, or its type. */
export const title = ({ id, type, name, child_key: part, params }) =>
  params.title || name || part || `${words(type)} ${id.slice(-6)}`;

/** 0.4 s, 41 s, 3:05, 1:02:03 */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (ms < 9950) return `${Math.max(0, ms / 1000).toFixed(1)} s`;
  if (s < 60) return `${s} s`;
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60].map((part) => String(part).padStart(2, "0"));
  return (s < 3600 ? parts.slice(1) : parts).join(":").replace(/^0/, "");
}

/** A span in its largest unit: 12 s, 4 min, 3 h, 2 d. */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const [unit, size] = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]].find(([, size]) => s >= size) ?? ["s", 1];
  return `${Math.floor(s / size)} ${unit}`;
}

export function bytes(size) {
  const [unit, factor] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, factor]) => size >= factor) ?? ["bytes", 1];
  return `${(size / factor).toFixed(factor > 1 ? 1 : 0)} ${unit}`;
}

/** A number with a true minus sign, as wide as the digits. */
export const number = (value, digits = 1) => value.toFixed(digits).replace("-", "−");
export const moment = (iso) => new Date(iso).toLocaleString();
export const since = (iso) => now() - Date.parse(iso);

/** From one time to another in ms, until now when that has not come; null when it has not begun. */
export const between = (from, to) => (from ? (to ? Date.parse(to) : now()) - Date.parse(from) : null);

/** The same request on a command line. Where one has to log in it needs a key, which this page does not know. */
export function curl(request) {
  const key = state.me?.login_ends_at ? ' -H "authorization: Bearer $SPOOL_API_TOKEN"' : "";
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  return `curl -s ${location.origin}/api/jobs${key} -H 'content-type: application/json' -d '${body}'`;
}

/** What the job is doing, or came to, in a few words. */
export function standing(job) {
  if (job.cancelling) return "Stopping";
  switch (job.status) {
    case "running": return job.stage ? words(job.stage) : "Starting";
    case "pending": return place(job);
    case "scheduled": return `Starts in ${span(-since(job.run_at))}`;
    case "waiting": return "Waits until earlier parts are done";
    case "waiting_children": return parts(job);
    case "retrying": return `Attempt ${job.attempt} failed; the next begins in ${span(-since(job.run_at))}`;
    case "completed": return finished(job);
    default: return job.error?.message ?? words(job.status);
  }
}

const parts = ({ children }) => `${children.done} of ${children.total} parts done`;

function place({ position, position_at_least: beyond }) {
  if (position === 1) return "Next in line";
  return position ? `Number ${position} in line` : beyond ? `More than ${beyond - 1} are ahead` : "In line";
}

/** When a job in line will be done: as its page says, else as far as place, free hands and the usual length tell. */
export function waitText({ status, type, position, eta_s: eta }) {
  if (status !== "pending") return "";
  const { workers = [], mean_run_ms: means = {}, steering = [] } = state.stats ?? {};
  const slots = workers.filter((worker) => !silent(worker)).reduce((sum, worker) => sum + worker.slots, 0);
  if (steering.some((one) => one.type === type && one.paused_at)) return `${words(type)} is paused`;
  const told = eta ?? (position && slots && means[type] ? Math.ceil(position / slots) * means[type] / 1000 : null);
  return told === null ? "" : `done in about ${span(1000 * Math.max(1, told))}`;
}

/** A worker beats every 30 s when it has nothing to do. */
const SILENT_MS = 90_000;
export const silent = (worker) => since(worker.seen_at) > SILENT_MS;

function finished(job) {
  const [before, after] = [job.result?.before, Object.values(job.result?.after ?? {})[0]].map((facts) => facts?.integrated_lufs);
  if (before != null && after != null) return `${number(before)} → ${number(after)} LUFS`;
  return job.children?.total ? parts(job) : "Done";
}

export function progressText({ progress, eta_s: eta }) {
  const found = [progress === null ? "" : `${Math.floor(progress)} %`, eta === null ? "" : `${span(1000 * eta)} left`];
  return found.filter(Boolean).join(" · ");
}
