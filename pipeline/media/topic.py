"""The media topic as it stands, and what the commands of `hushword media` write to it."""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from pipeline.kafka.sender import Sender
from pipeline.messages.hushword_pb2 import MediaFingerprint
from pipeline.options import Settings
from pipeline.reading import records


def fingerprints(settings: Settings) -> dict[str, MediaFingerprint]:
    """Give the newest fingerprint of each id, known and discovered, in the order in which they came.

    Raises:
        TopicError: the topic cannot be read.

    """
    found: dict[str, MediaFingerprint] = {}
    for media_id, message in _news(settings):
        found.pop(media_id, None)
        if message is not None:
            found[media_id] = message
    return found


def known(settings: Settings) -> dict[str, MediaFingerprint]:
    """Give the newest of each entry of known media, of whatever bits.

    Raises:
        TopicError: the topic cannot be read.

    """
    return {
        media_id: message
        for media_id, message in fingerprints(settings).items()
        if message.kind == MediaFingerprint.KNOWN
    }


class MediaWriter(Sender):
    """Writes to the media topic; what was put is there for certain once `flush` returns."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.media_topic)

    def put(self, entry: MediaFingerprint) -> None:
        """Add an entry, or replace the one of its name.

        Raises:
            ReplayError: the broker does not take it.

        """
        self.send(entry.SerializeToString(), key=entry.media_id.encode())


def _news(settings: Settings) -> Iterator[tuple[str, MediaFingerprint | None]]:
    for record in records(settings, settings.media_topic):
        try:
            message = MediaFingerprint.FromString(record.value) if record.value else None
        except DecodeError:
            continue  # the job counts it, and leaves it alone too
        yield (record.key or b"").decode(errors="replace"), message
