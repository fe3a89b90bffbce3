from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Growth(_message.Message):
    __slots__ = ("request_id", "household", "device", "start_us", "end_us", "words", "audio_ms", "appended_us", "known", "leaning", "level_range_db")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    AUDIO_MS_FIELD_NUMBER: _ClassVar[int]
    APPENDED_US_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    LEANING_FIELD_NUMBER: _ClassVar[int]
    LEVEL_RANGE_DB_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    household: str
    device: str
    start_us: int
    end_us: int
    words: bytes
    audio_ms: int
    appended_us: int
    known: Known
    leaning: Known
    level_range_db: float
    def __init__(self, request_id: _Optional[str] = ..., household: _Optional[str] = ..., device: _Optional[str] = ..., start_us: _Optional[int] = ..., end_us: _Optional[int] = ..., words: _Optional[bytes] = ..., audio_ms: _Optional[int] = ..., appended_us: _Optional[int] = ..., known: _Optional[_Union[Known, _Mapping]] = ..., leaning: _Optional[_Union[Known, _Mapping]] = ..., level_range_db: _Optional[float] = ...) -> None: ...

class Known(_message.Message):
    __slots__ = ("media_id", "score", "rate", "words", "alignment", "catalogue_version", "households", "calibration", "log_odds")
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLDS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    LOG_ODDS_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    score: float
    rate: float
    words: int
    alignment: int
    catalogue_version: int
    households: int
    calibration: str
    log_odds: float
    def __init__(self, media_id: _Optional[str] = ..., score: _Optional[float] = ..., rate: _Optional[float] = ..., words: _Optional[int] = ..., alignment: _Optional[int] = ..., catalogue_version: _Optional[int] = ..., households: _Optional[int] = ..., calibration: _Optional[str] = ..., log_odds: _Optional[float] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("routes", "needed", "media")
    class NeededEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    class MediaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedScalarFieldContainer[str]
    needed: _containers.ScalarMap[int, int]
    media: _containers.ScalarMap[int, int]
    def __init__(self, routes: _Optional[_Iterable[str]] = ..., needed: _Optional[_Mapping[int, int]] = ..., media: _Optional[_Mapping[int, int]] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("key", "has_key", "value", "topic", "partition", "offset", "timestamp_ms", "stage", "error", "redriven")
    KEY_FIELD_NUMBER: _ClassVar[int]
    HAS_KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REDRIVEN_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    has_key: bool
    value: bytes
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    stage: str
    error: str
    redriven: int
    def __init__(self, key: _Optional[bytes] = ..., has_key: bool = ..., value: _Optional[bytes] = ..., topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., timestamp_ms: _Optional[int] = ..., stage: _Optional[str] = ..., error: _Optional[str] = ..., redriven: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("growths", "low_mark_us", "progress", "dead_letters", "learned", "withdrawn", "blocked", "unblocked", "released", "erased", "halvings")
    GROWTHS_FIELD_NUMBER: _ClassVar[int]
    LOW_MARK_US_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    UNBLOCKED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    HALVINGS_FIELD_NUMBER: _ClassVar[int]
    growths: _containers.RepeatedCompositeFieldContainer[Growth]
    low_mark_us: int
    progress: Progress
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    learned: _containers.RepeatedScalarFieldContainer[bytes]
    withdrawn: _containers.RepeatedScalarFieldContainer[str]
    blocked: _containers.RepeatedScalarFieldContainer[bytes]
    unblocked: _containers.RepeatedScalarFieldContainer[str]
    released: bool
    erased: _containers.RepeatedCompositeFieldContainer[Erased]
    halvings: int
    def __init__(self, growths: _Optional[_Iterable[_Union[Growth, _Mapping]]] = ..., low_mark_us: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., learned: _Optional[_Iterable[bytes]] = ..., withdrawn: _Optional[_Iterable[str]] = ..., blocked: _Optional[_Iterable[bytes]] = ..., unblocked: _Optional[_Iterable[str]] = ..., released: bool = ..., erased: _Optional[_Iterable[_Union[Erased, _Mapping]]] = ..., halvings: _Optional[int] = ...) -> None: ...

class Erased(_message.Message):
    __slots__ = ("digest", "until_us")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    digest: str
    until_us: int
    def __init__(self, digest: _Optional[str] = ..., until_us: _Optional[int] = ...) -> None: ...

class Verdicts(_message.Message):
    __slots__ = ("decisions", "averages", "dropped_averages", "progress", "dead_letters", "order")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    AVERAGES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_AVERAGES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedScalarFieldContainer[bytes]
    averages: _containers.RepeatedScalarFieldContainer[bytes]
    dropped_averages: _containers.RepeatedScalarFieldContainer[str]
    progress: Progress
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    order: Order
    def __init__(self, decisions: _Optional[_Iterable[bytes]] = ..., averages: _Optional[_Iterable[bytes]] = ..., dropped_averages: _Optional[_Iterable[str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., order: _Optional[_Union[Order, _Mapping]] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class RouteState(_message.Message):
    __slots__ = ("route", "guard")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    route: bytes
    guard: RouteGuard
    def __init__(self, route: _Optional[bytes] = ..., guard: _Optional[_Union[RouteGuard, _Mapping]] = ...) -> None: ...

class RouteGuard(_message.Message):
    __slots__ = ("tripped_us", "slots")
    class Slot(_message.Message):
        __slots__ = ("slot", "requests", "ignored")
        SLOT_FIELD_NUMBER: _ClassVar[int]
        REQUESTS_FIELD_NUMBER: _ClassVar[int]
        IGNORED_FIELD_NUMBER: _ClassVar[int]
        slot: int
        requests: int
        ignored: int
        def __init__(self, slot: _Optional[int] = ..., requests: _Optional[int] = ..., ignored: _Optional[int] = ...) -> None: ...
    TRIPPED_US_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    tripped_us: int
    slots: _containers.RepeatedCompositeFieldContainer[RouteGuard.Slot]
    def __init__(self, tripped_us: _Optional[int] = ..., slots: _Optional[_Iterable[_Union[RouteGuard.Slot, _Mapping]]] = ...) -> None: ...

class RouteSnapshot(_message.Message):
    __slots__ = ("requests", "events", "averages", "low_mark_us", "catalogue_version", "blocked", "ignored", "erased", "recognised")
    class Request(_message.Message):
        __slots__ = ("request_id", "household", "device", "start_us", "words", "audio_ms", "alignment", "looked_ms", "matched", "ignored", "event", "leaning", "level_range_db")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
        DEVICE_FIELD_NUMBER: _ClassVar[int]
        START_US_FIELD_NUMBER: _ClassVar[int]
        WORDS_FIELD_NUMBER: _ClassVar[int]
        AUDIO_MS_FIELD_NUMBER: _ClassVar[int]
        ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
        LOOKED_MS_FIELD_NUMBER: _ClassVar[int]
        MATCHED_FIELD_NUMBER: _ClassVar[int]
        IGNORED_FIELD_NUMBER: _ClassVar[int]
        EVENT_FIELD_NUMBER: _ClassVar[int]
        LEANING_FIELD_NUMBER: _ClassVar[int]
        LEVEL_RANGE_DB_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        household: str
        device: str
        start_us: int
        words: bytes
        audio_ms: int
        alignment: int
        looked_ms: int
        matched: bool
        ignored: bool
        event: str
        leaning: Known
        level_range_db: float
        def __init__(self, request_id: _Optional[str] = ..., household: _Optional[str] = ..., device: _Optional[str] = ..., start_us: _Optional[int] = ..., words: _Optional[bytes] = ..., audio_ms: _Optional[int] = ..., alignment: _Optional[int] = ..., looked_ms: _Optional[int] = ..., matched: bool = ..., ignored: bool = ..., event: _Optional[str] = ..., leaning: _Optional[_Union[Known, _Mapping]] = ..., level_range_db: _Optional[float] = ...) -> None: ...
    class Member(_message.Message):
        __slots__ = ("request_id", "alignment", "words", "household")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
        WORDS_FIELD_NUMBER: _ClassVar[int]
        HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        alignment: int
        words: bytes
        household: str
        def __init__(self, request_id: _Optional[str] = ..., alignment: _Optional[int] = ..., words: _Optional[bytes] = ..., household: _Optional[str] = ...) -> None: ...
    class Event(_message.Message):
        __slots__ = ("media_id", "discovered_us", "households", "members", "rebuilt_us", "last_joined_us", "published_households", "known")
        MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
        DISCOVERED_US_FIELD_NUMBER: _ClassVar[int]
        HOUSEHOLDS_FIELD_NUMBER: _ClassVar[int]
        MEMBERS_FIELD_NUMBER: _ClassVar[int]
        REBUILT_US_FIELD_NUMBER: _ClassVar[int]
        LAST_JOINED_US_FIELD_NUMBER: _ClassVar[int]
        PUBLISHED_HOUSEHOLDS_FIELD_NUMBER: _ClassVar[int]
        KNOWN_FIELD_NUMBER: _ClassVar[int]
        media_id: str
        discovered_us: int
        households: _containers.RepeatedScalarFieldContainer[str]
        members: _containers.RepeatedCompositeFieldContainer[RouteSnapshot.Member]
        rebuilt_us: int
        last_joined_us: int
        published_households: int
        known: Known
        def __init__(self, media_id: _Optional[str] = ..., discovered_us: _Optional[int] = ..., households: _Optional[_Iterable[str]] = ..., members: _Optional[_Iterable[_Union[RouteSnapshot.Member, _Mapping]]] = ..., rebuilt_us: _Optional[int] = ..., last_joined_us: _Optional[int] = ..., published_households: _Optional[int] = ..., known: _Optional[_Union[Known, _Mapping]] = ...) -> None: ...
    class Ignored(_message.Message):
        __slots__ = ("household", "at_us")
        HOUSEHOLD_FIELD_NUMBER: _ClassVar[int]
        AT_US_FIELD_NUMBER: _ClassVar[int]
        household: str
        at_us: int
        def __init__(self, household: _Optional[str] = ..., at_us: _Optional[int] = ...) -> None: ...
    class Recognised(_message.Message):
        __slots__ = ("request_id", "at_us")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        AT_US_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        at_us: int
        def __init__(self, request_id: _Optional[str] = ..., at_us: _Optional[int] = ...) -> None: ...
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    AVERAGES_FIELD_NUMBER: _ClassVar[int]
    LOW_MARK_US_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    RECOGNISED_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RouteSnapshot.Request]
    events: _containers.RepeatedCompositeFieldContainer[RouteSnapshot.Event]
    averages: _containers.RepeatedScalarFieldContainer[bytes]
    low_mark_us: int
    catalogue_version: int
    blocked: _containers.RepeatedScalarFieldContainer[bytes]
    ignored: _containers.RepeatedCompositeFieldContainer[RouteSnapshot.Ignored]
    erased: _containers.RepeatedCompositeFieldContainer[Erased]
    recognised: _containers.RepeatedCompositeFieldContainer[RouteSnapshot.Recognised]
    def __init__(self, requests: _Optional[_Iterable[_Union[RouteSnapshot.Request, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[RouteSnapshot.Event, _Mapping]]] = ..., averages: _Optional[_Iterable[bytes]] = ..., low_mark_us: _Optional[int] = ..., catalogue_version: _Optional[int] = ..., blocked: _Optional[_Iterable[bytes]] = ..., ignored: _Optional[_Iterable[_Union[RouteSnapshot.Ignored, _Mapping]]] = ..., erased: _Optional[_Iterable[_Union[Erased, _Mapping]]] = ..., recognised: _Optional[_Iterable[_Union[RouteSnapshot.Recognised, _Mapping]]] = ...) -> None: ...
