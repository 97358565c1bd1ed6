"""More than the machine can do: open-loop arrivals at multiples of the peak, and floods beside submissions.

The peak is what the same generator gets out of a closed loop, in turns with the rest: what the generator itself takes
from the cores is then in both. Good is what was accepted within the limit while the load lasted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.benchmark.http_rows import CONNECTIONS, Meter
from loadtests.benchmark.plans import Cycle, get
from loadtests.benchmark.results import Arrivals, Figure, at_least, at_most
from loadtests.benchmark.routes import API, CompletedPoll, Issue
from loadtests.benchmark.senders import LIMIT_SECONDS, Senders, Sending, Volley, most_connections
from loadtests.benchmark.shop import Shop
from loadtests.benchmark.soundness import judge_persistence, persisted_request_ids
from loadtests.verdict import Check

SECTION = "Overload"
MULTIPLES = (1, 2, 3)
MOST_CONNECTIONS = 4_000
FLOOD_CONNECTIONS = 256
FLOOD_AHEAD_SECONDS = 1.0
SUBMISSIONS_OF_PEAK = 0.25
"""What comes in beside a flood: far below what the machine does, so that all of it should be served."""
LEAST_GOODPUT = at_least(0.9)
LONGEST_WAIT_MS = at_most(LIMIT_SECONDS * 1000)
NOBODY = at_most(0)


@dataclass
class _Found:
    """What came of one multiple, round by round."""

    multiple: int
    volleys: list[Volley] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        times = f"{self.multiple}×"
        goodput = tuple(volley.goodput / peak for volley, peak in zip(self.volleys, self.peaks, strict=True))
        longest = tuple(volley.load.longest_ms for volley in self.volleys)
        unserved = tuple(float(volley.load.unanswered + volley.load.broken) for volley in self.volleys)
        refused = max((volley.others_p99_ms for volley in self.volleys), default=0.0)
        return [
            Figure(f"goodput-{self.multiple}x", SECTION, f"goodput at {times} the peak ÷ peak", goodput, "×",
                   LEAST_GOODPUT, _note(self.volleys)),
            Figure(f"longest-{self.multiple}x", SECTION, f"longest wait at {times}", longest, "ms", LONGEST_WAIT_MS,
                   f"refusals p99 {refused:,.0f} ms"),
            Figure(f"unserved-{self.multiple}x", SECTION, f"left without an answer at {times}", unserved, "", NOBODY),
        ]  # fmt: skip


def measure_overload(meter: Meter, shop: Shop, senders: Senders, *, seconds: float, rounds: int) -> float:
    """Arrivals at multiples of the peak, in turns with the peak; the peak, in good answers per second."""
    found = [_Found(multiple) for multiple in MULTIPLES]
    peaks = []
    for number in range(1, rounds + 1):
        label = f"{number}/{rounds}"
        peaks.append(measure_peak(meter, shop, senders, seconds=seconds, label=label))
        for each in found:
            name = f"{each.multiple}× the peak, {label}"
            each.volleys.append(_submit(meter, shop, senders, name, seconds, each.multiple * peaks[-1]))
            each.peaks.append(peaks[-1])
    for each in found:
        meter.results.figures += each.figures()
        meter.results.arrivals.append(arrivals_of(f"{each.multiple}×", each.volleys))
    return sorted(peaks)[len(peaks) // 2]


def measure_peak(meter: Meter, shop: Shop, senders: Senders, *, seconds: float, label: str = "") -> float:
    """What a closed loop gets out of issuing, in good answers per second."""
    return _submit(meter, shop, senders, f"peak {label}".rstrip(), seconds, None).goodput


def measure_mix(meter: Meter, shop: Shop, senders: Senders, peak: float, *, seconds: float, rounds: int) -> None:
    """Submissions that come steadily while polls and product lists flood the same processes."""
    polls = CompletedPoll(meter.stage, shop)
    meter.stage.await_quiet()
    products = get(f"{API}/products")
    flood = Cycle(tuple(request for poll in polls.requests() for request in (poll, products)))
    volleys, floods = [], []
    port = meter.stage.ports["web"]
    for number in range(1, rounds + 1):
        with meter.generator.running(
            port, flood, seconds=seconds + 2 * FLOOD_AHEAD_SECONDS, connections=FLOOD_CONNECTIONS
        ) as running:
            name = f"beside a flood, {number}/{rounds}"
            volleys.append(_submit(meter, shop, senders, name, seconds, peak * SUBMISSIONS_OF_PEAK))
            floods.append(running.finish().per_second)
    served = tuple(volley.good_within_limit / volley.sent for volley in volleys)
    longest = tuple(volley.load.longest_ms for volley in volleys)
    note = f"{_note(volleys)}; flood {sorted(floods)[len(floods) // 2]:,.0f} answers/s"
    meter.results.figures += [
        Figure("mix-goodput", SECTION, "submissions served beside a flood ÷ sent", served, "×", LEAST_GOODPUT, note),
        Figure("mix-longest", SECTION, "longest wait of a submission beside it", longest, "ms", LONGEST_WAIT_MS),
    ]
    meter.results.checks += polls.judge()


def judge_overload(name: str, volley: Volley) -> Check:
    """Who is answered is accepted, or told properly to come again: nothing else may come of too many."""
    load = volley.load
    wrong = load.others_than(202, 503)
    badly_told = load.count(503) - volley.busy_told_well
    detail = (
        f"{load.count(202):,} accepted, {load.count(503):,} BUSY, {badly_told:,} of them told badly; others {wrong}"
    )
    return Check(f"{name}: accepted, or 503 BUSY with Retry-After", not wrong and not badly_told, detail)


def arrivals_of(name: str, volleys: Sequence[Volley]) -> Arrivals:
    """What became of arrivals, as means over the rounds, per second."""
    seconds = sum(volley.load.seconds for volley in volleys)
    accepted = sum(volley.load.count(202) for volley in volleys)
    in_time = sum(volley.good_in_time for volley in volleys)
    return Arrivals(
        name=name,
        in_time=in_time / seconds,
        late=(accepted - in_time) / seconds,
        refused=sum(volley.load.answered for volley in volleys) / seconds - accepted / seconds,
        unanswered=sum(volley.load.unanswered + volley.load.broken for volley in volleys) / seconds,
    )


def _submit(meter: Meter, shop: Shop, senders: Senders, name: str, seconds: float, rate: float | None) -> Volley:
    """Issue a coupon of its own to a crowd, closed loop or at a rate; checked when all is quiet."""
    issue = Issue(meter.stage, shop)
    connections = CONNECTIONS if rate is None else most_connections(MOST_CONNECTIONS)
    volley = senders.send(
        Sending(meter.stage.ports["web"], issue.plan(), seconds, connections, rate=rate, keep_bodies=True)
    )
    load = volley.load
    meter.tell(
        f"{name:<22} sent {volley.sent / load.seconds:>8,.0f} /s   good {volley.goodput:>8,.0f} /s"
        f"   refused {load.count(503) / load.seconds:>8,.0f} /s   longest {load.longest_ms:>8,.0f} ms"
    )
    meter.stage.await_quiet()
    accepted = [json.loads(body)["requestId"] for body in volley.bodies]
    persisted = persisted_request_ids(meter.stage.engine, issue.coupon_id)
    meter.results.checks.append(judge_overload(name, volley))
    # Who is told to come again knows nothing: a decision that takes longer than the web waits is made all the same.
    unheard = load.unanswered + load.broken + load.count(503)
    meter.results.checks.append(judge_persistence(name, accepted, persisted, unheard))
    meter.results.warnings += _limit_of_the_senders(name, load.cpu_share)
    return volley


def _limit_of_the_senders(name: str, share: float) -> list[str]:
    return [f"{name}: the senders used {share:.0%} of what they can"] if share > 0.9 else []


def _note(volleys: Sequence[Volley]) -> str:
    seconds = sum(volley.load.seconds for volley in volleys)
    sent, refused = (
        sum(volley.sent for volley in volleys) / seconds,
        sum(volley.load.count(503) for volley in volleys) / seconds,
    )
    return f"sent {sent:,.0f}/s, refused {refused:,.0f}/s"
