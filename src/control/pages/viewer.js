// The viewer page: one session's words as they are said, or the choice of a session.
import { listSessions } from "./choose.js";
import { connect } from "./connection.js";
import { createLines } from "./lines.js";
import { createSpeak } from "./speak.js";
import { applyMessage, createTranscript } from "./transcript.js";

const SLUG = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const TEXT_SIZES = [1, 1.25, 1.5, 1.9, 2.4, 3]; // rem
const TEXT_SIZE_KEY = "verbacast.text-size";
const STATE_TEXTS = {
  idle: "Waiting for the session to begin",
  live: "Live",
  reconnecting: "The speaker's connection was lost; waiting for it",
  stt_down: "Transcription is interrupted; the words will follow",
  ended: "The session has ended",
  unknown: "Asking for the session's state",
  connecting: "Connecting",
  offline: "Connection lost; trying again",
};
const EMPTY_TEXTS = {
  idle: "Nobody has spoken here yet. Keep this page open: the words appear by themselves.",
  live: "Listening. The words appear here as they are said.",
  ended: "Nothing was said in this session.",
};

const byId = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const token = parameters.get("token");
const publishToken = parameters.get("publish_token"); // for the microphone; watching has its own
const slug = (parameters.get("session") ?? "").trim();

function showState(state, reason) {
  const text = state === "refused" ? reason : STATE_TEXTS[state] ?? state;
  byId("state").dataset.state = state;
  if (byId("state").textContent !== text) {
    byId("state").textContent = text;
  }
  byId("empty").textContent = EMPTY_TEXTS[state] ?? "";
}

function hrefOf(path, more = {}) {
  const url = new URL(path, location.origin);
  Object.entries({ ...more, ...(token ? { token } : {}) }).forEach(([name, value]) => url.searchParams.set(name, value));
  return url.pathname + url.search;
}

function readTextSize() {
  try {
    return Number(localStorage.getItem(TEXT_SIZE_KEY) ?? 1);
  } catch {
    return 1; // storage is refused: the size lasts as long as the page
  }
}

function createTextSize(resized) {
  let size = 1;
  function set(wanted) {
    size = Math.min(TEXT_SIZES.length - 1, Math.max(0, Math.trunc(wanted) || 0));
    document.documentElement.style.setProperty("--text-size", `${TEXT_SIZES[size]}rem`);
    // Not `disabled`: that would take the focus away.
    byId("smaller").setAttribute("aria-disabled", String(size === 0));
    byId("larger").setAttribute("aria-disabled", String(size === TEXT_SIZES.length - 1));
    resized();
  }
  function change(by) {
    set(size + by);
    try {
      localStorage.setItem(TEXT_SIZE_KEY, String(size));
    } catch {
      // As above.
    }
  }
  byId("smaller").addEventListener("click", () => change(-1));
  byId("larger").addEventListener("click", () => change(1));
  set(readTextSize());
}

// The End key goes to the newest words from wherever the focus is.
function listenForEnd(lines) {
  addEventListener("keydown", (event) => {
    if (event.key === "End" && !event.defaultPrevented && !event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      lines.jumpToEnd();
    }
  });
}

function watch() {
  const transcript = createTranscript();
  const lines = createLines(
    { box: byId("transcript"), list: byId("lines"), announcer: byId("announcer"), jump: byId("jump") },
    (n) => {
      byId("empty").hidden = n > 0;
      byId("downloads").hidden = n === 0;
    });
  byId("title").textContent = slug;
  document.title = `${slug} – live transcript – Verbacast`;
  for (const id of ["watch", "tools", "legend", "skip", "speak"]) {
    byId(id).hidden = false;
  }
  for (const link of byId("downloads").querySelectorAll("a")) {
    link.href = hrefOf(`/sessions/${slug}/transcript.${link.dataset.format}`);
    link.download = `${slug}.${link.dataset.format}`;
  }
  createTextSize(lines.follow);
  createSpeak({
    form: byId("speak-form"), name: byId("participant"), toggle: byId("speak-toggle"), mute: byId("speak-mute"),
    state: byId("speak-state"),
  }, { slug, token: publishToken });
  listenForEnd(lines);
  connect({
    slug,
    token,
    position: () => transcript.position,
    changed: showState,
    heard(message) {
      for (const step of applyMessage(transcript, message)) {
        if (step.do === "state") {
          showState(step.state, step.reason);
        } else {
          lines.apply(step);
        }
      }
    },
  });
}

function choose() {
  byId("choose").hidden = false;
  byId("state").hidden = slug === "";
  if (slug) {
    showState("refused", "That is not a session's name");
    byId("session").value = slug;
  }
  if (token) {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name: "token", value: token });
    byId("pick").append(field);
  }
  listSessions({ list: byId("sessions"), note: byId("no-sessions") }, (name) => hrefOf("/", { session: name }));
}

byId("home").href = hrefOf("/");
if (SLUG.test(slug)) {
  watch();
} else {
  choose();
}
