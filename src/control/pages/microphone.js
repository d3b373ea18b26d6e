// The microphone of whoever reads the page, as one participant's stream of its session: raw PCM by
// WebSocket, connected again when it is lost.

const RATE_MAX_HZ = 96000;
const RATE_OTHERWISE_HZ = 48000;
const UNSENT_MAX_BYTES = 1024 * 1024; // about ten seconds: what comes beyond is a hole
const STUCK_MS = 5000;        // nothing of what waits goes out for so long: nobody takes it any more
const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 10000;
const STEADY_MS = 5000;       // a connection that ends sooner is tried again as one that failed
const ASK_TIMEOUT_MS = 5000;
// Closes after which nothing is tried: the node does not want this stream.
const FINAL_CLOSES = {
  1000: "The session was closed.",
  1003: "The server does not take this sound.",
  1009: "The server does not take this sound.",
  4002: "Another stream has taken this one's place.",
  4003: "The operator closed this stream.",
};

async function openMicrophone() {
  if (!navigator.mediaDevices) {
    throw new Error("A browser gives the microphone to pages over HTTPS, or of this machine, only.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "The microphone was not allowed."
      : error.name === "NotFoundError" ? "There is no microphone." : `The microphone cannot be used: ${error.message}`);
  }
}

function openContext() {
  const context = new AudioContext();
  if (context.sampleRate <= RATE_MAX_HZ) {
    return context;
  }
  context.close();
  return new AudioContext({ sampleRate: RATE_OTHERWISE_HZ });
}

// `changed` gets "asking", "on", "muted", "reconnecting", "off", or "refused" with a reason.
export function createMicrophone({ slug, token, changed }) {
  let current = null; // what belongs to one start: nothing of an older one is listened to

  function urlOf({ participant, context }, protocol) {
    const url = new URL(`/ingest/livekit/${encodeURIComponent(slug)}`, location.href);
    url.protocol = protocol;
    const values = { participant, rate: Math.round(context.sampleRate), channels: 1, ...(token ? { token } : {}) };
    // Not URLSearchParams: that writes a blank as "+".
    url.search = Object.entries(values).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    return url;
  }

  // Also what came after its end.
  function letGo(mine) {
    mine.stream?.getTracks().forEach((track) => track.stop());
    if (mine.context && mine.context.state !== "closed") {
      mine.context.close();
    }
  }

  function end(mine, state, reason) {
    if (current !== mine) {
      return;
    }
    current = null;
    clearTimeout(mine.timer);
    letGo(mine);
    if (mine.socket) {
      mine.socket.close(1000);
    }
    changed(state, reason);
  }

  function showOn(mine) {
    changed(mine.isMuted ? "muted" : "on");
  }

  function retry(mine) {
    const wait = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(mine.attempts++, 6)) * (0.5 + Math.random() / 2);
    mine.socket = null;
    changed("reconnecting");
    mine.timer = setTimeout(() => connect(mine), wait);
  }

  function lose(mine) {
    if (performance.now() - mine.openedAt > STEADY_MS) {
      mine.attempts = 0;
    }
    retry(mine);
  }

  // A page is not told why its handshake was refused; the same address asked without one says so.
  async function askWhyRefused(mine) {
    let reason = null;
    try {
      const answer = await fetch(urlOf(mine, location.protocol), { cache: "no-store", signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
      if (answer.status !== 426 && answer.status !== 429 && answer.status < 500) {
        reason = (await answer.json()).error;
      }
    } catch {
      // Nobody answers there either: it is tried again.
    }
    if (current === mine) {
      reason ? end(mine, "refused", reason) : retry(mine);
    }
  }

  function connect(mine) {
    const socket = new WebSocket(urlOf(mine, location.protocol === "https:" ? "wss:" : "ws:"));
    let wasOpen = false;
    mine.socket = socket;
    mine.given = mine.taken = 0;
    socket.addEventListener("open", () => {
      wasOpen = true;
      mine.openedAt = mine.takenAt = performance.now();
      if (mine.isMuted) {
        sendMuted(mine);
      }
      showOn(mine);
    });
    socket.addEventListener("close", (event) => {
      if (current !== mine || mine.socket !== socket) {
        return;
      }
      if (!wasOpen) {
        askWhyRefused(mine);
      } else if (event.code in FINAL_CLOSES) {
        end(mine, "refused", FINAL_CLOSES[event.code]);
      } else {
        lose(mine);
      }
    });
  }

  // A page is not told that the network stands still: what it sends lies in the browser.
  function isStuck(mine) {
    const waiting = mine.socket.bufferedAmount;
    if (waiting === 0 || mine.given - waiting > mine.taken) {
      mine.taken = mine.given - waiting;
      mine.takenAt = performance.now();
    }
    return performance.now() - mine.takenAt > STUCK_MS;
  }

  // It waits as sound does.
  function sendMuted(mine) {
    const text = JSON.stringify({ muted: mine.isMuted });
    mine.given += text.length;
    mine.socket.send(text);
  }

  function send(mine, piece) {
    const socket = mine.socket;
    if (current !== mine || mine.isMuted || socket?.readyState !== WebSocket.OPEN) {
      return;
    }
    if (isStuck(mine)) {
      lose(mine);
      socket.close();
    } else if (socket.bufferedAmount < UNSENT_MAX_BYTES) {
      mine.given += piece.byteLength;
      socket.send(piece);
    }
  }

  async function listen(mine) {
    mine.stream = await openMicrophone();
    mine.context = openContext();
    await mine.context.audioWorklet.addModule("/pages/microphone-worklet.js");
    const pcm = new AudioWorkletNode(mine.context, "pcm", { numberOfOutputs: 0 });
    pcm.port.addEventListener("message", (event) => send(mine, event.data));
    pcm.port.start();
    mine.context.createMediaStreamSource(mine.stream).connect(pcm);
    mine.stream.getTracks().forEach((track) => track.addEventListener("ended", () =>
      end(mine, "refused", "The microphone was taken away.")));
    await mine.context.resume();
    // A phone stops it for a call: meanwhile it is "interrupted", and then left so.
    mine.context.addEventListener("statechange", () => {
      if (current === mine && mine.context.state === "suspended") {
        mine.context.resume().catch(() => {}); // it is told when that changes
      }
    });
  }

  return {
    async start(participant) {
      const mine = { participant, attempts: 0, isMuted: false };
      current = mine;
      changed("asking");
      try {
        await listen(mine);
        if (current === mine) {
          connect(mine);
        }
      } catch (error) {
        end(mine, "refused", error.message);
      }
      if (current !== mine) { // stopped meanwhile
        letGo(mine);
      }
    },
    stop() {
      if (current) {
        end(current, "off");
      }
    },
    setMuted(isMuted) {
      if (current?.socket && current.isMuted !== isMuted) {
        current.isMuted = isMuted;
        if (current.socket.readyState === WebSocket.OPEN) {
          current.takenAt = performance.now(); // nobody has looked while it was muted
          sendMuted(current);
          showOn(current);
        }
      }
    },
  };
}
