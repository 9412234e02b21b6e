// Talks to the API. Every failure is an ApiError whose message is a sentence for people.

export const token = {
  get: () => sessionStorage.getItem("spool.token"),
  set: (value) => sessionStorage.setItem("spool.token", value),
};

export class ApiError extends Error {
  /** `status` is 0 when nothing answered. */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** One request; resolves to the JSON of the answer. */
export async function call(method, path, body, headers = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (token.get()) sent.Authorization = `Bearer ${token.get()}`;
  if (body) sent["Content-Type"] = "application/json";
  const signal = AbortSignal.timeout(30_000);
  const answer = await fetch(path, { method, headers: sent, body: body && JSON.stringify(body), signal }).catch(() => {
    throw new ApiError("The server does not answer; check that it runs.");
  });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new ApiError(problem.detail ?? `The server answered ${answer.status} ${answer.statusText}.`, answer.status);
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
export async function upload(file, name, onProgress) {
  const content_type = file.type.split(";")[0].trim() || "application/octet-stream";
  const { asset, upload: target } = await call("POST", "/api/uploads", { filename: name, content_type, size_bytes: file.size });
  await send(target, file, onProgress);
  return asset;
}

/** fetch() tells nothing of bytes sent; XMLHttpRequest does. */
function send({ method, url, headers }, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = Object.assign(new XMLHttpRequest(), { responseType: "json" });
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onerror = () => reject(new ApiError("The connection ended before the file did; send it again."));
    request.onload = () => {
      const refused = request.response?.detail ?? `The upload was refused (${request.status}).`;
      if (request.status < 300) resolve();
      else reject(new ApiError(refused, request.status));
    };
    request.send(file);
  });
}
