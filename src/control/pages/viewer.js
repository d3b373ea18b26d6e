// The viewer page: one session's words, as they are said.
import { applyMessage, clockText, createTranscript } from "./transcript.js";

const MAX_ROWS = 5000;        // older rows leave the page; the files have them all
const QUIET_MS = 20000;       // nothing heard for so long: ask whether the server is still there
const ALIVE_TIMEOUT_MS = 5000;

const page = Object.fromEntries(
  ["pick", "session", "sessions", "state", "transcript", "finals", "partials", "jump", "downloads"]
    .map((id) => [id, document.getElementById(id)]));
const parameters = new URLSearchParams(location.search);
const token = parameters.get("token");

let transcript = createTranscript();
let slug = parameters.get("session") ?? "";
let socket = null;
let attempts = 0;
let retryTimer = 0;
let lastHeard = 0;
let isFollowing = true;

const STATE_TEXTS = {
  idle: "Waiting for somebody to speak here.",
  live: "Live.",
  reconnecting: "The speaker's connection was lost; waiting for it.",
  stt_down: "The transcription service is away; the words will follow.",
  ended: "The session has ended.",
  unknown: "Asking for the session's state.",
  connecting: "Connecting.",
  offline: "The connection was lost; trying again.",
};

function showState(state, reason) {
  page.state.dataset.state = state;
  const text = STATE_TEXTS[state] ?? state;
  const shown = state === "stt_down" && reason ? `${text} (${reason})` : text;
  if (page.state.textContent !== shown) {
    page.state.textContent = shown;
  }
}

function row(message) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clockText(message.start);
  item.append(time);
  if (message.speaker !== null && message.speaker !== undefined) {
    const speaker = document.createElement("span");
    speaker.className = "speaker";
    speaker.textContent = `${message.speaker}:`;
    item.append(speaker);
  }
  item.append(message.text);
  item.dataset.utterance = message.utteranceId;
  return item;
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  return item;
}

// Partials are replaced in place, so that what is read does not jump.
function showPartials() {
  const shown = new Map([...page.partials.children].map((item) => [item.dataset.utterance, item]));
  for (const [id, message] of transcript.partials) {
    const old = shown.get(id);
    if (old) {
      old.lastChild.data = message.text;
      shown.delete(id);
    } else {
      page.partials.append(row(message));
    }
  }
  shown.forEach((item) => item.remove());
}

function follow() {
  if (isFollowing) {
    page.transcript.scrollTop = page.transcript.scrollHeight;
  }
}

function heard(message) {
  const todo = applyMessage(transcript, message);
  page.finals.append(...todo.notes.map(note), ...todo.finals.map(row));
  while (page.finals.children.length > MAX_ROWS) {
    page.finals.firstChild.remove();
  }
  showPartials();
  if (todo.state) {
    showState(todo.state, todo.reason);
  }
  follow();
}

function liveUrl() {
  const url = new URL(`/live/${encodeURIComponent(slug)}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (transcript.position) {
    url.searchParams.set("since", transcript.position);
  }
  if (token) {
    url.searchParams.set("token", token);
  }
  return url;
}

function retryLater(isRefused) {
  attempts += 1;
  const most = isRefused ? 30000 : 10000;
  const wait = Math.min(most, 250 * 2 ** Math.min(attempts, 7)) * (0.5 + Math.random() / 2);
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, wait);
}

function connect() {
  clearTimeout(retryTimer);
  const mine = new WebSocket(liveUrl());
  let wasOpen = false;
  socket = mine;
  showState(transcript.position ? "offline" : "connecting");
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
  mine.addEventListener("close", (event) => {
    if (socket !== mine) {
      return;
    }
    socket = null;
    if (event.code === 4001) {
      showState("offline");
      page.state.textContent = "This link is no longer valid: its token has expired.";
      return;
    }
    showState("offline");
    retryLater(!wasOpen);
  });
}

function drop() {
  const old = socket;
  socket = null;
  old?.close();
}

// A browser shows no pings to a page: after a quiet while, ask the server by another way.
async function checkAlive() {
  if (!socket || socket.readyState !== WebSocket.OPEN || performance.now() - lastHeard < QUIET_MS) {
    return;
  }
  lastHeard = performance.now();
  try {
    await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ALIVE_TIMEOUT_MS) });
  } catch {
    drop();
    showState("offline");
    retryLater(false);
  }
}

function watch(name) {
  drop();
  slug = name;
  attempts = 0;
  transcript = createTranscript();
  page.finals.replaceChildren();
  page.partials.replaceChildren();
  page.session.value = name;
  page.downloads.hidden = false;
  document.title = `${name} – live transcript`;
  for (const link of page.downloads.querySelectorAll("a")) {
    const url = new URL(`/sessions/${encodeURIComponent(name)}/transcript.${link.dataset.format}`, location.href);
    if (token) {
      url.searchParams.set("token", token);
    }
    link.href = url;
  }
  connect();
}

async function listSessions() {
  try {
    const answer = await fetch("/sessions", { cache: "no-store" });
    if (answer.ok) {
      const list = await answer.json();
      const rows = list.sessions ?? list;
      page.sessions.replaceChildren(...rows.map((session) => new Option(session.slug, session.slug)));
    }
  } catch {
    // The list is a convenience: a name can be typed without it.
  }
}

page.pick.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = page.session.value.trim();
  const url = new URL(location.href);
  url.searchParams.set("session", name);
  history.pushState({}, "", url);
  watch(name);
});
page.session.addEventListener("focus", listSessions);
page.transcript.addEventListener("scroll", () => {
  const box = page.transcript;
  isFollowing = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  page.jump.hidden = isFollowing;
});
page.jump.addEventListener("click", () => {
  isFollowing = true;
  follow();
  page.jump.hidden = true;
  page.transcript.focus();
});
addEventListener("popstate", () => {
  const name = new URLSearchParams(location.search).get("session");
  if (name) {
    watch(name);
  }
});
addEventListener("offline", () => showState("offline"));
addEventListener("online", () => {
  drop();
  if (slug) {
    connect();
  }
});
setInterval(checkAlive, 5000);
listSessions();
if (slug) {
  watch(slug);
}
