// The lines of a transcript in the page: one element an utterance, from its first provisional words
// to its final; the reader's place in them; and what a screen reader is told, which is finals only.
import { clockText } from "./transcript.js";

const MAX_LINES = 5000;     // older ones leave the page; the files have them all
const MAX_ANNOUNCED = 20;   // spoken lines that are kept in the region that speaks
const NEAR_END_PX = 48;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text ?? "";
  return made;
}

function hasSpeaker(message) {
  return message.speaker !== null && message.speaker !== undefined;
}

function createLine(id, message) {
  const line = element("li", "line");
  const text = element("p", "text");
  line.dataset.utterance = id;
  line.append(element("time", "", clockText(message.start)), " ", text);
  if (hasSpeaker(message)) {
    text.append(element("span", "speaker", `${message.speaker}: `));
  }
  const words = element("span", "words");
  words.dir = "auto";
  text.append(words);
  return line;
}

function write(line, message) {
  const words = line.querySelector(".words");
  words.textContent = message.text;
  words.lang = message.language ?? "";
  line.classList.toggle("provisional", !message.isFinal);
}

// Takes elements of the page: box (scrolls), list (in it), announcer (the live region), jump (the
// button that goes to the newest line). `changed` is called with the number of lines.
export function createLines({ box, list, announcer, jump }, changed) {
  const shown = new Map(); // id -> element
  let isFollowing = true;
  let nUnread = 0;

  function follow() {
    if (isFollowing) {
      box.scrollTop = box.scrollHeight;
    }
  }

  function showJump() {
    jump.textContent = nUnread === 0 ? "Newest words" : `Newest words (${nUnread} new)`;
    if (isFollowing && document.activeElement === jump) {
      box.focus({ preventScroll: true });
    }
    jump.hidden = isFollowing;
  }

  function jumpToEnd() {
    isFollowing = true;
    nUnread = 0;
    follow();
    showJump();
  }

  function announce(message) {
    const said = element("p", "", (hasSpeaker(message) ? `${message.speaker}: ` : "") + message.text);
    said.lang = message.language ?? "";
    announcer.append(said);
    while (announcer.children.length > MAX_ANNOUNCED) {
      announcer.firstChild.remove();
    }
  }

  function show({ id, message, isNews }) {
    let line = shown.get(id);
    if (!line) {
      line = createLine(id, message);
      shown.set(id, line);
      list.append(line);
      nUnread += isFollowing ? 0 : 1;
    }
    write(line, message);
    if (isNews) {
      announce(message);
    }
  }

  function remove(id) {
    shown.get(id)?.remove();
    shown.delete(id);
  }

  function trim() {
    while (list.children.length > MAX_LINES) {
      shown.delete(list.firstChild.dataset.utterance);
      list.firstChild.remove();
    }
  }

  box.addEventListener("scroll", () => {
    isFollowing = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    nUnread = isFollowing ? 0 : nUnread;
    showJump();
  });
  jump.addEventListener("click", () => {
    jumpToEnd();
    box.focus({ preventScroll: true });
  });
  new ResizeObserver(follow).observe(box);

  return {
    apply(step) {
      if (step.do === "show") {
        show(step);
      } else if (step.do === "remove") {
        remove(step.id);
      } else if (step.do === "note") {
        list.append(element("li", "note", step.text));
      }
      trim();
      showJump();
      follow();
      changed(list.children.length);
    },
    follow,
    jumpToEnd,
  };
}
