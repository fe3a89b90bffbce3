"""How well the spotter finds wake words; the slow one prints what docs/media.md says of it (pytest -s)."""

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.errors import InputError
from pipeline.media.find import DELAY_S, Spotter
from pipeline.simulate.broadcast import mix
from pipeline.simulate.clips import SAMPLE_RATE_HZ, Clip, choose

pytest.importorskip("pyopen_wakeword")
# What docs/media.md promises: a request is compared within 200 ms of an entry's place.
WITHIN_S = 0.15


def clean(clip: Clip) -> npt.NDArray[np.float32]:
    return (mix(clip).samples * 32768).astype(np.float32)


def test_each_mention_is_found_where_it_begins() -> None:
    first, second = choose("advert", "evaluation", ["alexa"])[:2]
    both = np.concatenate((clean(first), np.zeros(SAMPLE_RATE_HZ // 3, np.float32), clean(second)))
    begins = mix(first).wake_word_start_s, len(clean(first)) / SAMPLE_RATE_HZ + 1 / 3 + mix(second).wake_word_start_s
    spotter = Spotter("alexa")
    assert spotter.find(both) == pytest.approx(begins, abs=WITHIN_S)
    # It begins anew with each recording.
    assert spotter.find(clean(first)) == pytest.approx(begins[:1], abs=WITHIN_S)
    assert spotter.find(np.zeros(SAMPLE_RATE_HZ, np.float32)) == []
    assert spotter.find(np.empty(0, np.float32)) == []


def test_a_wake_word_that_nobody_has_a_model_of_is_said() -> None:
    with pytest.raises(InputError, match="knows the wake words alexa, hey_jarvis, and not 'computer'"):
        Spotter("computer")
    Spotter("hey jarvis")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyopen_wakeword", None)
    with pytest.raises(InputError, match=r"hushword\[find\]"):
        Spotter("alexa")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["calibration", "evaluation"])
@pytest.mark.parametrize("wake_word", sorted(DELAY_S))
def test_every_advertisement_is_found(wake_word: str, split: str) -> None:
    spotter = Spotter(wake_word)
    errors_s = []
    for clip in choose("advert", split, [wake_word]):
        (found_s,) = spotter.find(clean(clip))
        errors_s.append(found_s - mix(clip).wake_word_start_s)
    others = [word for word in ("alexa", "computer", "hey_jarvis") if word != wake_word]
    strangers = choose("advert", split, others)
    false = sum(bool(spotter.find(clean(clip))) for clip in strangers)
    print(
        f"{wake_word}, {split}: {len(errors_s)} found of {len(errors_s)}, mean {1000 * np.mean(errors_s):+.0f} ms,"
        f" sd {1000 * np.std(errors_s):.0f} ms, {1000 * min(errors_s):+.0f} to {1000 * max(errors_s):+.0f} ms;"
        f" heard in {false} of {len(strangers)} that say another"
    )
    assert max(np.abs(errors_s)) < WITHIN_S
    assert false == 0
