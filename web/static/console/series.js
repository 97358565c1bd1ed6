// What the last two minutes were like: rates from the differences of counters that only grow.

export const WINDOW_MS = 120_000;
const RATE_MS = 900;

export class Series {
  constructor() {
    this.looks = [];
    this.points = [];
  }

  /** Takes a look in; false for one that is not newer than the last, as another process may answer with. */
  add(look) {
    const at = Date.parse(look.takenAt);
    const last = this.looks.at(-1);
    if (last && at <= last.at) return at === last.at;
    this.looks.push({ at, decided: look.decided, recorded: look.recorded });
    while (this.looks.length > 2 && this.looks[1].at < at - 5000) this.looks.shift();
    this.points.push({ at, decided: this.#rate("decided"), recorded: this.#rate("recorded") });
    while (this.points.length && this.points[0].at < at - WINDOW_MS) this.points.shift();
    return true;
  }

  latest() {
    return this.points.at(-1) ?? { decided: null, recorded: null };
  }

  isMoving() {
    const { decided, recorded } = this.latest();
    return (decided ?? 0) > 0 || (recorded ?? 0) > 0;
  }

  peak() {
    return this.points.reduce((most, point) => Math.max(most, point.decided ?? 0, point.recorded ?? 0), 0);
  }

  /** Per second, over about a second. null when a side did not tell; 0 where a rebuilt lane counts from less. */
  #rate(name) {
    const now = this.looks.at(-1);
    const before = this.looks.findLast((each) => each.at <= now.at - RATE_MS && each[name] !== null);
    if (now[name] === null || !before) return null;
    return Math.max(0, ((now[name] - before[name]) * 1000) / (now.at - before.at));
  }
}
