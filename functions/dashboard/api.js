// Talks to the API. Every failure is an ApiError whose message is a sentence for people.

/** An answer that other pages were given two seconds ago will do, unless this page has just changed something. */
const SHARED = { "Cache-Control": "max-age=2" };
const SETTLE_MS = 3000;
let wroteAt = -Infinity;

export class ApiError extends Error {
  /** `status` is 0 when nothing answered; `errors` name fields, where the answer did. */
  constructor(message, status = 0, errors = []) {
    super(message);
    Object.assign(this, { status, errors });
  }
}

/** The most that one file may have, as POST /api/uploads says. */
const MOST_BYTES = 20e9;

/** One request; resolves to the JSON of the answer. A patient one waits when there were too many in a minute. */
export async function call(method, path, body, { headers = {}, patient = false } = {}) {
  if (method !== "GET") wroteAt = performance.now();
  const sent = { Accept: "application/json", ...(performance.now() - wroteAt > SETTLE_MS ? SHARED : {}), ...headers };
  if (body) sent["Content-Type"] = "application/json";
  const signal = AbortSignal.timeout(30_000);
  const answer = await fetch(path, { method, headers: sent, body: body && JSON.stringify(body), signal }).catch(() => {
    throw new ApiError("The server does not answer; check that it runs.");
  });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  if (patient && problem.code === "rate_limited") {
    await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(answer.headers.get("Retry-After")) || 1)));
    return call(method, path, body, { headers, patient });
  }
  throw new ApiError(problem.detail ?? `The server answered ${answer.status} ${answer.statusText}.`, answer.status, problem.errors);
}

/** A new job, tried again when the answer is lost: the key lets the second request find the first one's. */
export async function make(path, body) {
  const key = crypto.getRandomValues(new Uint32Array(4)).join("-");
  for (let left = 2; ; left -= 1) {
    try {
      return await call("POST", path, body, { headers: { "Idempotency-Key": key }, patient: true });
    } catch (error) {
      if (error.status !== 0 || left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

/** All of a job's history after line `after`, oldest first. */
export async function history(id, after) {
  const lines = [];
  for (;;) {
    const { items } = await call("GET", `/api/jobs/${id}/events?limit=1000&after=${lines.at(-1)?.id ?? after}`);
    lines.push(...items);
    if (items.length < 1000) return lines;
  }
}

/** Announce a file by its name, send its bytes where the answer says, resolve to its asset id. */
export async function upload(file, onProgress) {
  if (!file.size) throw new ApiError("The file is empty. Wait until the recording is finished, then send it.", 422);
  if (file.size > MOST_BYTES) throw new ApiError("The file is larger than 20 GB; split it and send the parts.", 422);
  // File names hold spaces and signs of many kinds; the API takes those that print.
  const name = file.name.replace(/\p{Z}/gu, " ").replace(/\p{C}/gu, "");
  const content_type = file.type.split(";")[0].trim() || "application/octet-stream";
  const key = `spool.upload.${file.size}.${file.lastModified}.${name}`;
  const announced = { filename: name, content_type, size_bytes: file.size };
  const { asset, upload: target, parts } = (await begun(key)) ?? (await call("POST", "/api/uploads", announced, { patient: true }));
  if (!parts) await send(target, file, (sent) => onProgress(sent, file.size));
  else {
    localStorage.setItem(key, asset);
    await sendParts(asset, parts, file, onProgress);
    await call("POST", `/api/uploads/${asset}/complete`, {});
    localStorage.removeItem(key);
  }
  return asset;
}

/** The same file was begun here before, and the page or the machine went away: only what is missing is sent. */
async function begun(key) {
  const asset = localStorage.getItem(key);
  const found = asset && (await call("GET", `/api/uploads/${encodeURIComponent(asset)}`).catch((error) => (error.status ? null : Promise.reject(error))));
  if (!found) localStorage.removeItem(key);
  return found;
}

/** Large files go in parts, four at a time; what broke is asked for and sent again, a few times. */
async function sendParts(asset, parts, file, onProgress) {
  for (const pause of [1, 3, 10, 30, 0]) {
    const gone = new Map();
    const there = file.size - parts.reduce((sum, part) => sum + part.size_bytes, 0);
    const queue = [...parts];
    const work = async () => {
      for (let part; (part = queue.shift()); ) {
        const { number, first, size_bytes } = part;
        await send(part, file.slice(first, first + size_bytes), (sent) => {
          gone.set(number, sent);
          onProgress(there + [...gone.values()].reduce((sum, one) => sum + one, 0), file.size);
        });
      }
    };
    const ends = await Promise.allSettled([work(), work(), work(), work()]);
    const broken = ends.find((end) => end.status === "rejected");
    if (!broken) return;
    if (!pause) throw broken.reason;
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
    parts = (await call("GET", `/api/uploads/${asset}`)).parts ?? [];
  }
}

/** fetch() tells nothing of bytes sent; XMLHttpRequest does. */
function send({ method, url, headers }, bytes, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onerror = () => reject(new ApiError("The connection ended before the file did; send it again."));
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(new ApiError(refusal(request), request.status));
    };
    request.send(bytes);
  });
}

/** Our own answers are JSON; a bucket's are XML. */
function refusal({ status, responseText }) {
  try {
    return JSON.parse(responseText).detail;
  } catch {
    const said = /<Message>([^<]*)</.exec(responseText)?.[1] ?? "";
    return `The storage refused the upload (${status}). ${said} Send it again.`;
  }
}
