"""The policy of one route: growing fingerprints in, IGNORE out. Pure: state and event in, state and decisions out.

Time is the data's: everything here happens at the capture time of the chunk that is heard, and nothing depends on how
chunks were batched. Whatever is not sure, or has no room, is not ignored.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from matcher.bits import BITS_PER_WORD, WORD_MS
from matcher.blocked import Blocked
from matcher.budget import Budget
from matcher.catalogue import Average, Catalogue
from matcher.event import Event, Triple
from matcher.evidence import MIN_WORDS, Calibration, Evidence
from matcher.fingerprint import LOOK_MS, look_due_ms
from matcher.growth import Growth
from matcher.known import KnownMatch
from matcher.observer import Observer
from matcher.outcome import Ignore, Outcome, Reason
from matcher.policy import Policy
from matcher.search import Search
from matcher.window import Request, Window

# An airing reaches the last home so long after the others: streams lag behind, and recorders are paused.
AIRING_US = 60_000_000
# A household that asks again so soon after it was ignored may have been a person: the proxy for false ignores.
ASKED_AGAIN_US = 10_000_000


def household_digest(household: str) -> str:
    """Give what an order to erase a household calls it."""
    return hashlib.blake2b(household.encode(), digest_size=16).hexdigest()


class Route:
    """The window, the open events and the catalogue of one (wake word, locale, shard)."""

    def __init__(self, name: str, policy: Policy, calibration: Calibration) -> None:
        """`name` is the origin that its averages carry, unique among routes and shards."""
        self.name = name
        self.policy = policy
        self.calibration = calibration
        self.budget = Budget.of(calibration, policy)
        self.window = Window(calibration, policy.window_requests)
        self.catalogue = Catalogue(calibration, policy.catalogue_entries)
        self.blocked = Blocked(calibration, policy.catalogue_entries)
        self.events: dict[str, Event] = {}
        self.ignored_at_us: dict[str, int] = {}  # by household, the latest last, for as long as it may ask again
        self.erased_until_us: dict[str, int] = {}  # by digest of a household: its requests of before are not heard
        self.recognised_at_us: dict[str, int] = {}  # by request id, the latest last: what may come again of it is over
        self.now_us = -(2**62)  # event time: the latest end of a growth, or the latest low mark
        self._closes_us = self.now_us  # no event is over before
        self.search = Search(calibration, self.budget, self.window, self.events, policy.partners)
        self._appended_us = 0  # when the chunk was appended that is being heard

    @property
    def observer(self) -> Observer | None:
        """Who watches it decide."""
        return self.search.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self.search.observer = observer

    def hear(self, growths: Sequence[Growth], low_mark_us: int, halvings: int = 0) -> Outcome:
        """Take growths in the order of their capture, then let the event time reach the mark.

        With each of the `halvings`, a request draws half as many partners, and the whole window is looked through, and
        swept, half as often. Every threshold stays what it is.
        """
        outcome = Outcome()
        self.search.halvings = halvings
        for growth in growths:
            self._expire(growth.end_us, outcome)
            self._hear(growth, outcome)
        self._expire(low_mark_us, outcome)
        return outcome

    def learn(self, average: Average) -> Outcome:
        """Take an average from elsewhere: another shard's, or one's own from before a restart."""
        outcome = Outcome()
        known = self.catalogue.averages.get(average.media_id)
        own = average.origin == self.name
        # An echo of one's own may be of an earlier stage: what is here is at least as good.
        if average.media_id in self.events or (
            known is not None and known.households >= average.households + (not own)
        ):
            return outcome
        if self.blocked.has(average.media_id, average.words, outcome.counts):
            return outcome
        if not own:
            average = replace(
                average,
                valid_from_us=max(average.valid_from_us, average.discovered_us + self.policy.discovery_delay_us),
            )
        outcome.dropped_averages += [a.media_id for a in self.catalogue.put(average)]
        return outcome

    def forget(self, media_id: str) -> bool:
        """Withdraw an average; tells whether there was one."""
        self.events.pop(media_id, None)
        return self.catalogue.remove(media_id)

    def block(self, average: Average) -> Outcome:
        """Withdraw an average for good: neither it nor anything that sounds like it decides, or is found again."""
        outcome = Outcome()
        known = self.catalogue.averages.get(average.media_id)
        if known is not None and known.households > average.households:
            average = known
        left = self.blocked.block(average)
        outcome.counts["blocked_overflow"] += len(left)
        for media_id, similar in list(self.catalogue.averages.items()):
            if media_id in self.blocked.averages or self.blocked.sounds(
                similar.words, self.catalogue.own(media_id), outcome.counts
            ):
                self._withdraw(media_id, outcome)
        for media_id, event in list(self.events.items()):
            if self.blocked.has(media_id, event.average()[0], outcome.counts):
                self._withdraw(media_id, outcome)
        return outcome

    def unblock(self, media_id: str) -> bool:
        """Let what was blocked be found again; tells whether it was."""
        return self.blocked.remove(media_id)

    def erase(self, digest: str, until_us: int) -> Outcome:
        """Forget the household of this digest: its requests that started up to a time, and its votes in open events.

        An event's average is made again without it, under another name, so that whoever has the old one loses it.
        """
        outcome = Outcome()
        self.erased_until_us[digest] = max(until_us, self.erased_until_us.get(digest, until_us))
        for request in list(self.window.requests.values()):
            if request.start_us <= until_us and household_digest(request.household) == digest:
                self.window.remove(request)
                outcome.counts["erased_requests"] += 1
        for household in [household for household in self.ignored_at_us if household_digest(household) == digest]:
            del self.ignored_at_us[household]
        for event in list(self.events.values()):
            for household in [household for household in event.households if household_digest(household) == digest]:
                event.leave(household)
                outcome.counts["erased_votes"] += 1
                self._rename(event, outcome)
        return outcome

    def _rename(self, event: Event, outcome: Outcome) -> None:
        """Give an event that lost a household another name and a new average; one of two households ends."""
        self._withdraw(event.media_id, outcome)
        if len(event.households) < 3:
            return
        renamed = "d-" + hashlib.blake2b(f"{event.media_id}\nwithout".encode(), digest_size=8).hexdigest()
        for request in self.window.requests.values():
            if request.event == event.media_id:
                request.event = renamed
        event.media_id = renamed
        event.published_households = 0
        self.events[renamed] = event
        self._rebuild(event, event.rebuilt_us, outcome)

    # ---- hearing -------------------------------------------------------------------------------------------------

    def _hear(self, growth: Growth, outcome: Outcome) -> None:
        if self.erased_until_us:
            until_us = self.erased_until_us.get(household_digest(growth.household))
            if until_us is not None and growth.start_us <= until_us:
                outcome.counts["erased_growths"] += 1
                return
        request = self.window.requests.get(growth.request_id)
        if growth.request_id in self.recognised_at_us:
            return
        if growth.known is not None:
            self._recognise(growth, growth.known, request, outcome)
            return
        if request is None:
            if growth.start_us < self.now_us - self.policy.window_us:
                outcome.counts["too_late"] += 1
                return
            request, left = self.window.add(growth.request_id, growth.household, growth.device, growth.start_us)
            outcome.counts["window_overflow"] += len(left) + (request is None)
            if request is None:
                return
            self._count(growth, outcome)
        due_ms = look_due_ms(growth.audio_ms)
        if due_ms <= request.looked_ms:
            return  # a reader that was restarted gives again what it gave before
        request.looked_ms, request.audio_ms, request.leaning = due_ms, growth.audio_ms, growth.leaning
        self.window.put(request, growth.words, growth.level_range_db)
        self._appended_us = growth.appended_us
        if request.event in self.events:
            self.events[request.event].grow(request.request_id, self.window.fingerprint(request))
            self.events[request.event].lean(growth.leaning)
        self._look(request, growth.end_us, outcome)

    def _count(self, growth: Growth, outcome: Outcome) -> None:
        """Count a request that was not heard before."""
        outcome.counts["requests"] += 1
        ignored_us = self.ignored_at_us.get(growth.household)
        if ignored_us is not None and ignored_us < growth.start_us <= ignored_us + ASKED_AGAIN_US:
            outcome.counts["asked_again"] += 1

    def _recognise(self, growth: Growth, known: KnownMatch, request: Request | None, outcome: Outcome) -> None:
        """Ignore a request that the reader knows, unless what it knows sounds blocked here: it needs no window."""
        self.recognised_at_us[growth.request_id] = growth.end_us
        if len(self.recognised_at_us) > self.policy.window_requests:
            del self.recognised_at_us[next(iter(self.recognised_at_us))]
        if request is None:
            self._count(growth, outcome)
        elif request.ignored:
            return
        # What is too short to be held against what is blocked may be that.
        short = bool(self.blocked.averages) and len(growth.words) < MIN_WORDS
        blocked = short or self.blocked.has(known.media_id, growth.words, outcome.counts)
        if self.observer is not None:
            self.observer.known(growth, known, blocked=blocked)
        if blocked:
            return
        if request is not None:
            self.window.mark_ignored(request)
        self._appended_us = growth.appended_us
        version = known.catalogue_version
        self._tell(
            growth, Reason.KNOWN, known.media_id, known.households, known.evidence, version, growth.end_us, outcome,
            known.calibration,
        )  # fmt: skip

    def _expire(self, now_us: int, outcome: Outcome) -> None:
        """Let event time pass: by the growths themselves, so that it does not matter how they were batched."""
        if now_us <= self.now_us:
            return
        self.now_us = now_us
        self.window.expire(now_us - self.policy.window_us)
        if self.erased_until_us:
            over_us = now_us - self.policy.window_us  # what started before is not let in anyway
            self.erased_until_us = {name: us for name, us in self.erased_until_us.items() if us >= over_us}
        while self.ignored_at_us:
            household = next(iter(self.ignored_at_us))
            if self.ignored_at_us[household] >= now_us - ASKED_AGAIN_US - self.policy.window_us:
                break
            del self.ignored_at_us[household]
        while self.recognised_at_us:
            request_id = next(iter(self.recognised_at_us))
            if self.recognised_at_us[request_id] >= now_us - 2 * self.policy.window_us:
                break
            del self.recognised_at_us[request_id]
        if now_us > self._closes_us:
            for event in list(self.events.values()):
                if event.last_joined_us < now_us - AIRING_US:
                    self._rebuild(event, event.rebuilt_us, outcome, closing=True)
                    self.events.pop(event.media_id, None)
            last_joined_us = (event.last_joined_us for event in self.events.values())
            self._closes_us = min(last_joined_us, default=now_us - AIRING_US) + AIRING_US
        outcome.dropped_averages += self.catalogue.expire(now_us)

    # ---- looking -------------------------------------------------------------------------------------------------

    def _look(self, request: Request, at_us: int, outcome: Outcome) -> None:
        outcome.counts["looks"] += 1
        if request.ignored:
            if request.event in self.events:
                self._refresh(self.events[request.event], at_us, outcome)
            return
        if self._request_is_blocked(request, outcome):
            if self.observer is not None:
                self.observer.blocked(request)
            return
        words = self.window.fingerprint(request)
        match, tried = self.catalogue.best(words, self.window.owns[request.row], at_us)
        outcome.counts["catalogue_comparisons"] += tried
        event = self.events.get(match[0].media_id) if match is not None else None
        threshold = self._template_threshold(event, tried)
        if self.observer is not None:
            self.observer.catalogue(request, match, tried, threshold)
        if match is not None and match[1].score >= threshold:
            average, evidence = match[0], self._with_log_odds(match[1], event, tried)
            if event is None:
                self._ignore(request, Reason.DISCOVERED, average, evidence, at_us, outcome)
            else:
                self._join(event, request, evidence, at_us, outcome)
                self._refresh(event, at_us, outcome)
            return
        scanning = [request]
        while scanning:
            current = scanning.pop()
            if current.ignored:
                continue
            found = self.search.triple_with(current, scanning, outcome.counts)
            if found is not None:
                self._found(*found, at_us, outcome)

    # ---- deciding ------------------------------------------------------------------------------------------------

    def _found(self, triple: Triple, edge: Evidence, at_us: int, outcome: Outcome) -> None:
        """Three households agree: ignore them, in an event of their own or in the one that two of them are in."""
        members = self.window.of_rows(triple.rows)
        alignments = (0, *triple.alignments)
        event, reference = self._open_event(members, alignments)
        if event is None:
            names = "\n".join(sorted(member.request_id for member in members))
            media_id = "d-" + hashlib.blake2b(f"{self.name}\n{names}".encode(), digest_size=8).hexdigest()
            event = Event(media_id, at_us)
        for member, alignment in zip(members, alignments, strict=True):
            if member.event not in self.events:  # whom the catalogue ignored is one of the three all the same
                self._enter(event, member, alignment + reference, at_us)
        if event.media_id not in self.events:
            if self.blocked.averages and self.blocked.has(event.media_id, event.average()[0], outcome.counts):
                return
            self.events[event.media_id] = event
            self._closes_us = min(self._closes_us, event.last_joined_us + AIRING_US)
            outcome.counts["events"] += 1
        for member, alignment in zip(members, alignments, strict=True):
            if not member.ignored:
                evidence = replace(edge, alignment=alignment, score=triple.score)
                self._ignore(member, Reason.CONCURRENT, event, evidence, at_us, outcome)
        self._rebuild(event, at_us, outcome)
        self._sweep(event, at_us, outcome)

    def _open_event(self, members: Sequence[Request], alignments: Sequence[int]) -> tuple[Event | None, int]:
        """Give the open event that some of a triple are in, and what its alignments are to the triple's."""
        for member, alignment in zip(members, alignments, strict=True):
            event = self.events.get(member.event)
            if event is not None:
                return event, member.alignment - alignment
        return None, 0

    def _refresh(self, event: Event, at_us: int, outcome: Outcome) -> None:
        """Rebuild a growing event's average, at most once a look's time, and sweep again."""
        if at_us >= event.rebuilt_us + (LOOK_MS * 1000 << self.search.halvings):
            self._rebuild(event, at_us, outcome)
            self._sweep(event, at_us, outcome)

    def _rebuild(self, event: Event, at_us: int, outcome: Outcome, *, closing: bool = False) -> None:
        words, votes = event.average()
        event.rebuilt_us = at_us
        if self.blocked.has(event.media_id, words, outcome.counts):
            self._withdraw(event.media_id, outcome)
            return
        if len(words) < MIN_WORDS:
            return
        average = Average(
            event.media_id, words, votes, len(event.households), event.discovered_us, event.discovered_us,
            event.last_joined_us + self.policy.catalogue_ttl_us, self.name,
            event.last_joined_us, event.agreement(words),
        )  # fmt: skip
        known = self.catalogue.averages.get(event.media_id)
        if known is not None and known.households > average.households:
            return  # found again after a restart: the average of before has more to it
        outcome.dropped_averages += [a.media_id for a in self.catalogue.put(average)]
        # Others get an average when it is made, when it has twice the households, and when it changes no more.
        if closing or len(event.households) >= 2 * event.published_households:
            event.published_households = len(event.households)
            outcome.averages[event.media_id] = average

    def _sweep(self, event: Event, at_us: int, outcome: Outcome) -> None:
        """Hold the average against every request of the window, the ended ones too, until nobody joins any more."""
        while event.media_id in self.catalogue.averages:
            average = self.catalogue.averages[event.media_id]
            rows = self.window.undecided_rows()
            found = self.search.compare(average.words, self.catalogue.own(event.media_id), rows, outcome.counts)
            threshold = self._template_threshold(event, len(self.catalogue.averages))
            if self.observer is not None:
                self.observer.sweep(event.media_id, self.window.of_rows(rows), found, threshold)
            passed = np.flatnonzero(found.scores >= threshold)
            joining = [
                (request, position)
                for request, position in zip(self.window.of_rows(rows[passed]), passed, strict=True)
                if not self._request_is_blocked(request, outcome)
            ]
            for request, position in sorted(joining, key=lambda pair: pair[0].request_id):
                evidence = self._with_log_odds(found.at(int(position)), event, len(self.catalogue.averages))
                self._join(event, request, evidence, at_us, outcome)
            if not joining:
                return
            self._rebuild(event, at_us, outcome)

    def _join(self, event: Event, request: Request, evidence: Evidence, at_us: int, outcome: Outcome) -> None:
        """Ignore a request that agrees with an open event's average, and let it vote."""
        self._enter(event, request, evidence.alignment, at_us)
        self._ignore(request, Reason.CONCURRENT, event, evidence, at_us, outcome)

    def _enter(self, event: Event, request: Request, alignment: int, at_us: int) -> None:
        """Let a request vote in an event, whose word k is the request's word k + alignment."""
        request.event, request.alignment = event.media_id, alignment
        event.join(request.request_id, request.household, alignment, self.window.fingerprint(request), at_us)
        event.lean(request.leaning)

    def _request_is_blocked(self, request: Request, outcome: Outcome) -> bool:
        """Tell whether a request sounds like something that is blocked: then it is accepted."""
        own = self.window.owns[request.row]
        return self.blocked.sounds(self.window.fingerprint(request), own, outcome.counts)

    def _withdraw(self, media_id: str, outcome: Outcome) -> None:
        """Forget an average and its event, here and wherever it was told."""
        outcome.averages.pop(media_id, None)
        if self.forget(media_id):
            outcome.dropped_averages.append(media_id)

    def _template_threshold(self, event: Event | None, averages: int) -> float:
        """Score that an average decides at: that of an open event, or one of so many others."""
        return self.budget.average(averages) if event is None else self.budget.open_average(len(self.events))

    def _with_log_odds(self, evidence: Evidence, event: Event | None, averages: int) -> Evidence:
        """Say how sure evidence against an average is: that of an open event, or one of so many others."""
        if event is None:
            return replace(evidence, log_odds=self.budget.average_log_odds(evidence.score, averages))
        return replace(evidence, log_odds=self.budget.open_average_log_odds(evidence.score, len(self.events)))

    def _ignore(
        self,
        request: Request,
        reason: Reason,
        media: Event | Average,
        evidence: Evidence,
        at_us: int,
        outcome: Outcome,
    ) -> None:
        self.window.mark_ignored(request)
        households = media.households if isinstance(media, Average) else len(media.households)
        known = request.leaning or (media.known if isinstance(media, Event) else None)
        if known is not None:
            # Several households know that something is on air, and what one of them agrees with says what it is.
            if request.leaning is not None:
                evidence = replace(request.leaning.evidence, log_odds=evidence.log_odds)
            self._tell(
                request, Reason.KNOWN, known.media_id, households, evidence, known.catalogue_version, at_us, outcome,
                known.calibration,
            )  # fmt: skip
            return
        self._tell(request, reason, media.media_id, households, evidence, self.catalogue.version, at_us, outcome)

    def _tell(
        self,
        request: Request | Growth,
        reason: Reason,
        media_id: str,
        households: int,
        evidence: Evidence,
        catalogue_version: int,
        at_us: int,
        outcome: Outcome,
        calibration: str = "",
    ) -> None:
        outcome.counts["ignored"] += 1
        self.ignored_at_us.pop(request.household, None)
        self.ignored_at_us[request.household] = at_us
        if len(self.ignored_at_us) > self.policy.window_requests:
            del self.ignored_at_us[next(iter(self.ignored_at_us))]
        outcome.ignores.append(
            Ignore(
                request_id=request.request_id,
                household=request.household,
                device=request.device,
                reason=reason,
                media_id=media_id,
                households=households,
                bit_error_rate=evidence.rate,
                bits_compared=BITS_PER_WORD * evidence.words,
                alignment_ms=evidence.alignment * WORD_MS,
                score=evidence.score,
                log_odds=evidence.log_odds,
                audio_used_ms=request.audio_ms,
                decided_at_us=at_us,
                audio_appended_us=self._appended_us,
                catalogue_version=catalogue_version,
                calibration=calibration,
            )
        )
