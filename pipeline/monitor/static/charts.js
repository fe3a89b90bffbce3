// Charts by uPlot, in the page's colours.
import { color } from "./timeline.js";

const FONT = "12px ui-sans-serif, system-ui, sans-serif";
const SERIES_S = 300;

function axis(more) {
  return { stroke: () => color("soft"), font: FONT, grid: { stroke: () => color("grid"), width: 1 }, ticks: { show: false }, ...more };
}

function chart(element, series, options) {
  const size = () => ({ width: Math.max(element.clientWidth, 120), height: element.clientHeight || 170 });
  const plot = new uPlot({
    ...size(),
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } },
    padding: [8, 14, 0, 0],
    series: [{}, ...series],
    ...options,
  }, [[], ...series.map(() => [])], element);
  new ResizeObserver(() => plot.setSize(size())).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw(false, true));
  return plot;
}

// Two series of five minutes, a point a second.
export class SecondsChart {
  constructor(element, series) {
    this.seconds = new Map();
    this.plot = chart(element, series, {
      axes: [axis({ space: 44, size: 26, values: (_, at) => at.map((s) => clock(s * 1000).slice(0, 5)) }), axis({ size: 40, space: 32 })],
      scales: { x: { time: true }, y: { range: (_, __, most) => [0, Math.max(4, most ?? 0) * 1.1] } },
    });
  }

  take(rows, reset, now, absent) {
    if (reset) this.seconds.clear();
    for (const [second, ...values] of rows) this.seconds.set(second, values);
    const last = Math.floor(now / 1000);
    for (const second of this.seconds.keys()) if (second < last - SERIES_S) this.seconds.delete(second);
    const xs = Array.from({ length: SERIES_S }, (_, n) => last - SERIES_S + n);
    const column = (n) => xs.map((second) => this.seconds.get(second)?.[n] ?? absent);
    this.plot.setData([xs, column(0), column(1)]);
  }
}

export function requestsChart(element) {
  return new SecondsChart(element, [
    { stroke: () => color("soft"), width: 1.5, points: { show: false } },
    { stroke: () => color("quiet"), width: 1.5, fill: () => color("quiet-wash-strong"), points: { show: false } },
  ]);
}

export function latencyChart(element) {
  const points = (name) => ({ stroke: () => color(name), paths: () => null, points: { show: true, size: 6, stroke: () => color(name), fill: () => color(name) } });
  return new SecondsChart(element, [points("quiet"), points("awake-fill")]);
}

// How sure each home's match is, over the audio that was heard; the line that has to be crossed; a stranger.
export function growthChart(element, why) {
  const curves = [...why.homes.map((home) => home.growth), why.stranger?.growth ?? []];
  const xs = [...new Set(curves.flat().map(([ms]) => ms))].sort((a, b) => a - b);
  const column = (curve) => {
    const found = new Map(curve.map(([ms, score]) => [ms, score]));
    return xs.map((ms) => found.get(ms) ?? null);
  };
  const line = (name, width, dash) => ({ stroke: () => color(name), width, dash, points: { show: false }, spanGaps: true });
  const series = [
    ...why.homes.map(() => line("quiet", 1.5)),
    line("soft", 1.5, [2, 4]),
    line("awake", 1.5, [7, 5]),
  ];
  const plot = chart(element, series, {
    hooks: { draw: [(u) => drawDecided(u, why.homes)] },
    axes: [axis({ space: 60, size: 26, values: (_, at) => at.map((s) => `${s.toFixed(1)} s`) }), axis({ size: 34, space: 34 })],
    scales: { x: { time: false }, y: { range: (_, least, most) => [Math.min(-3, least), Math.max(8, most) + 1] } },
  });
  plot.setData([xs.map((ms) => ms / 1000), ...curves.map(column), xs.map(() => why.threshold)]);
  return plot;
}

// A ring where each home was told to sleep, as on the timeline.
function drawDecided(plot, homes) {
  const { ctx: context } = plot;
  context.save();
  context.setLineDash([]);
  context.lineWidth = 2 * devicePixelRatio;
  context.strokeStyle = color("quiet");
  context.fillStyle = color("panel");
  for (const { growth, decided } of homes) {
    const at = growth.filter(([ms]) => ms <= decided.used_ms).at(-1);
    if (!at) continue;
    context.beginPath();
    context.arc(plot.valToPos(at[0] / 1000, "x", true), plot.valToPos(at[1], "y", true), 4 * devicePixelRatio, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
  context.restore();
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB", { hour12: false });
}
