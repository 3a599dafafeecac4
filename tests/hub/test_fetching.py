"""Fetching a repository: huggingface_hub is the real one, the hub is a small one on loopback."""

import pathlib

import pytest
from loopback_hub import TOKEN, Hub

from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.hub import fetch, find_cached, find_label, is_name, split_name
from tokcli.progress import listening

FILES = {"model.safetensors": bytes(range(256)) * 40, "config.json": b"{}", "README.md": b"# it\n"}


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_repository_is_fetched_once_and_pinned(hub: Hub) -> None:
    commit = hub.add("you/codec", FILES | {"evil.bin": b"\x80\x04.", "weights.pt": b"\x80\x04."})
    fetched = fetch("you/codec")
    assert fetched.revision == commit
    assert {path.name: path.read_bytes() for path in fetched.folder.iterdir()} == FILES
    assert find_label(fetched.folder) == find_label(fetched.folder / "config.json") == f"hf:you/codec@{commit}"
    hub.seen.clear()
    assert fetch("you/codec") == fetched
    assert not [line for line in hub.seen if "/resolve/" in line]
    hub.seen.clear()
    assert fetch("you/codec", commit) == fetched
    assert hub.seen == []


def test_a_branch_a_tag_and_a_commit_are_revisions(hub: Hub) -> None:
    first = hub.add("you/codec", FILES)
    hub.repositories["you/codec"].refs["v1"] = first
    second = hub.add("you/codec", {"config.json": b'{"a": 1}'})
    assert fetch("you/codec").revision == second
    assert fetch("you/codec", "v1").revision == first
    assert fetch("you/codec", first).folder.joinpath("config.json").read_bytes() == b"{}"


def test_a_branch_that_moved_is_followed_and_said(hub: Hub) -> None:
    first = hub.add("you/codec", FILES)
    fetch("you/codec")
    second = hub.add("you/codec", {"model.safetensors": b"other"})
    listener = Listener()
    with listening(listener):  # pyright: ignore[reportArgumentType]
        assert fetch("you/codec").revision == second
    assert listener.notes == [
        f"hf:you/codec: main moved from {first[:12]} to {second[:12]} since it was last fetched; "
        f"the former is still hf:you/codec@{first}"
    ]


@pytest.mark.parametrize("variable", ["TOK_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_reads_the_cache_and_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    hub.add("you/codec", FILES)
    fetched = fetch("you/codec")
    hub.seen.clear()
    if variable == "TOK_OFFLINE":
        monkeypatch.setenv(variable, "1")
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch("you/codec") == fetched
    with pytest.raises(InputError, match=rf"^{variable} is set, and the cache .* holds no whole copy of hf:you/other;"):
        fetch("you/other")
    assert hub.seen == []


def test_without_a_network_the_copy_is_taken_and_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("you/codec", FILES)
    fetched = fetch("you/codec")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    listener = Listener()
    with listening(listener):  # pyright: ignore[reportArgumentType]
        assert fetch("you/codec") == fetched
    (note,) = listener.notes
    assert note.startswith("http://127.0.0.1:1 cannot be reached for hf:you/codec (")
    assert note.endswith(f"the copy of {fetched.revision[:12]} in the cache is taken")
    with pytest.raises(InputError, match=r"cannot be reached for hf:you/other \(.*\); try again with a network"):
        fetch("you/other")


def test_an_interrupted_download_goes_on_where_it_broke_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # it keeps whole chunks of 10 MB
    hub.add("you/codec", FILES)
    hub.cut["model.safetensors"] = [1000]
    fetched = fetch("you/codec")
    assert (fetched.folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    gets = [line for line in hub.seen if line.startswith("GET") and "model.safetensors" in line]
    assert [line.endswith(" part") for line in gets] == [False, True]


def test_a_download_that_gives_up_is_continued_by_the_next(hub: Hub) -> None:
    hub.add("you/codec", FILES)
    hub.cut["model.safetensors"] = [0] * 40
    with pytest.raises(InputError, match=r"^fetching hf:you/codec was interrupted: .*the same command goes on"):
        fetch("you/codec")
    assert find_cached("you/codec") is None
    hub.cut.clear()
    hub.seen.clear()
    fetched = fetch("you/codec")
    assert {path.name: path.read_bytes() for path in fetched.folder.iterdir()} == FILES
    assert not [line for line in hub.seen if line.startswith("GET") and line.endswith("README.md")]


def test_a_copy_with_a_file_missing_is_no_copy(hub: Hub) -> None:
    commit = hub.add("you/codec", FILES)
    (fetch("you/codec").folder / "model.safetensors").resolve().unlink()
    assert find_cached("you/codec", commit) is None
    assert (fetch("you/codec", commit).folder / "model.safetensors").exists()


def test_what_is_not_there_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("you/codec", FILES)
    with pytest.raises(InputError, match=r"^there is no repository hf:you/none at .* without a token; a private one"):
        fetch("you/none")
    with pytest.raises(InputError, match=r"^hf:you/codec has no revision v9, or has it no longer; see "):
        fetch("you/codec", "v9")
    with pytest.raises(InputError, match=r"^hf:you/codec has no revision 0{40}, or has it no longer"):
        fetch("you/codec", "0" * 40)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(InputError, match=r"^there is no repository hf:you/none at .* with this token$"):
        fetch("you/none")


def test_a_private_one_needs_a_token_and_the_right_one(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("you/secret", FILES, private=True)
    with pytest.raises(InputError, match=r"^there is no repository .* a private one needs HF_TOKEN$"):
        fetch("you/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(InputError, match=r"refuses this token for hf:you/secret; HF_TOKEN, or `hf auth login`, takes"):
        fetch("you/secret")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch("you/secret").revision == commit


def test_a_gated_one_says_where_to_ask(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("you/gated", FILES, gated=True)
    with pytest.raises(InputError, match=rf"hf:you/gated is gated: .*ask at {hub.url}/you/gated, and set HF_TOKEN"):
        fetch("you/gated")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch("you/gated").revision == commit


def test_pickles_alone_are_refused_before_anything_is_fetched(hub: Hub) -> None:
    hub.add("you/pickles", {"pytorch_model.bin": b"\x80\x04.", "config.json": b"{}"})
    with pytest.raises(MismatchError, match=r"holds no \.safetensors file, but pytorch_model\.bin, which may be a pic"):
        fetch("you/pickles")
    assert not [line for line in hub.seen if "/resolve/" in line]


def test_a_hub_that_is_down_is_no_missing_repository(hub: Hub) -> None:
    hub.failing = 503
    with pytest.raises(InputError, match=r"answers 503 for hf:you/codec \(.*\); try again later"):
        fetch("you/codec")


@pytest.mark.parametrize(
    "text", ["hf:codec", "hf:a/b/c", "hf:../b", "hf:a/b--c", "hf:a/b@", "hf:a/b@x@y", "hf:a/b@../x"]
)
def test_what_is_no_repository_is_refused_as_it_is_spelt(text: str) -> None:
    with pytest.raises(UsageError, match="expected "):
        split_name(text)


def test_names_are_read_as_they_are_written() -> None:
    for text in ("hf:a/b", "hf:a/b@v1", "hf:a/b@6", "hf:a/b@1.5@v1", f"hf:a/b@{'1' * 40}"):
        assert str(split_name(text)) == text
    assert split_name("hf:a/b@6@main").choice == "6"
    assert split_name(f"hf:a/b@{'1' * 40}").revision == "1" * 40
    assert is_name("hf:a/b")
    assert not is_name("hf://datasets/a/b")
    assert not is_name("photo@1")
    assert find_label(pathlib.Path("runs/a/tokenizer.safetensors")) is None
