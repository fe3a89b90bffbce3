import pickle
from pathlib import Path

import pytest

from pipeline.options import ConfigError, Settings, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HUSHWORD_{name.upper()}", raising=False)


def _toml(folder: Path, text: str) -> Path:
    path = folder / "hushword.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source gives what no stronger one gives."""
    config = _toml(tmp_path, "reorder_ms = 1\nshards = 2\ndeadline_ms = 3\n")
    monkeypatch.setenv("HUSHWORD_REORDER_MS", "10")
    monkeypatch.setenv("HUSHWORD_SHARDS", "20")
    settings = load_settings(config, {"reorder_ms": "100", "shards": None})
    assert (settings.reorder_ms, settings.shards, settings.deadline_ms, settings.partners) == (100, 20, 3, 100)


def test_defaults_name_the_dead_letter_topic_after_the_audio_topic() -> None:
    """The dead letters belong to their topic, unless said otherwise."""
    assert load_settings().dead_letter_topic == "wakeword-audio.dlq"
    assert load_settings(None, {"audio_topic": "other"}).dead_letter_topic == "other.dlq"
    assert load_settings(None, {"dead_letter_topic": "dead"}).dead_letter_topic == "dead"


def test_every_setting_has_a_description_and_numbers_have_bounds() -> None:
    """What is shown in the help is there, and no number is unbounded."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float, int | None):
            assert len(field.metadata) == 2, name


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"reorder_ms": "-1"}, "reorder_ms = '-1' (from --reorder-ms)"),
        ({"reorder_ms": "soon"}, "reorder_ms"),
        ({"window_s": float("nan")}, "window_s"),
        ({"false_ignore_budget": 0}, "false_ignore_budget"),
        ({"metrics_port": 70_000}, "metrics_port"),
        ({"start_at": "now"}, "start_at"),
        ({"bootstrap_servers": "localhost"}, "'localhost' is not host:port"),
        ({"bootstrap_servers": "a:1,b:99999"}, "'b:99999' is not host:port"),
        ({"audio_topic": "a topic"}, "audio_topic"),
        ({"audio_topic": "media-fingerprints"}, "five different topics"),
        ({"ssl_cafile": "ca.pem"}, "ssl_cafile is set, but security_protocol is PLAINTEXT, which has no TLS"),
        ({"sasl_username": "u"}, "sasl_username is set, but security_protocol is PLAINTEXT, which has no SASL"),
        ({"sasl_password_file": "p", "security_protocol": "SSL"}, "sasl_password_file is set, but security_protocol"),
        ({"ssl_keyfile": "k", "security_protocol": "SSL"}, "ssl_keyfile is set, but ssl_certfile is not"),
        ({"security_protocol": "SASL_SSL"}, "security_protocol is SASL_SSL, which takes sasl_username"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "u", "bootstrap_servers": "localhost:1,b:2"},
            "security_protocol is SASL_PLAINTEXT, but b:2 is not on the loopback address",
        ),
        ({"sasl_mechanism": "PLAIN"}, "sasl_mechanism"),
        ({"window_s": 1, "reorder_ms": 2000}, "window_s (1) must be longer than reorder_ms (2000)"),
    ],
)
def test_an_impossible_value_is_refused_with_one_sentence(overrides: dict[str, object], says: str) -> None:
    """The sentence names the setting; there is no traceback of pydantic's in it."""
    with pytest.raises(ConfigError) as refused:
        load_settings(None, overrides)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refusal_names_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads it knows where to look."""
    monkeypatch.setenv("HUSHWORD_SHARDS", "0")
    with pytest.raises(ConfigError, match="environment variable HUSHWORD_SHARDS"):
        load_settings()


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    """An unknown key, a bad value, bad TOML and a missing file are told apart."""
    for text, says in (
        ("reorder = 1", "unknown setting 'reorder' in"),
        ("reorder_ms = 'x'", "reorder_ms = 'x' (from "),
        ("reorder_ms = ", "is not valid TOML"),
    ):
        with pytest.raises(ConfigError) as refused:
            load_settings(_toml(tmp_path, text))
        assert says in str(refused.value)
        assert "hushword.toml" in str(refused.value)
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*none\.toml"):
        load_settings(tmp_path / "none.toml")


def test_other_variables_of_the_prefix_and_empty_ones_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests and tools have variables of their own; an empty one is one that is not set."""
    monkeypatch.setenv("HUSHWORD_RECORDING", "somewhere")
    monkeypatch.setenv("HUSHWORD_SHARDS", "")
    assert load_settings().shards == 1


def test_settings_travel_to_workers_and_to_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle and the environment each give the same settings again."""
    settings = load_settings(None, {"shadow": True, "metrics_port": 9000, "false_ignore_budget": 1e-7})
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_settings_file_that_ships_says_the_defaults() -> None:
    """It names every setting, and changes none."""
    shipped = Path(__file__).parent.parent / "deploy" / "hushword.toml"
    assert load_settings(shipped).model_dump() == Settings().model_dump()
    text = shipped.read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"{name} = " not in text] == []


def test_secrets_are_no_settings(tmp_path: Path) -> None:
    """Neither a file in clear nor a flag takes one, and what was tried is not told."""
    with pytest.raises(ConfigError, match=r"unknown setting 'sasl_password' in .*hushword\.toml") as refused:
        load_settings(_toml(tmp_path, "sasl_password = 'hunter2'"))
    assert "hunter2" not in str(refused.value)
    assert [name for name in Settings.model_fields if "password" in name and not name.endswith("_file")] == []
