// Takes the news from the server and hands them to the parts of the page.
import { clock, latencyChart, requestsChart } from "./charts.js";
import { Detail, text } from "./detail.js";
import { Timeline } from "./timeline.js";

const MAX_SHOWN = 40;      // events in the list
const CHARTS_EVERY_MS = 1000;
const TOGETHER_MS = 10_000;

const at = (id) => document.getElementById(id);
const events = new Map();  // key -> event, the newest last
const rows = new Map();    // key -> its <li>
const detail = new Detail(at("detail"));
const timeline = new Timeline(at("timeline"), (key) => choose(key, true));
const requests = requestsChart(at("chart-requests"));
const latency = latencyChart(at("chart-latency"));
let chosen = "";
let byHand = false;        // the reader has chosen; until then the newest event is shown
let charted = 0;
let pending = [];

function write(id, content, className) {
  const element = at(id);
  if (element.textContent !== content) element.textContent = content;
  if (className !== undefined) element.className = className;
}

const number = (n) => n.toLocaleString("en-GB").replaceAll(",", "\u202f");

function choose(key, focus) {
  const event = events.get(key);
  if (!event) return;
  byHand ||= focus;
  rows.get(chosen)?.firstChild.removeAttribute("aria-current");
  chosen = timeline.chosen = key;
  rows.get(key)?.firstChild.setAttribute("aria-current", "true");
  detail.open(event, focus);
}

function makeRow(key) {
  const item = document.createElement("li");
  const button = text("button", "event", "");
  button.type = "button";
  button.dataset.key = key;
  const line = text("span", "event-line", "");
  line.append(text("span", "", ""), text("time", "", ""));
  button.append(line, text("span", "event-more", ""));
  button.addEventListener("click", () => choose(key, true));
  item.append(button);
  return item;
}

function fillRow(item, event) {
  const [line, more] = item.firstChild.children;
  const set = (element, content) => { if (element.textContent !== content) element.textContent = content; };
  set(line.children[0], `${event.homes} ${event.homes === 1 ? "home" : "homes"}, one recording`);
  set(line.children[1], clock(event.first));
  const again = event.airing > 1 || event.reason !== "CONCURRENT" ? "known recording, " : "";
  set(more, `${again}asleep after ${(event.used_ms / 1000).toFixed(1)} s, ${Math.round(event.rate * 100)} % of the bits differ`);
}

function takeEvents(found, reset) {
  if (reset) { events.clear(); for (const row of rows.values()) row.remove(); rows.clear(); }
  const list = at("event-list");
  for (const event of found.slice(-MAX_SHOWN)) {  // the oldest change first
    const isNew = !events.has(event.key);
    events.set(event.key, event);
    if (isNew) {
      rows.set(event.key, makeRow(event.key));
      list.prepend(rows.get(event.key));
    }
    fillRow(rows.get(event.key), event);
  }
  // Whatever comes, nobody's place is taken away: what is shown, and what the keyboard is on, stays.
  const held = [chosen, document.activeElement?.dataset.key];
  while (events.size > MAX_SHOWN) {
    const oldest = [...events.keys()].find((key) => !held.includes(key));
    events.delete(oldest);
    rows.get(oldest).remove();
    rows.delete(oldest);
  }
  at("no-events").hidden = events.size > 0;
  const shown = events.get(chosen);
  if (!shown || (!byHand && !reset)) {
    const better = [...events.values()].reduce((best, one) => (more(one, best) ? one : best), shown);
    if (better && better !== shown) choose(better.key, false);
  } else if (reset) {
    choose(chosen, false);
  }
}

// Which event to show to somebody who has chosen none: the newest, and of those that came together the largest.
function more(one, than) {
  if (!than || one.first > than.first + TOGETHER_MS) return true;
  return one.homes > than.homes && one.first > than.first - TOGETHER_MS;
}

function showStatus(status) {
  const { phase, note, silent_since: silent, share, shadow } = status;
  const said = phase === "ended" || phase === "waiting" ? note || phase
    : silent ? `the broker does not answer since ${clock(silent)}`
    : share < 1 ? `live; one request in ${Math.round(1 / share)} is read` : "live";
  write("status-text", shadow && phase === "following" && !silent ? `${said}, shadow` : said);
  at("status").dataset.state = phase === "following" ? (silent ? "bad" : "live") : "waiting";
}

function showFigures(f, status) {
  const about = status.share < 1 ? "about " : "";
  write("tile-rate", `${f.per_s.toFixed(1)}/s`);
  write("tile-requests", `${about}${number(f.recent_requests)} in five minutes, ${number(f.requests)} in all`);
  write("tile-share", f.recent_requests ? `${Math.round(Math.min(1, f.recent_quiet / f.recent_requests) * 100)} %` : "–");
  write("tile-quiet", `${number(f.recent_quiet)} in five minutes, ${number(f.quiet)} in all`);
  const [p50, p90, p99] = f.latency_ms ?? [];
  write("tile-latency", f.latency_ms ? `${number(p50)} ms` : "–");
  write("tile-quantiles", f.latency_ms ? `90 % within ${number(p90)}, 99 % within ${number(p99)} ms` : "from the sound’s arrival, half of them");
  write("tile-behind", status.behind === null ? "–" : number(status.behind));
  write("tile-dead", number(f.dead_letters), f.dead_letters ? "bad" : "");
  write("tile-dead-note", f.unreadable ? `and ${number(f.unreadable)} decisions or averages that cannot be read` : "records that could not be read");
  const bounds = [];
  if (status.share < 1) bounds.push(`More is sent than this page reads: one request in ${Math.round(1 / status.share)} is shown, and numbers of requests are estimates.`);
  if (f.dropped) bounds.push(`The oldest ${number(f.dropped)} requests were dropped to make room.`);
  if (f.late) bounds.push(`Decisions that came late: ${number(f.late)}.`);
  write("bounds", bounds.join(" "));
}

function showCounts() {
  const counts = timeline.counts();
  for (const [state, count] of Object.entries(counts)) write(`count-${state}`, number(count));
  write("span", timeline.spanMs === 60_000 ? "minute" : "half minute");
  at("timeline").setAttribute("aria-label",
    `Requests of the last ${timeline.spanMs / 1000} seconds, one line each: ${counts.awake} sending, ${counts.quiet} told to sleep, ${counts.through} let through`);
}

function take(news) {
  timeline.take(news);
  takeEvents(news.events, news.reset);
  if (chosen && news.requests.some((request) => request[5] === chosen)) detail.changed(events.get(chosen));
  showStatus(news.status);
  showFigures(news.figures, news.status);
  showCounts();
  pending = news.reset ? news.series : pending.concat(news.series);
  if (news.reset || news.now - charted > CHARTS_EVERY_MS || news.status.phase === "ended") {
    charted = news.now;
    requests.take(pending.map(([second, all, quiet]) => [second, all, quiet]), news.reset, news.now, 0);
    latency.take(pending.map(([second, , , p50, worst]) => [second, p50, worst]), news.reset, news.now, null);
    pending = [];
  }
}

// News that pile up while the page is busy are taken together, one batch a frame.
const source = new EventSource("/news");
source.onmessage = (message) => take(JSON.parse(message.data));
source.onerror = () => {
  write("status-text", "this page has lost its server and tries again");
  at("status").dataset.state = "bad";
};
