// The two charts, drawn by uPlot (https://github.com/leeoniya/uPlot). Their colours are those of palette.css.

import { duration, rate, time, TYPES } from "./format.js";

/* global uPlot */

const DELAYS = [
  { key: "p95", word: "95 % within" },
  { key: "p50", word: "Median" },
];
/** Seconds that an axis of delays may be divided by, or end at. */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000];
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Mix a colour with the background of the card, as canvas cannot use color-mix of CSS variables. */
const faint = (name, percent) => `color-mix(in srgb, ${colour(name)} ${percent}%, ${colour("card")})`;

class Chart {
  #place;
  #plot = null;
  #data = null;
  #lines;
  #window = 0;

  constructor(name, lines) {
    this.#place = document.getElementById(`${name}-chart`);
    this.#lines = lines;
    this.time = document.getElementById(`${name}-time`);
    this.values = legend(document.getElementById(`${name}-legend`), lines);
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(this.#place);
    dark.addEventListener("change", () => this.#rebuild());
  }

  draw(data, seconds) {
    this.#data = data;
    this.#window = seconds;
    if (this.#plot === null) this.#rebuild();
    else this.#plot.setData(data);
    this.#show(this.#plot?.cursor.idx);
  }

  /** What a screen reader says in place of the picture. */
  describe(text) {
    this.#place.setAttribute("aria-label", text);
  }

  #size() {
    return { width: Math.max(this.#place.clientWidth, 120), height: this.#place.clientHeight };
  }

  #rebuild() {
    if (this.#data === null) return;
    this.#plot?.destroy();
    const axis = { stroke: colour("soft"), font: `12px ${getComputedStyle(document.body).fontFamily}`, ticks: { show: false } };
    const options = {
      ...this.#size(),
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: true, range: (_plot, _low, high) => [high - this.#window, high] }, y: { range: (_plot, _low, high) => [0, this.#lines.end(high)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 80, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { ...axis, grid: { stroke: colour("line"), width: 1 }, size: 58, space: 36, incrs: this.#lines.steps, values: (_plot, ticks) => ticks.map(this.#lines.write) },
      ],
      ...this.#lines.style(),
      hooks: { setCursor: [(plot) => this.#show(plot.cursor.idx)] },
    };
    this.#plot = new uPlot(options, this.#data, this.#place);
  }

  /** Write the values at the cursor, or the newest, into the legend. */
  #show(index) {
    const [times] = this.#data;
    const place = index ?? times.length - 1;
    this.time.textContent = index == null || !times.length ? "" : `at ${time(times[place] * 1000)}`;
    this.#lines.at(this.#data, place).forEach((text, number) => {
      if (this.values[number].textContent !== text) this.values[number].textContent = text;
    });
  }
}

export function rateChart() {
  const lines = {
    entries: TYPES,
    write: rate,
    steps: [1, 2, 5].flatMap((factor) => [0.1, 1, 10, 100, 1000, 10_000, 100_000].map((power) => factor * power)).sort((a, b) => a - b),
    end: nice,
    style: () => ({
      // The highest sum first, so that the lower ones are drawn over it.
      series: [{}, ...[...TYPES].reverse().map(({ key }) => ({ stroke: colour(key), width: 1.25, fill: faint(key, 55), points: { show: false } }))],
      bands: TYPES.slice(1).map((_type, index) => ({ series: [index + 1, index + 2] })),
    }),
    at: (data, index) =>
      TYPES.map((_type, place) => {
        const sums = data.slice(1).reverse();
        const sum = sums[place]?.[index];
        return sum == null ? "–" : rate(Math.max(0, sum - (place ? sums[place - 1][index] : 0)));
      }),
  };
  const chart = new Chart("rate", lines);
  return { chart, draw: (series, seconds) => chart.draw([series.columns.t, ...series.stacked().reverse()], seconds) };
}

export function delayChart() {
  const lines = {
    entries: DELAYS,
    write: duration,
    steps: STEPS,
    end: (high) => STEPS.slice(2).find((step) => step >= high * 1.05) ?? high * 1.2,
    style: () => ({
      series: [
        {},
        { stroke: faint("reply", 55), width: 1.5, fill: faint("reply", 12), spanGaps: true, points: { show: false } },
        { stroke: colour("reply"), width: 2, spanGaps: true, points: { show: false } },
      ],
    }),
    at: (data, index) => DELAYS.map((_delay, place) => duration(data[place + 1][index])),
  };
  const chart = new Chart("delay", lines);
  return { chart, draw: (series, seconds) => chart.draw([series.columns.t, ...DELAYS.map(({ key }) => series.columns[key])], seconds) };
}

/** Fill a legend, and return the elements of its values. */
function legend(list, lines) {
  return lines.entries.map(({ key, word }) => {
    const item = document.createElement("li");
    item.dataset.type = key;
    const value = document.createElement("b");
    item.append(document.createElement("i"), word, value);
    list.append(item);
    return value;
  });
}

/** The end of an axis: a little above the highest value, and never 0. */
function nice(high) {
  if (!(high > 0)) return 1;
  const step = 10 ** Math.floor(Math.log10(high));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * step).find((end) => end >= high * 1.05) ?? high * 1.2;
}
