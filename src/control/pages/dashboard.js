// The node at a glance: /metrics once a second.
import { createPlot, numberText } from "./plot.js";

const POLL_MS = 1000;
// band: [lowest, highest] of the system that this one replaces; null: no figure known.
const PLOTS = [
  { name: "gladia.stt_latency_ms.partial", title: "Speech to provisional words", unit: "ms", band: [200, 500] },
  { name: "gladia.stt_latency_ms.final", title: "Speech to final words", unit: "ms", band: [500, 1000] },
  { name: "ingest.broadcast_latency_ms", title: "Words to the first viewer", unit: "ms", band: null },
  { name: "ws.fanout_ms", title: "Words to the last viewer", unit: "ms", band: null },
  { name: "ws.session_broadcast_lag_ms", title: "Wait before sending", unit: "ms", band: [0.08, 0.13] },
  { name: "stt.end_to_transcript_ms", title: "Last audio sent to words", unit: "ms", band: [37, 50] },
  { name: "gladia.message_gap_ms", title: "Between two transcripts", unit: "ms", band: [70, 75] },
  { name: "audio.chunk_size_bytes", title: "Audio per message", unit: "bytes", band: [1385, 1600] },
];
const TROUBLE = new RegExp("_(errors|drops|dropped|lost|refused|timeouts|failures|conflicts|poisoned|closed|gaps|overflows|flaps)_" +
  "|[._](lost|refusals|errors|timeouts|corrupt|malformed|undecodable|conflicts|poisoned|gaps|out_of_memory|reconnects|bad)_" +
  "|dropped_ms_total|lane_full");
const STATES = { live: "Live", reconnecting: "Publisher lost", stt_down: "STT away" };

const byId = (id) => document.getElementById(id);
const plots = PLOTS.map((row) => ({ name: row.name, ...createPlot(row) }));
let before = null;
let beforeAt = 0;

function durationText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => whole >= size);
  return (first < 0 ? parts.slice(-1) : parts.slice(first, first + 2))
    .map(([size, unit], index) => `${Math.floor((index ? whole % parts[first][0] : whole) / size)} ${unit}`).join(" ");
}

function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

// Rows are written over, not made anew: what is selected or read stays where it is.
function fillTable(body, rows) {
  while (body.rows.length > rows.length) {
    body.lastChild.remove();
  }
  rows.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    cells.forEach((cell, column) => {
      if (!row.cells[column]) {
        const made = document.createElement(column === 0 ? "th" : "td");
        made.scope = column === 0 ? "row" : "";
        row.append(made);
      }
      row.cells[column].className = typeof cell === "number" || column > 1 ? "number" : "";
      write(row.cells[column], typeof cell === "number" ? cell.toLocaleString("en") : cell);
    });
  });
}

function rate(metrics, name, now) {
  return before ? ((metrics.counters[name] ?? 0) - (before.counters[name] ?? 0)) / (now - beforeAt) : null;
}

function tile(id, value, isTrouble) {
  write(byId(id), typeof value === "number" ? value.toLocaleString("en") : value);
  byId(id).parentElement.classList.toggle("trouble", Boolean(isTrouble));
}

function showTiles(metrics, now) {
  const { counters, gauges } = metrics;
  tile("tile-sessions", Object.keys(metrics.sessions).length);
  tile("tile-viewers", gauges["ws.viewers"] ?? 0);
  tile("tile-delivered", before ? `${numberText(rate(metrics, "ws.delivered_total", now))}/s` : "–");
  tile("tile-gaps", counters["ws.queue_drops_total"] ?? 0, counters["ws.queue_drops_total"] > 0);
  tile("tile-lost", counters["journal.lost_total"] ?? 0, counters["journal.lost_total"] > 0);
}

function showDegraded(degraded, unixSeconds) {
  byId("degraded").hidden = degraded.length === 0;
  byId("degraded").replaceChildren(...degraded.map((entry) => {
    const item = document.createElement("li");
    const what = document.createElement("strong");
    what.textContent = entry.what;
    item.append(what, ` for ${durationText(unixSeconds - entry.since)}: ${entry.reason}`);
    return item;
  }));
}

function showTables(metrics, now) {
  const sessions = Object.entries(metrics.sessions);
  fillTable(byId("sessions"), sessions.map(([slug, session]) => [slug, STATES[session.state] ?? session.state, session.clients,
    session.queue_size, numberText(session.broadcast_lag_ms)]));
  byId("no-sessions").hidden = sessions.length > 0;
  const counters = Object.entries(metrics.counters).sort(([a], [b]) => a.localeCompare(b))
    .map(([name, value]) => [name, value, numberText(rate(metrics, name, now))]);
  const trouble = counters.filter(([name, value]) => value > 0 && TROUBLE.test(name));
  fillTable(byId("trouble"), trouble);
  byId("trouble-table").hidden = trouble.length === 0;
  byId("no-trouble").hidden = trouble.length > 0;
  fillTable(byId("counters"), counters);
}

function show(metrics, now) {
  const { node } = metrics;
  write(byId("node"), `${node.id}, version ${node.version}, up ${durationText(node.uptime_s)}`);
  showDegraded(node.degraded, Date.now() / 1000);
  showTiles(metrics, now);
  plots.forEach(({ name, add }) => add(metrics.latency[name], now));
  showTables(metrics, now);
  byId("state").dataset.state = node.degraded.length ? "reconnecting" : "live";
  write(byId("state"), node.degraded.length ? "Serving, degraded" : "Serving");
}

async function poll() {
  try {
    const answer = await fetch("/metrics", { cache: "no-store", headers: { accept: "application/json" },
      signal: AbortSignal.timeout(5000) });
    if (!answer.ok) {
      throw new Error(`the node answers ${answer.status}`);
    }
    const metrics = await answer.json();
    const now = performance.now() / 1000;
    show(metrics, now);
    before = metrics;
    beforeAt = now;
  } catch (error) {
    byId("state").dataset.state = "offline";
    write(byId("state"), `No figures: ${error.message}`);
  }
  setTimeout(poll, POLL_MS);
}

byId("plots").append(...plots.map((plot) => plot.figure));
poll();
