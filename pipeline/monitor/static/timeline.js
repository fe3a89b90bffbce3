// The last minute on a canvas: a line per request, from its first sound to where it stands now.

const OVER_MS = 1500;     // no more audio for so long: the request has ended, and nobody spoke against it
const MAX_REQUESTS = 4000;
const MAX_HOMES = 5000;
const GOLDEN = 0.6180339887498949;
const NEAR_PX = 14;

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export class Timeline {
  constructor(canvas, onOpen) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.requests = new Map();   // label -> {home, at, until, quiet, event}
    this.heights = new Map();    // home -> 0..1
    this.events = new Map();     // key -> {at, last, homes}
    this.chosen = "";
    this.pointer = null;
    this.now = 0;
    this.received = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColors());
    canvas.addEventListener("pointermove", (event) => { this.pointer = [event.offsetX, event.offsetY]; });
    canvas.addEventListener("pointerleave", () => { this.pointer = null; });
    canvas.addEventListener("click", (event) => {
      const found = this.nearest(event.offsetX, event.offsetY);
      if (found?.event) onOpen(found.event);
    });
    this.readColors();
    this.resize();
    const frame = () => {
      if (!this.still.matches) this.draw();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  readColors() {
    this.colors = Object.fromEntries(
      ["ink", "soft", "grid", "panel", "awake-fill", "quiet", "quiet-wash", "quiet-wash-strong", "through"]
        .map((name) => [name, color(name)]));
  }

  resize() {
    const scale = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.spanMs = this.width < 600 ? 30_000 : 60_000;
    this.draw();
  }

  take(news) {
    if (news.reset) { this.requests.clear(); this.events.clear(); }
    // While time goes on at the server, it goes on here between the news too.
    this.runs = news.status.phase !== "ended";
    this.now = news.now;
    this.received = performance.now();
    for (const [label, home, at, until, quiet, event] of news.requests) {
      this.requests.set(label, { home, at, until: Math.max(until, at), quiet, event });
      if (!this.heights.has(home)) {
        if (this.heights.size >= MAX_HOMES) this.heights.clear();
        this.heights.set(home, ((this.heights.size + 1) * GOLDEN) % 1);  // even, however many there are
      }
    }
    for (const [label, one] of this.requests) {
      if (this.requests.size <= MAX_REQUESTS && Math.max(one.until, one.quiet) > news.now - 60_000) continue;
      this.requests.delete(label);
    }
    this.events.clear();
    for (const one of this.requests.values()) {
      if (!one.event) continue;
      const event = this.events.get(one.event) ?? { at: one.at, last: one.quiet, homes: new Set() };
      event.at = Math.min(event.at, one.at);
      event.last = Math.max(event.last, one.quiet);
      event.homes.add(one.home);
      this.events.set(one.event, event);
    }
    if (this.still.matches) this.draw();
  }

  time() { return this.runs ? this.now + Math.min(performance.now() - this.received, 2000) : this.now; }

  state(one, now) { return one.quiet ? "quiet" : now - one.until < OVER_MS ? "awake" : "through"; }

  counts() {
    const found = { awake: 0, quiet: 0, through: 0 };
    const now = this.time();
    for (const one of this.requests.values()) {
      if (Math.max(one.until, one.quiet) > now - this.spanMs) found[this.state(one, now)] += 1;
    }
    return found;
  }

  x(ms, now) { return 10 + (this.width - 24) * (1 - (now - ms) / this.spanMs); }
  y(home) { return 30 + (this.height - 66) * (this.heights.get(home) ?? 0); }
  end(one, now) { return one.quiet || (this.state(one, now) === "awake" ? Math.max(one.until, now - 250) : one.until); }

  nearest(x, y) {
    const now = this.time();
    let best = null, least = NEAR_PX;
    for (const one of this.requests.values()) {
      const from = this.x(one.at, now), to = this.x(this.end(one, now), now);
      const distance = Math.hypot(Math.max(from - x, 0, x - to), this.y(one.home) - y);
      if (distance < least || (distance === least && one.event)) { least = distance; best = one; }
    }
    return best;
  }

  draw() {
    const { context: c, colors, width, height } = this;
    const now = this.time();
    c.clearRect(0, 0, width, height);
    this.drawAxis(c, now);
    this.drawEvents(c, now);
    const groups = { awake: [], quiet: [], through: [] };
    for (const one of this.requests.values()) {
      if (this.x(this.end(one, now), now) > 2) groups[this.state(one, now)].push(one);
    }
    for (const [state, color, alpha] of [["through", colors.through, 0.45], ["quiet", colors["awake-fill"], 0.5], ["awake", colors["awake-fill"], 1]]) {
      c.beginPath();
      for (const one of groups[state]) {
        c.moveTo(Math.max(4, this.x(one.at, now)), this.y(one.home));
        c.lineTo(this.x(this.end(one, now), now), this.y(one.home));
      }
      c.globalAlpha = alpha; c.strokeStyle = color; c.lineWidth = 2; c.lineCap = "round"; c.stroke();
      c.globalAlpha = 1;
    }
    this.drawHeads(c, groups, now);
    this.drawHover(c, now);
  }

  drawHeads(c, groups, now) {
    const { colors } = this;
    c.beginPath();
    for (const one of groups.through) c.roundRect(this.x(one.until, now) - 3.5, this.y(one.home) - 3.5, 7, 7, 2);
    c.fillStyle = colors.through; c.fill();
    c.beginPath();
    for (const one of groups.awake) dot(c, this.x(this.end(one, now), now), this.y(one.home), 4.5);
    c.fillStyle = colors["awake-fill"]; c.fill();
    c.beginPath();
    for (const one of groups.quiet) dot(c, this.x(one.quiet, now), this.y(one.home), 4);
    c.fillStyle = colors.panel; c.fill();
    c.strokeStyle = colors.quiet; c.lineWidth = 2.2; c.stroke();
  }

  drawAxis(c, now) {
    const { colors, height, width } = this;
    c.font = "12px ui-sans-serif, system-ui, sans-serif";
    c.textBaseline = "alphabetic";
    c.strokeStyle = colors.grid; c.lineWidth = 1;
    const step = this.spanMs / (width < 600 ? 3 : 6);
    for (let back = 0; back <= this.spanMs; back += step) {
      const x = Math.round(this.x(now - back, now)) + 0.5;
      c.beginPath(); c.moveTo(x, 22); c.lineTo(x, height - 24); c.stroke();
      c.fillStyle = colors.soft;
      c.textAlign = back === 0 ? "right" : back === this.spanMs ? "left" : "center";
      const edge = back === 0 ? width - 2 : back === this.spanMs ? 2 : x;
      c.fillText(back === 0 ? "now" : `${back / 1000} s${back === this.spanMs ? " ago" : ""}`, edge, height - 7);
    }
  }

  drawEvents(c, now) {
    const { colors, height } = this;
    let labelled = -Infinity;
    for (const [key, event] of [...this.events].sort((a, b) => a[1].at - b[1].at)) {
      const from = this.x(event.at, now) - 6, to = this.x(event.last, now) + 8;
      if (to < 0) continue;
      c.fillStyle = key === this.chosen ? colors["quiet-wash-strong"] : colors["quiet-wash"];
      c.beginPath(); c.roundRect(from, 20, Math.max(to - from, 16), height - 44, 8); c.fill();
      const text = `one recording, ${event.homes.size} homes`;
      const wide = c.measureText(text).width;
      const left = Math.min(Math.max(from, 2), this.width - wide - 2);
      if (left > labelled) {
        c.fillStyle = colors.quiet; c.textAlign = "left";
        c.fillText(text, left, 13);
        labelled = left + wide + 12;
      }
    }
  }

  drawHover(c, now) {
    const found = this.pointer && this.nearest(...this.pointer);
    this.canvas.style.cursor = found?.event ? "pointer" : "default";
    if (!found) return;
    const { colors } = this;
    const seconds = ((this.end(found, now) - found.at) / 1000).toFixed(1);
    const said = { awake: `has sent ${seconds} s so far`, quiet: `told to sleep after ${seconds} s`, through: `let through, ${seconds} s` };
    const text = `home ${found.home}: ${said[this.state(found, now)]}`;
    c.font = "13px ui-sans-serif, system-ui, sans-serif";
    const wide = c.measureText(text).width + 18;
    const x = Math.min(Math.max(this.pointer[0] - wide / 2, 2), this.width - wide - 2);
    const y = Math.max(this.pointer[1] - 40, 2);
    c.fillStyle = colors.ink; c.beginPath(); c.roundRect(x, y, wide, 26, 7); c.fill();
    c.fillStyle = colors.panel; c.textAlign = "left"; c.fillText(text, x + 9, y + 17.5);
  }
}

function dot(context, x, y, radius) {
  context.moveTo(x + radius, y);
  context.arc(x, y, radius, 0, 2 * Math.PI);
}
