// What the last minute was like: rates from the differences of counters that only grow.

export const WINDOW_MS = 60_000;
const RATE_MS = 900;
/** Refusals are told once a second by each process: over less than two, the rate would be the flushing's, not theirs. */
const REFUSED_RATE_MS = 1900;

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
    const refused = look.gateAnswers ? look.refusals.reduce((sum, each) => sum + each.count, 0) : null;
    this.looks.push({ at, decided: look.decided, recorded: look.recorded, refused });
    while (this.looks.length > 2 && this.looks[1].at < at - 5000) this.looks.shift();
    const point = {
      at,
      decided: this.#rate("decided", RATE_MS),
      recorded: this.#rate("recorded", RATE_MS),
      refused: this.#rate("refused", REFUSED_RATE_MS),
    };
    point.answered = point.decided === null || point.refused === null ? null : point.decided + point.refused;
    this.points.push(point);
    while (this.points.length && this.points[0].at < at - WINDOW_MS) this.points.shift();
    return true;
  }

  latest() {
    return this.points.at(-1) ?? { decided: null, recorded: null, refused: null, answered: null };
  }

  isMoving() {
    const { answered, recorded } = this.latest();
    return (answered ?? 0) > 0 || (recorded ?? 0) > 0;
  }

  peak() {
    return this.points.reduce((most, point) => Math.max(most, point.answered ?? 0, point.decided ?? 0, point.recorded ?? 0), 0);
  }

  /** Per second, over about so long. null when a side did not tell; 0 where a rebuilt lane counts from less. */
  #rate(name, overMs) {
    const now = this.looks.at(-1);
    const before = this.looks.findLast((each) => each.at <= now.at - overMs && each[name] !== null);
    if (now[name] === null || !before) return null;
    return Math.max(0, ((now[name] - before[name]) * 1000) / (now.at - before.at));
  }
}
