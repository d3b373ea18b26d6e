// The node at a glance: /metrics once a second, each latency against the figures to beat.

const POINTS = 120;
// name -> [lowest, highest] of the system that this one replaces; null: no figure known.
const TARGETS = {
  "gladia.stt_latency_ms.partial": [200, 500],
  "gladia.stt_latency_ms.final": [500, 1000],
  "stt.end_to_transcript_ms": [37, 50],
  "gladia.message_gap_ms": [70, 75],
  "ws.session_broadcast_lag_ms": [0.08, 0.13],
  "ws.fanout_ms": null,
  "ingest.broadcast_latency_ms": null,
  "audio.chunk_size_bytes": [1385, 1600],
};
const history = new Map(Object.keys(TARGETS).map((name) => [name, []]));
let before = null;

const byId = (id) => document.getElementById(id);

function number(value) {
  if (value === null || value === undefined) {
    return "–";
  }
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function line(points, key, highest) {
  return points
    .map((point, index) => (point[key] === null ? null :
      `${(index + POINTS - points.length) * (300 / (POINTS - 1))},${70 - (point[key] / highest) * 64}`))
    .filter((point) => point !== null).join(" ");
}

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
}

function plot(name) {
  const points = history.get(name);
  const target = TARGETS[name];
  const last = points.at(-1);
  const highest = Math.max(1e-9, target ? target[1] * 1.2 : 0, ...points.map((point) => point.p95 ?? 0));
  const figure = document.createElement("figure");
  figure.className = "plot";
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  const text = document.createElement("p");
  text.textContent = `p50 ${number(last.p50)}, p95 ${number(last.p95)}, p99 ${number(last.p99)}` +
    (target ? `; to beat: ${target[0]}–${target[1]}` : "");
  const drawing = svg("svg", { viewBox: "0 0 300 72", preserveAspectRatio: "none", role: "img",
    "aria-label": `${name}: ${text.textContent}` });
  if (target) {
    drawing.append(svg("rect", { class: "target", x: 0, width: 300, y: 70 - (target[1] / highest) * 64,
      height: ((target[1] - target[0]) / highest) * 64 }));
  }
  drawing.append(svg("polyline", { class: "p95", points: line(points, "p95", highest) }));
  drawing.append(svg("polyline", { class: "p50", points: line(points, "p50", highest) }));
  figure.append(caption, drawing, text);
  return figure;
}

function tableRow(cells) {
  const row = document.createElement("tr");
  cells.forEach((cell, index) => {
    const element = document.createElement(index === 0 ? "th" : "td");
    element.textContent = cell;
    element.className = index === 0 ? "" : "number";
    row.append(element);
  });
  return row;
}

function show(metrics, seconds) {
  byId("node").textContent = `${metrics.node.id}, ${metrics.node.version}, up ${Math.round(metrics.node.uptime_s)} s`;
  byId("degraded").replaceChildren(...metrics.node.degraded.map((entry) => {
    const item = document.createElement("li");
    item.textContent = `${entry.what} since ${entry.since}: ${entry.reason}`;
    return item;
  }));
  for (const [name, points] of history) {
    const now = metrics.latency[name] ?? {};
    points.push({ p50: now.p50 ?? null, p95: now.p95 ?? null, p99: now.p99 ?? null });
    points.splice(0, Math.max(0, points.length - POINTS));
  }
  byId("plots").replaceChildren(...[...history.keys()].map(plot));
  byId("sessions").replaceChildren(...Object.entries(metrics.sessions).map(([slug, session]) =>
    tableRow([slug, session.clients, session.queue_size, number(session.broadcast_lag_ms)])));
  byId("counters").replaceChildren(...Object.entries(metrics.counters).map(([name, value]) =>
    tableRow([name, value, before && seconds ? number(((value - (before.counters[name] ?? 0)) / seconds)) : "–"])));
  byId("state").dataset.state = "live";
  byId("state").textContent = metrics.node.degraded.length ? "Serving, degraded." : "Serving.";
}

let lastTime = 0;
async function poll() {
  try {
    const answer = await fetch("/metrics", { cache: "no-store", headers: { accept: "application/json" },
      signal: AbortSignal.timeout(5000) });
    if (!answer.ok) {
      throw new Error(`the node answers ${answer.status}`);
    }
    const metrics = await answer.json();
    const now = performance.now();
    show(metrics, (now - lastTime) / 1000);
    before = metrics;
    lastTime = now;
  } catch (error) {
    byId("state").dataset.state = "offline";
    byId("state").textContent = `No figures: ${error.message}.`;
  }
  setTimeout(poll, 1000);
}
poll();
