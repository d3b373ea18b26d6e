// The WebSocket of one session: opened again when it is lost, from the place that was reached.

const QUIET_MS = 20000;       // nothing heard for so long: ask whether the server is still there
const ALIVE_TIMEOUT_MS = 5000;
const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 10000;
const REFUSED_RETRY_MAX_MS = 30000;
const CODE_TOKEN_EXPIRED = 4001;

// `position` gives EPOCH.SEQ or null; `heard` gets each message; `changed` gets "connecting",
// "offline", or "refused" with a reason: then nothing more is tried.
export function connect({ slug, token, position, heard, changed }) {
  let socket = null;
  let attempts = 0;
  let retryTimer = 0;
  let lastHeard = 0;

  function urlOf(path) {
    const url = new URL(path, location.href);
    if (token) {
      url.searchParams.set("token", token);
    }
    return url;
  }

  function liveUrl() {
    const url = urlOf(`/live/${encodeURIComponent(slug)}`);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (position()) {
      url.searchParams.set("since", position());
    }
    return url;
  }

  function retryLater(isRefused) {
    const most = isRefused ? REFUSED_RETRY_MAX_MS : RETRY_MAX_MS;
    const wait = Math.min(most, RETRY_FIRST_MS * 2 ** Math.min(attempts, 7)) * (0.5 + Math.random() / 2);
    attempts += 1;
    changed("offline");
    clearTimeout(retryTimer);
    retryTimer = setTimeout(open, wait);
  }

  // A page is not told why its handshake was refused; this path asks for the same token.
  async function askWhyRefused(mine) {
    try {
      const answer = await fetch(urlOf(`/sessions/${encodeURIComponent(slug)}/transcript.txt`),
        { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(ALIVE_TIMEOUT_MS) });
      if (socket === mine && (answer.status === 401 || answer.status === 403)) {
        socket = null;
        changed("refused", answer.status === 401 ? "This link is not valid, or no longer valid."
          : "This link does not open this session.");
        return;
      }
    } catch {
      // Nobody answers there either: it is tried again.
    }
    if (socket === mine) {
      socket = null;
      retryLater(true);
    }
  }

  function closed(mine, code, wasOpen) {
    if (socket !== mine) {
      return;
    }
    if (!wasOpen) {
      askWhyRefused(mine);
      return;
    }
    socket = null;
    if (code === CODE_TOKEN_EXPIRED) {
      changed("refused", "This link is no longer valid.");
    } else {
      retryLater(false);
    }
  }

  function open() {
    clearTimeout(retryTimer);
    retryTimer = 0;
    const mine = new WebSocket(liveUrl());
    let wasOpen = false;
    socket = mine;
    changed(position() || attempts ? "offline" : "connecting");
    mine.addEventListener("open", () => {
      wasOpen = true;
      lastHeard = performance.now();
    });
    mine.addEventListener("message", (event) => {
      if (socket === mine) {
        attempts = 0;
        lastHeard = performance.now();
        heard(JSON.parse(event.data));
      }
    });
    mine.addEventListener("close", (event) => closed(mine, event.code, wasOpen));
  }

  function again() {
    const old = socket;
    socket = null;
    old?.close();
    open();
  }

  // A browser shows no pings to a page: after a quiet while, ask the server by another way.
  async function checkAlive() {
    const mine = socket;
    if (mine?.readyState !== WebSocket.OPEN || performance.now() - lastHeard < QUIET_MS) {
      return;
    }
    lastHeard = performance.now();
    try {
      await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ALIVE_TIMEOUT_MS) });
    } catch {
      if (socket === mine) {
        socket = null;
        mine.close();
        retryLater(false);
      }
    }
  }

  addEventListener("offline", () => changed("offline"));
  addEventListener("online", () => (socket || retryTimer) && again());
  document.addEventListener("visibilitychange", () => !document.hidden && retryTimer && again());
  setInterval(checkAlive, 5000);
  open();
}
