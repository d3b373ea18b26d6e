// The list of sessions to choose from; a name can also be typed, which needs no script.

const REFRESH_MS = 5000;
const STATES = { live: "Live", reconnecting: "Interrupted", stt_down: "Live, words delayed", ended: "Ended" };

function row(session, hrefOf) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const name = document.createElement("span");
  const about = document.createElement("span");
  link.href = hrefOf(session.slug);
  name.className = "name";
  name.textContent = session.slug;
  about.className = "about";
  about.dataset.state = session.state;
  const began = session.startedAt ? `, since ${new Date(session.startedAt * 1000)
    .toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}` : "";
  about.textContent = (STATES[session.state] ?? session.state) + began;
  link.append(name, about);
  item.append(link);
  return item;
}

// What goes on first. A session that never began is not listed: any visitor's typing error makes one.
function toList(sessions) {
  const isOver = (session) => Number(session.state === "ended");
  return sessions.filter((session) => session.state !== "idle")
    .sort((a, b) => isOver(a) - isOver(b) || a.slug.localeCompare(b.slug));
}

// Of all nodes; of this one while the others cannot be asked. Null: this server does not say.
async function askForSessions() {
  for (const path of ["/sessions?all=1", "/sessions"]) {
    const answer = await fetch(path, { cache: "no-store" });
    if (answer.status !== 503) {
      return answer.ok ? answer.json() : null;
    }
  }
  return null;
}

// Fills `list` and keeps it fresh; `note` says what is to be said when it is empty.
export function listSessions({ list, note }, hrefOf) {
  let before = "";
  async function refresh() {
    try {
      const sessions = await askForSessions();
      const text = JSON.stringify(sessions);
      if (text !== before) {
        before = text;
        const rows = toList(sessions ?? []);
        // A link that has the focus must not be taken from under it.
        const focused = document.activeElement?.closest("#sessions a")?.getAttribute("href");
        list.replaceChildren(...rows.map((session) => row(session, hrefOf)));
        [...list.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
        note.textContent = sessions === null ? "This server does not list its sessions: type the name that you were given."
          : "Nobody is speaking at the moment. A session appears here when it begins.";
        note.hidden = rows.length > 0;
      }
    } catch {
      note.textContent = "The server does not answer; trying again.";
      note.hidden = false;
      before = "";
    }
    setTimeout(refresh, REFRESH_MS);
  }
  refresh();
}
