// Live updates through one EventSource, which resumes by itself; polling while it cannot stream.

const POLL_MS = 2000;
const REOPEN_MS = 10_000;

/**
 * Calls `onEvent(line)` for each line of history, `onJob(changes)` for each change in a running job, `onLink(word)` when
 * the connection has changed, and `refresh()`, which resolves to "ok", "unreachable" or "locked", to read all again.
 */
export function follow({ onEvent, onJob, onLink, refresh }) {
  let source = null;
  let streaming = false;
  let openedAt = 0;
  let misses = 0;

  function greeted() {
    [streaming, misses] = [true, 0];
    onLink("live");
    refresh();
  }

  function open() {
    openedAt = Date.now();
    source = new EventSource("/api/events");
    source.addEventListener("hello", greeted);
    source.addEventListener("reset", greeted);
    source.addEventListener("event", (message) => onEvent(JSON.parse(message.data)));
    source.addEventListener("job", (message) => onJob(JSON.parse(message.data)));
    source.onerror = () => {
      // A host that cannot stream ends every answer; the browser is back within two seconds, and that is no failure.
      misses += 1;
      streaming = misses < 2 && source.readyState === EventSource.CONNECTING;
    };
  }

  async function poll() {
    if (!streaming) {
      const found = await refresh();
      if (!streaming) onLink(found === "ok" ? "polling" : found);
      if (found === "locked") return source?.close(); // the page is loaded again with a login
      const idle = !source || source.readyState === EventSource.CLOSED;
      if (found === "ok" && idle && Date.now() - openedAt > REOPEN_MS) open();
    }
    setTimeout(poll, POLL_MS);
  }

  poll(); // which opens the stream as soon as somebody answers
}
