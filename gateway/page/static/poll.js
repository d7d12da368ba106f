// Asking again and again, while somebody looks.

const SLOWER_MAX = 4;

/** Calls `ask` now and then every `everyMs`, more slowly while it fails, never while the tab is hidden. */
export function poll(ask, everyMs) {
  let timer = 0;
  let failures = 0;
  let running = false;
  const turn = async () => {
    clearTimeout(timer);
    if (running || document.hidden) return;
    running = true;
    try {
      await ask();
      failures = 0;
    } catch {
      failures += 1;
    }
    running = false;
    if (!document.hidden) timer = setTimeout(turn, everyMs * Math.min(1 + failures, SLOWER_MAX));
  };
  document.addEventListener("visibilitychange", turn);
  turn();
}

/** JSON of a GET that takes at most `msMax`; throws for anything but success. */
export async function getJson(path, msMax = 5000) {
  const response = await fetch(path, { signal: AbortSignal.timeout(msMax), headers: { accept: "application/json" } });
  if (!response.ok) throw Object.assign(new Error(path), { status: response.status });
  return response.json();
}
