"""The control topic: what operators have ordered, how every worker hears of it, and how an order is given."""

import getpass
import logging
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from kafka.errors import KafkaError

from pipeline import metrics
from pipeline.chunks import LOCALE, WAKE_WORD
from pipeline.errors import FailedError, InputError
from pipeline.follow import Follower
from pipeline.kafka.broker_faults import why
from pipeline.kafka.clients import client_arguments
from pipeline.kafka.producer import Producer
from pipeline.matching import load_bits
from pipeline.messages.hushword_pb2 import Control
from pipeline.options import Settings
from pipeline.reading import records
from pipeline.wire import BadMediaError, average_from_message

log = logging.getLogger(__name__)

SHADOW, BLOCK, ERASE = "shadow", "block", "erase"
# A worker that cannot read the topic does not wait for it any longer, but works in shadow.
READ_WITHIN_S = 15.0
_DELIVERY_S = 10


def shadow_key(scope: str | None) -> str:
    """Give the key of the shadow of every route (None) or of one, "wake word/locale" or "wake word/locale/shard".

    Raises:
        InputError: that is no route.

    """
    if scope is None:
        return SHADOW
    wake_word, _, locale = scope.partition("/")
    locale = locale.partition("/")[0]
    if not WAKE_WORD.fullmatch(wake_word) or not LOCALE.fullmatch(locale):
        raise InputError(f"{scope!r} is not a route: it takes a wake word and a locale, such as alexa/en-US")
    return f"{SHADOW}/{wake_word}/{locale}"


class Controls:
    """What a worker knows of the orders. Whoever is not sure works in shadow: nobody is ignored by mistake."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        read = partial(_read, bits=load_bits(settings).name)
        self._follower: Follower[Control] = Follower(settings, settings.control_topic, read, insists=False)

    def start(self) -> None:
        """Read the topic to its end; where that fails, everything is in shadow until it succeeds."""
        self._follower.start(READ_WITHIN_S)
        if not self._follower.is_current:
            log.warning("%s cannot be read: everything is in shadow until it can", self._settings.control_topic)

    def stop(self) -> None:
        """Follow no longer."""
        self._follower.stop()

    @property
    def is_current(self) -> bool:
        """Whether the topic is being followed; while it is not, everything is in shadow."""
        return self._follower.is_current

    def in_shadow(self, route: str) -> bool:
        """Whether decisions of a route, "wake word/locale/shard", are for the record only."""
        if not self._follower.is_current:
            return True
        orders = (self._follower.newest(SHADOW), self._follower.newest(f"{SHADOW}/{route.rsplit('/', 1)[0]}"))
        return any(order is not None and order.shadow != Control.OFF for order in orders)

    def is_ordered(self, key: str) -> bool:
        """Whether shadow is ordered under this very key."""
        order = self._follower.newest(key)
        return order is not None and order.shadow != Control.OFF

    def since(self, number: int) -> tuple[list[tuple[str, Control | None]], int]:
        """Give the orders that came after number `number`, None for one that was taken back, and the number now."""
        return self._follower.since(number)


def _read(record: Any, bits: str) -> tuple[str, Control | None] | None:
    key = (record.key or b"").decode(errors="replace")
    if not record.value:
        log.warning("the order %s is taken back", key)
        return key, None
    try:
        order = Control.FromString(record.value)
        if key.startswith(f"{BLOCK}/"):
            if order.block.bits != bits:
                metrics.ORDERS_LEFT_OUT.labels("other_kind").inc()
                return None
            average_from_message(order.block)
    except (DecodeError, BadMediaError) as error:
        metrics.ORDERS_LEFT_OUT.labels("malformed").inc()
        log.warning("%s-%d offset %d is no order: %s", record.topic, record.partition, record.offset, error)
        # Whatever it was to say about shadow: nobody is ignored until it is said again.
        return (key, Control(shadow=Control.ON)) if _is_about_shadow(key) else None
    log.warning("order %s", describe(key, order))
    metrics.ORDERS.inc()
    return key, order


def _is_about_shadow(key: str) -> bool:
    return key.split("/", 1)[0] == SHADOW


def describe(key: str, order: Control) -> str:
    """Say an order in a line, for logs and terminals."""
    what = f" {Control.Shadow.Name(order.shadow)}" if order.shadow in Control.Shadow.values() and order.shadow else ""
    why = f": {order.reason}" if order.reason else ""
    return f"{key}{what} by {order.by or 'nobody'}, {when(order.ordered_at_us)}{why}"


def when(us: int) -> str:
    """Give microseconds of Unix time as people write it, in UTC."""
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S}Z" if us > 0 else "-"


def give(settings: Settings, orders: dict[str, Control | None]) -> None:
    """Give some orders, None takes one back, and return when the broker has them.

    Raises:
        FailedError: it did not take them.

    """
    for order in orders.values():
        if order is not None:
            order.by = order.by or _name()
            order.ordered_at_us = order.ordered_at_us or round(time.time() * 1e6)
    publish(
        settings,
        settings.control_topic,
        {key: None if order is None else order.SerializeToString() for key, order in orders.items()},
    )


def publish(settings: Settings, topic: str, values: dict[str, bytes | None]) -> None:
    """Write records by key to a topic, and return when the broker has them.

    Raises:
        FailedError: it did not take them.

    """
    try:
        producer = Producer(**client_arguments(settings), acks="all", bootstrap_timeout_ms=5000)
        try:
            sent = [producer.send(topic, key=key.encode(), value=value) for key, value in values.items()]
            for future in sent:
                future.get(_DELIVERY_S)
        finally:
            producer.close(_DELIVERY_S)
    except (KafkaError, OSError) as error:
        raise FailedError(f"{topic!r} did not take what was written to it: {why(settings, error)}") from error


def given(settings: Settings) -> dict[str, Control]:
    """Give the orders that stand now, by key.

    Raises:
        InputError: the topic cannot be read.

    """
    found: dict[str, Control] = {}
    for record in records(settings, settings.control_topic):
        said = _read_quietly(record)
        if said is not None:
            found[(record.key or b"").decode(errors="replace")] = said
        else:
            found.pop((record.key or b"").decode(errors="replace"), None)
    return found


def _read_quietly(record: Any) -> Control | None:
    if not record.value:
        return None
    try:
        return Control.FromString(record.value)
    except DecodeError:
        return Control(shadow=Control.ON, reason="a record that cannot be read") if record.key else None


def _name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "operator"
