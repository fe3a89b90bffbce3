// Why an event was ignored: its homes' fingerprints one under the other, and how the evidence grew.
import { growthChart, clock } from "./charts.js";
import { color } from "./timeline.js";

const AGAIN_MS = 1000;

export class Detail {
  constructor(section) {
    this.section = section;
    this.title = section.querySelector("h2");
    this.body = section.querySelector("#detail-body");
    this.key = "";
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paintStrips());
  }

  async open(event, focus) {
    this.key = event.key;
    this.event = event;
    await this.load();
    if (focus && this.key === event.key) {
      this.section.focus({ preventScroll: true });
      const { top, bottom } = this.section.getBoundingClientRect();
      if (top < 0 || top > innerHeight * 0.6 || bottom < 0) this.section.scrollIntoView({ block: "start" });
    }
  }

  // More homes have joined: what is shown follows, once a second at most.
  changed(event) {
    this.event = event;
    this.title.textContent = this.heading();
    this.timer ??= setTimeout(() => { this.timer = null; this.load(); }, AGAIN_MS);
  }

  async load() {
    const { key } = this;
    let why;
    try {
      const answer = await fetch(`/why/${encodeURIComponent(key)}`);
      why = answer.ok ? await answer.json() : { error: await answer.text() };
    } catch {
      why = { error: "The server of this page does not answer." };
    }
    if (key === this.key) this.show(why);
  }

  show(why) {
    const { event } = this;
    this.why = why;
    this.plot?.destroy();
    this.plot = null;
    this.title.textContent = this.heading();
    this.body.replaceChildren(text("p", "sub", this.facts()));
    if (why.error || !why.homes.length) {
      this.body.append(text("p", "empty", why.error ?? "The sound of these homes was not read here, so there is nothing to compare."));
      return;
    }
    this.body.append(
      text("p", "plain", this.sentence()),
      text("h3", "", "What they heard, bit by bit"),
      legend([["square agrees", "agrees with the others’ average"], ["square differs", "differs"]]),
      this.strips(),
      text("p", "hint", `Time runs to the right, ${Math.round(why.word_ms)} ms a column. Each row asks the sound one question at every moment, such as whether it is getting louder in one band of pitch than in the next; a bit is the answer.`),
      text("h3", "", "How sure, as more was heard"),
      legend([["bar quiet", "these homes"], ["dot quiet", "told to sleep"], ["bar awake dashed", "enough, by itself"], ...(why.stranger ? [["bar all dotted", "a home that was not in it"]] : [])]),
    );
    const chart = text("div", "chart growth", "");
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", this.summary());
    this.body.append(chart, text("p", "hint", "Standard deviations away from coincidence, over the seconds of sound that a home has sent. The first three are decided because they agree with each other, which may be before any of them has enough by itself."));
    this.plot = growthChart(chart, why);
    this.paintStrips();
  }

  heading() { return `Why: ${this.event.homes} homes, one recording`; }

  facts() {
    const { event } = this;
    const heard = event.airing > 1 || event.reason !== "CONCURRENT" ? "a recording heard before" : "heard for the first time";
    const known = event.reason === "KNOWN" ? "from the catalogue of known media" : heard;
    return `${event.wake_word}, ${event.locale} · first told to sleep at ${clock(event.first)} · ${known} · ${event.media}`
      + (event.shadow ? " · shadow: recorded only, nobody acts on it" : "");
  }

  sentence() {
    const { why, event } = this;
    const rates = why.homes.map((home) => lastRate(home)).filter((rate) => rate !== null).sort((a, b) => a - b);
    const middle = rates.length ? rates[Math.floor(rates.length / 2)] : event.rate;
    return `These homes’ sounds differ from the average of the others in ${percent(middle)} of the bits; sounds that have nothing in common differ in `
      + `about ${percent(why.chance)}. Half of the devices were told to sleep within ${(event.used_ms / 1000).toFixed(1)} s of sound.`;
  }

  summary() {
    const best = this.why.homes.map((home) => home.growth.at(-1)?.[1] ?? 0);
    return `Scores of ${best.length} homes, up to ${Math.max(...best).toFixed(1)} standard deviations; enough to decide: ${this.why.threshold}`;
  }

  strips() {
    const { why } = this;
    const grid = text("div", "strips", "");
    this.painted = [];
    const add = (who, row, rate, strong) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Fingerprint: ${who}${rate ? `, ${rate} differ` : ""}`);
      grid.append(text("span", strong ? "who strong" : "who", who), canvas, text("span", "rate", rate));
      this.painted.push([canvas, bits(row, why.bits), row.against && bits({ words: row.against, from: 0 }, why.bits)]);
    };
    add("average", why.average, "", true);
    for (const home of why.homes) add(home.home, home, percent(lastRate(home)));
    const more = this.event.homes - why.homes.length;
    if (more > 0) grid.append(text("span", "who more", `and ${more} more`));
    if (why.stranger) {
      grid.append(text("div", "gap", ""));
      add("not in it", why.stranger, percent(lastRate(why.stranger)));
    }
    return grid;
  }

  paintStrips() {
    const columns = this.painted?.[0]?.[1].columns ?? 0;
    const colors = { bit: rgb("bit"), agrees: rgb("agrees"), differs: rgb("differs") };
    for (const [canvas, own, against] of this.painted ?? []) {
      canvas.width = columns;
      canvas.height = own.rows;
      const context = canvas.getContext("2d");
      const image = context.createImageData(columns, own.rows);
      for (let x = own.from; x < Math.min(columns, own.from + own.columns); x += 1) {
        for (let row = 0; row < own.rows; row += 1) {
          const bit = own.at(x - own.from, row);
          const differs = against && x < against.columns && bit !== against.at(x, row);
          if (!bit && !differs) continue;
          image.data.set(differs ? colors.differs : against ? colors.agrees : colors.bit, 4 * ((own.rows - 1 - row) * columns + x));
        }
      }
      context.putImageData(image, 0, 0);
    }
  }
}

// Words as they are sent: base64, little-endian, `size` bits each, the lowest bit first.
function bits(row, size) {
  const bytes = Uint8Array.from(atob(row.words), (letter) => letter.charCodeAt(0));
  return {
    from: row.from,
    rows: size,
    columns: (bytes.length * 8) / size,
    at: (column, bit) => (bytes[(column * size + bit) >> 3] >> (bit & 7)) & 1,
  };
}

function lastRate(home) { return home.growth.at(-1)?.[2] ?? null; }

function percent(share) { return share === null || share === undefined ? "" : `${Math.round(share * 100)} %`; }

function rgb(name) {
  const value = Number.parseInt(color(name).slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255, 255];
}

export function text(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = content;
  return element;
}

function legend(entries) {
  const list = text("ul", "legend strip-legend", "");
  for (const [className, said] of entries) {
    const item = text("li", "", "");
    item.append(text("i", className, ""), said);
    list.append(item);
  }
  return list;
}
