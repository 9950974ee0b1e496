// The bins of the last quarter of an hour, as columns. The number of bins is bounded by the window.

import { TYPES } from "./format.js";

const NAMES = [...TYPES.map((one) => one.type), "p50", "p95"];

/** Columns `t` and NAMES, oldest first. New bins replace those of the same time. */
export class Series {
  constructor() {
    this.clear();
  }

  clear() {
    this.columns = Object.fromEntries(["t", ...NAMES].map((name) => [name, []]));
  }

  merge(bins, window) {
    const known = new Map(this.columns.t.map((start, index) => [start, index]));
    const rows = new Map(this.columns.t.map((start, index) => [start, NAMES.map((name) => this.columns[name][index])]));
    bins.t.forEach((start, index) => {
      const row = NAMES.map((name) => bins[name][index]);
      // After a new connection the service may know less of the past than this page.
      if (!known.has(start) || row.some((value) => value !== null)) rows.set(start, row);
    });
    const newest = Math.max(...rows.keys());
    const starts = [...rows.keys()].filter((start) => start > newest - window).sort((a, b) => a - b);
    this.columns = { t: starts };
    NAMES.forEach((name, place) => (this.columns[name] = starts.map((start) => rows.get(start)[place])));
  }

  /** The mean rate of all types over the last complete bins; null before the first one. */
  rate(bins = 2) {
    const last = this.columns.t.length;
    const sums = [];
    for (let index = Math.max(0, last - bins); index < last; index++) {
      sums.push(TYPES.reduce((sum, { type }) => sum + (this.columns[type][index] ?? 0), 0));
    }
    return sums.length ? sums.reduce((a, b) => a + b, 0) / sums.length : null;
  }

  /** For each type, the sum of its rates and of those below it. */
  stacked() {
    const sums = [];
    let below = this.columns.t.map(() => 0);
    for (const { type } of TYPES) {
      below = this.columns[type].map((value, index) => (value === null || below[index] === null ? null : below[index] + value));
      sums.push(below);
    }
    return sums;
  }
}
