from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    PCM_S16LE: _ClassVar[Encoding]
ENCODING_UNSPECIFIED: Encoding
PCM_S16LE: Encoding

class AudioChunk(_message.Message):
    __slots__ = ("request_id", "household_id", "device_id", "wake_word", "locale", "seq", "sample_rate_hz", "encoding", "audio", "capture_time_us", "final", "low_mark_us", "lags")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    WAKE_WORD_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_US_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    LOW_MARK_US_FIELD_NUMBER: _ClassVar[int]
    LAGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    household_id: str
    device_id: str
    wake_word: str
    locale: str
    seq: int
    sample_rate_hz: int
    encoding: Encoding
    audio: bytes
    capture_time_us: int
    final: bool
    low_mark_us: int
    lags: bool
    def __init__(self, request_id: _Optional[str] = ..., household_id: _Optional[str] = ..., device_id: _Optional[str] = ..., wake_word: _Optional[str] = ..., locale: _Optional[str] = ..., seq: _Optional[int] = ..., sample_rate_hz: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., audio: _Optional[bytes] = ..., capture_time_us: _Optional[int] = ..., final: bool = ..., low_mark_us: _Optional[int] = ..., lags: bool = ...) -> None: ...

class MediaFingerprint(_message.Message):
    __slots__ = ("media_id", "kind", "wake_word", "locale", "bits", "words", "votes", "households", "valid_from_us", "valid_until_us", "origin", "discovered_us", "last_heard_us", "title", "source", "wake_word_ms", "added_us", "clear", "agreement")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[MediaFingerprint.Kind]
        KNOWN: _ClassVar[MediaFingerprint.Kind]
        DISCOVERED: _ClassVar[MediaFingerprint.Kind]
    KIND_UNSPECIFIED: MediaFingerprint.Kind
    KNOWN: MediaFingerprint.Kind
    DISCOVERED: MediaFingerprint.Kind
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WAKE_WORD_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLDS_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_US_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DISCOVERED_US_FIELD_NUMBER: _ClassVar[int]
    LAST_HEARD_US_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WAKE_WORD_MS_FIELD_NUMBER: _ClassVar[int]
    ADDED_US_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    kind: MediaFingerprint.Kind
    wake_word: str
    locale: str
    bits: str
    words: bytes
    votes: bytes
    households: int
    valid_from_us: int
    valid_until_us: int
    origin: str
    discovered_us: int
    last_heard_us: int
    title: str
    source: str
    wake_word_ms: int
    added_us: int
    clear: bytes
    agreement: float
    def __init__(self, media_id: _Optional[str] = ..., kind: _Optional[_Union[MediaFingerprint.Kind, str]] = ..., wake_word: _Optional[str] = ..., locale: _Optional[str] = ..., bits: _Optional[str] = ..., words: _Optional[bytes] = ..., votes: _Optional[bytes] = ..., households: _Optional[int] = ..., valid_from_us: _Optional[int] = ..., valid_until_us: _Optional[int] = ..., origin: _Optional[str] = ..., discovered_us: _Optional[int] = ..., last_heard_us: _Optional[int] = ..., title: _Optional[str] = ..., source: _Optional[str] = ..., wake_word_ms: _Optional[int] = ..., added_us: _Optional[int] = ..., clear: _Optional[bytes] = ..., agreement: _Optional[float] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision_id", "request_id", "household_id", "device_id", "wake_word", "locale", "verdict", "reason", "media_id", "households", "bit_error_rate", "bits_compared", "alignment_ms", "score", "audio_used_ms", "decided_at_us", "audio_appended_us", "catalogue_version", "calibration", "late", "shadow", "log_odds")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[Decision.Verdict]
        IGNORE: _ClassVar[Decision.Verdict]
    VERDICT_UNSPECIFIED: Decision.Verdict
    IGNORE: Decision.Verdict
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Decision.Reason]
        CONCURRENT: _ClassVar[Decision.Reason]
        DISCOVERED: _ClassVar[Decision.Reason]
        KNOWN: _ClassVar[Decision.Reason]
    REASON_UNSPECIFIED: Decision.Reason
    CONCURRENT: Decision.Reason
    DISCOVERED: Decision.Reason
    KNOWN: Decision.Reason
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLD_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    WAKE_WORD_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    HOUSEHOLDS_FIELD_NUMBER: _ClassVar[int]
    BIT_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    BITS_COMPARED_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_MS_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_USED_MS_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_US_FIELD_NUMBER: _ClassVar[int]
    AUDIO_APPENDED_US_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    LOG_ODDS_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    request_id: str
    household_id: str
    device_id: str
    wake_word: str
    locale: str
    verdict: Decision.Verdict
    reason: Decision.Reason
    media_id: str
    households: int
    bit_error_rate: float
    bits_compared: int
    alignment_ms: int
    score: float
    audio_used_ms: int
    decided_at_us: int
    audio_appended_us: int
    catalogue_version: int
    calibration: str
    late: bool
    shadow: bool
    log_odds: float
    def __init__(self, decision_id: _Optional[str] = ..., request_id: _Optional[str] = ..., household_id: _Optional[str] = ..., device_id: _Optional[str] = ..., wake_word: _Optional[str] = ..., locale: _Optional[str] = ..., verdict: _Optional[_Union[Decision.Verdict, str]] = ..., reason: _Optional[_Union[Decision.Reason, str]] = ..., media_id: _Optional[str] = ..., households: _Optional[int] = ..., bit_error_rate: _Optional[float] = ..., bits_compared: _Optional[int] = ..., alignment_ms: _Optional[int] = ..., score: _Optional[float] = ..., audio_used_ms: _Optional[int] = ..., decided_at_us: _Optional[int] = ..., audio_appended_us: _Optional[int] = ..., catalogue_version: _Optional[int] = ..., calibration: _Optional[str] = ..., late: bool = ..., shadow: bool = ..., log_odds: _Optional[float] = ...) -> None: ...

class Control(_message.Message):
    __slots__ = ("by", "reason", "ordered_at_us", "shadow", "block")
    class Shadow(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SHADOW_UNSPECIFIED: _ClassVar[Control.Shadow]
        ON: _ClassVar[Control.Shadow]
        OFF: _ClassVar[Control.Shadow]
    SHADOW_UNSPECIFIED: Control.Shadow
    ON: Control.Shadow
    OFF: Control.Shadow
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ORDERED_AT_US_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    by: str
    reason: str
    ordered_at_us: int
    shadow: Control.Shadow
    block: MediaFingerprint
    def __init__(self, by: _Optional[str] = ..., reason: _Optional[str] = ..., ordered_at_us: _Optional[int] = ..., shadow: _Optional[_Union[Control.Shadow, str]] = ..., block: _Optional[_Union[MediaFingerprint, _Mapping]] = ...) -> None: ...
