// The transcript that a page shows, as plain state: what a message changes, without any DOM.

const TOLD_MAX = 20000; // finals remembered, so that one which is given again is not shown again

export function createTranscript() {
  return { epoch: 0, position: null, history: null, open: new Set(), told: new Set() };
}

// Taken back or never finished: whatever is provisional goes.
function removeOpen(transcript) {
  const steps = [...transcript.open].map((id) => ({ do: "remove", id }));
  transcript.open.clear();
  return steps;
}

function hello(transcript, message) {
  // The open partials are given again: one that was retracted while we were away must not stay.
  const steps = removeOpen(transcript);
  if (transcript.epoch && message.epoch && message.epoch !== transcript.epoch) {
    steps.push({ do: "note", text: "The session began anew." });
  }
  // What a newcomer is given up to here was said before it came.
  transcript.history = transcript.position ? null : { epoch: message.epoch, seq: message.seq };
  transcript.epoch = message.epoch || transcript.epoch;
  steps.push({ do: "state", state: message.state, reason: message.reason });
  return steps;
}

function words(transcript, message) {
  const id = `${message.epoch} ${message.utteranceId}`;
  if (transcript.told.has(id)) {
    return [];
  }
  if (!message.isFinal) {
    transcript.open.add(id);
    return [{ do: "show", id, message, isNews: false }];
  }
  transcript.open.delete(id);
  transcript.told.add(id);
  if (transcript.told.size > TOLD_MAX) {
    transcript.told.delete(transcript.told.values().next().value);
  }
  const { history } = transcript;
  const isNews = !history || message.epoch > history.epoch || (message.epoch === history.epoch && message.seq > history.seq);
  return [{ do: "show", id, message, isNews }];
}

function stepsOf(transcript, message) {
  switch (message.type) {
  case "hello":
    return hello(transcript, message);
  case "transcript":
    return words(transcript, message);
  case "retract": {
    const id = `${message.epoch} ${message.utteranceId}`;
    return transcript.open.delete(id) ? [{ do: "remove", id }] : [];
  }
  case "status":
    return [{ do: "state", state: message.state, reason: message.reason }];
  case "gap":
    return [{ do: "note", text: "Some words are missing here: the server no longer holds them." }];
  case "end":
    return [...removeOpen(transcript), { do: "state", state: "ended", reason: message.reason }];
  default:
    return null;
  }
}

// Applies one message of the server. Gives back, in order, what the page has to do:
// {do: "show", id, message, isNews}, {do: "remove", id}, {do: "note", text}, {do: "state", state, reason}.
export function applyMessage(transcript, message) {
  const steps = stepsOf(transcript, message);
  const last = message.type === "gap" ? message.to : message.seq;
  if (steps && message.type !== "hello" && last !== null && last !== undefined) {
    transcript.position = `${message.epoch}.${last}`;
  }
  return steps ?? [];
}

// Seconds since the session's begin as [h:]mm:ss.
export function clockText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}
