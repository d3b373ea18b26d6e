// The transcript that a page shows, as plain state: what a message changes, without any DOM.

export function createTranscript() {
  return { epoch: 0, position: null, partials: new Map() };
}

// Applies one message of the server. Gives back what the page has to do:
// { finals: [message], notes: [text], state, reason, isNewEpoch }.
export function applyMessage(transcript, message) {
  const todo = { finals: [], notes: [], state: null, reason: null, isNewEpoch: false };
  switch (message.type) {
  case "hello":
    todo.isNewEpoch = transcript.epoch !== 0 && message.epoch !== 0 && message.epoch !== transcript.epoch;
    if (todo.isNewEpoch) {
      transcript.partials.clear();
      todo.notes.push("The session began anew.");
    }
    if (message.epoch) {
      transcript.epoch = message.epoch;
    }
    todo.state = message.state;
    todo.reason = message.reason;
    return todo;
  case "transcript":
    if (message.isFinal) {
      transcript.partials.delete(message.utteranceId);
      todo.finals.push(message);
    } else {
      transcript.partials.set(message.utteranceId, message);
    }
    break;
  case "retract":
    transcript.partials.delete(message.utteranceId);
    break;
  case "status":
    todo.state = message.state;
    todo.reason = message.reason;
    break;
  case "gap":
    todo.notes.push("Some words could not be given here.");
    break;
  case "end":
    transcript.partials.clear();
    todo.state = "ended";
    todo.reason = message.reason;
    break;
  default:
    return todo;
  }
  const last = message.type === "gap" ? message.to : message.seq;
  if (last !== null && last !== undefined) {
    transcript.position = `${message.epoch}.${last}`;
  }
  return todo;
}

// Seconds since the session's begin as h:mm:ss.
export function clockText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}
