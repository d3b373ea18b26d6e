// One distribution over time as a small drawing: p50 and p95, and a band to compare them with.

export const SPAN_S = 120;
const WIDTH = 300;
const HEIGHT = 80;

export function numberText(value) {
  if (value === null || value === undefined) {
    return "–";
  }
  return Math.abs(value) >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(2 + (Math.abs(value) >= 10));
}

function html(name, className, text) {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text ?? "";
  return element;
}

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
}

// The smallest 1, 2 or 5 times a power of ten that is not below `value`.
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? 10 * power;
}

function linePoints(points, key, highest, now) {
  return points.filter((point) => point[key] !== null)
    .map((point) => `${(WIDTH - (now - point.at) * (WIDTH / SPAN_S)).toFixed(1)},${(HEIGHT * (1 - point[key] / highest)).toFixed(1)}`)
    .join(" ");
}

function createDrawing(band) {
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const rect = svg("rect", { class: "band", x: 0, width: WIDTH });
  const lines = { p95: svg("polyline", { class: "p95" }), p50: svg("polyline", { class: "p50" }) };
  drawing.append(svg("path", { class: "grid", d: `M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}` }),
    ...(band ? [rect] : []), lines.p95, lines.p50);
  return { drawing, rect, lines };
}

// `row` is {name, title, unit, band: [lowest, highest] or null}. Gives {figure, add(distribution, now in s)}.
export function createPlot({ name, title, unit, band }) {
  const points = [];
  const figure = html("figure", "plot");
  const caption = html("figcaption", "", title);
  const code = html("code", "", name);
  const figures = html("p", "figures");
  const scale = html("p", "scale");
  const { drawing, rect, lines } = createDrawing(band);
  caption.append(code);
  figure.dataset.metric = name;
  figure.append(caption, figures, scale, drawing);

  function draw(now) {
    const largest = Math.max(band ? band[1] : 0, ...points.map((point) => point.p95 ?? 0));
    const highest = niceCeiling(largest > 0 ? largest : 1);
    scale.textContent = `${Number(highest.toPrecision(1))} ${unit}`;
    if (band) {
      rect.setAttribute("y", HEIGHT * (1 - band[1] / highest));
      rect.setAttribute("height", Math.max(1, HEIGHT * ((band[1] - band[0]) / highest)));
    }
    Object.entries(lines).forEach(([key, line]) => line.setAttribute("points", linePoints(points, key, highest, now)));
  }

  return {
    figure,
    add(distribution, now) {
      const point = { at: now, p50: distribution?.p50 ?? null, p95: distribution?.p95 ?? null };
      points.push(point);
      while (points[0].at < now - SPAN_S) {
        points.shift();
      }
      const compared = band ? `, to beat: ${band[0]}–${band[1]}` : "";
      figures.textContent = point.p50 === null ? `No samples in the last minute${compared}`
        : `p50 ${numberText(point.p50)}, p95 ${numberText(point.p95)}, p99 ${numberText(distribution.p99)} ${unit}${compared}`;
      drawing.setAttribute("aria-label", `${title}: ${figures.textContent}`);
      draw(now);
    },
  };
}
