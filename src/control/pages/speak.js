// The form below a session's words: a name, and the microphone on or off under it.
import { createMicrophone } from "./microphone.js";

const NAME_KEY = "verbacast.participant";
const NAME_MAX_BYTES = 64;
const TEXTS = {
  off: "",
  asking: "Asking for the microphone",
  on: "You are heard",
  muted: "You are muted",
  reconnecting: "The connection was lost; trying again",
};

function remembered() {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return ""; // storage is refused
  }
}

function remember(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // As above.
  }
}

// What the node takes for a name.
function problemOf(name) {
  return new TextEncoder().encode(name).length > NAME_MAX_BYTES ? "This name is too long." : "";
}

// Takes elements of the page: form, name (its input), toggle and mute (buttons), state (a status).
export function createSpeak({ form, name, toggle, mute, state }, { slug, token }) {
  let isOn = false;
  let isMuted = false;

  function show(now, reason) {
    isOn = now !== "off" && now !== "refused";
    isMuted = now === "muted" || (now === "reconnecting" && isMuted);
    state.dataset.state = now;
    state.textContent = reason ?? TEXTS[now];
    toggle.textContent = isOn ? "Stop" : "Speak";
    name.readOnly = isOn;
    mute.hidden = now !== "on" && now !== "muted";
    mute.setAttribute("aria-pressed", String(isMuted));
  }

  const microphone = createMicrophone({ slug, token, changed: show });
  name.value = remembered();
  name.addEventListener("input", () => name.setCustomValidity(problemOf(name.value.trim())));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isOn) {
      microphone.stop();
      return;
    }
    const wanted = name.value.trim();
    if (wanted) {
      remember(wanted);
      microphone.start(wanted);
    }
  });
  mute.addEventListener("click", () => microphone.setMuted(!isMuted));
  addEventListener("pagehide", () => microphone.stop());
  show("off");
}
