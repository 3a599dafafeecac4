"""Every command takes a published tokenizer where it takes a model."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import soundfile
import torch
from loopback_hub import using_hub
from probe_samples import shrink_protocol

from tokcli.commands.bench import bench
from tokcli.commands.decode import decode
from tokcli.commands.encode import encode
from tokcli.commands.encoded import Encoded
from tokcli.commands.evaluate import evaluate
from tokcli.commands.export import export
from tokcli.commands.info import info
from tokcli.contracts import RoundTrip
from tokcli.errors import InputError, MismatchError, UsageError
from tokcli.evaluation.resampled import Resampled, change_rate
from tokcli.library import load
from tokcli.models import find_model, open_model, open_trained, require_trained
from tokcli.probing.tokenizers import find_tokenizer
from tokcli.progress import SILENT
from tokcli.tokens import open_tokens

Networks = Callable[[str], tuple[pathlib.Path, Any]]

RATE, SAMPLES = 22050, 5001


@pytest.fixture
def speech(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    times = numpy.arange(SAMPLES) / RATE
    for number, pitch in enumerate((220, 330)):
        soundfile.write(folder / f"{number}.wav", 0.3 * numpy.sin(2 * numpy.pi * pitch * times), RATE)
    return folder


def test_sound_is_encoded_and_decoded(networks: Networks, speech: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder, _ = networks("dac")
    made = encode([str(speech)], str(tmp_path / "t.npy"), model=f"{folder}@2")
    assert isinstance(made, Encoded)
    header = open_tokens(tmp_path / "t.npy").header
    assert (header.groups, header.codebook_size, header.sample_rate, header.model) == (2, 64, 16000, None)
    assert header.published is not None
    assert header.published["source"] == str(folder)
    assert header.published["sha256"] == header.network_fingerprint
    assert info(str(tmp_path / "t.npy"))["published"] == header.published
    decode(str(tmp_path / "t.npy"), str(tmp_path / "out"), model=str(folder))
    samples, rate = soundfile.read(tmp_path / "out" / "0.wav")
    assert (rate, len(samples)) == (16000, round(SAMPLES * 16000 / RATE))
    decode(str(tmp_path / "t.npy"), str(tmp_path / "again"), model=f"{folder}@4")
    assert (tmp_path / "again/0.wav").read_bytes() == (tmp_path / "out/0.wav").read_bytes()
    export(str(tmp_path / "t.npy"), str(tmp_path / "x.jsonl"), to="jsonl")
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 2
    found = find_tokenizer(header, [folder])
    assert found is not None
    assert found[0] == folder


def test_tokens_are_refused_by_another_model_and_name_their_own(
    networks: Networks, speech: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder, _ = networks("dac")
    encode([str(speech)], str(tmp_path / "t.npy"), model=str(folder))
    with pytest.raises(MismatchError, match="was made by another tokenizer"):
        decode(str(tmp_path / "t.npy"), str(tmp_path / "out"), model=str(networks("encodec")[0]))
    with pytest.raises(InputError, match="which tok did not train and does not look for; name it with -m"):
        decode(str(tmp_path / "t.npy"), str(tmp_path / "out"))


def test_models_of_several_rates_are_judged_at_one(networks: Networks, speech: pathlib.Path) -> None:
    models = [str(networks("dac")[0]), f"{networks('encodec')[0]}@6"]
    first, second = evaluate(models, data=str(speech), metrics=["si-sdr", "cvu"], against=["opus"])[:2]
    assert "resampled" not in first.protocol
    assert second.protocol["resampled"]["codec_sample_rate"] == 24000
    assert second.protocol["resampled"]["sample_rate"] == second.source.sample_rate == 16000
    assert second.protocol["published"]["kbps"] == 6
    assert first.protocol["dataset_sha256"] == second.protocol["dataset_sha256"]
    assert second.comparison is not None
    assert json.dumps(second.to_json())
    (chosen,) = evaluate(models[1:], data=str(speech), metrics=["si-sdr"], sample_rate=8000)
    assert chosen.protocol["resampled"]["sample_rate"] == 8000
    (own,) = evaluate(models[1:], data=str(speech), metrics=["si-sdr"])
    assert own.source.sample_rate == 24000
    with pytest.raises(UsageError, match="published without data to judge it on; name some with --data FOLDER"):
        evaluate(models)
    with pytest.raises(UsageError, match="--sample-rate goes with --data"):
        evaluate(models, sample_rate=8000)


def test_pictures_are_judged_on_a_page(networks: Networks, tmp_path: pathlib.Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    noise = numpy.random.default_rng(0).integers(0, 255, (50, 41, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(tmp_path / "photos/a.png")
    models = [str(networks(name)[0]) for name in ("janus", "emu3", "vqmodel")]
    page = tmp_path / "page.html"
    rows = evaluate(models, data=str(tmp_path / "photos"), report=str(page), against=["jpeg"])
    assert len(rows) == 4
    assert all(row.rates["bits_per_pixel"] > 0 for row in rows)
    assert "VQModel of diffusers" in page.read_text()
    encode([str(tmp_path / "photos")], str(tmp_path / "t.npy"), model=models[0])
    decode(str(tmp_path / "t.npy"), str(tmp_path / "out"), model=models[0])
    assert Image.open(tmp_path / "out/a.png").size == (41, 50)


def test_bench_and_info_take_it(networks: Networks) -> None:
    folder, _ = networks("dac")
    result = bench(f"{folder}@2", items=1, size=640)
    assert [speed.direction for speed in result.speeds] == ["encode", "decode"]
    assert result.tokens_per_item == 4
    facts = info(f"{folder}@2")
    assert (facts["class"], facts["groups"], facts["stride"], facts["codebooks"]) == ("DacModel", 2, 320, 2)


def test_it_is_a_row_of_a_pinned_bench(tok, networks: Networks, speech: pathlib.Path) -> None:
    folder, _ = networks("dac")
    text = f"bench: audio\ncolumns: [si-sdr]\nmodels: {{two: {{model: {folder}@2}}, four: {{model: {folder}@4}}}}\n"
    pathlib.Path("bench.yaml").write_text(f"{text}evaluate: {{tones: {{path: {speech}}}}}\n")
    outcome = tok("sweep", "bench.yaml", "-o", "table", "--json")
    assert outcome.code == 0, outcome.err
    assert [row["row"] for row in outcome.json["rows"]] == ["two", "four"]
    rows = [row["protocol"]["published"]["sha256"] for row in outcome.json["rows"]]
    assert rows[0] == rows[1]
    assert len(list(pathlib.Path("table/rows").iterdir())) == 2


def test_what_needs_the_parts_refuses_it(networks: Networks) -> None:
    folder, _ = networks("dac")
    for use in (load, lambda name: require_trained(find_model(name))):
        with pytest.raises(UsageError, match="published for another library, which alone knows its parts"):
            use(str(folder))
    with pytest.raises(UsageError, match="published for another library"):
        open_trained(str(folder), torch.device("cpu"), SILENT)
    with pytest.raises(UsageError, match="has codebooks of 64 codes and no others"):
        open_model(str(folder), torch.device("cpu"), SILENT, codebook=128)


def test_resampling_there_and_back_keeps_the_length_and_the_sound(networks: Networks) -> None:
    codec = open_model(str(networks("encodec")[0]), torch.device("cpu"), SILENT).codec
    candidate = Resampled(codec, 16000)
    signals = torch.sin(torch.arange(16001) * 0.1).view(1, 1, -1).repeat(2, 1, 1) * 0.5
    trip = candidate.round_trip(signals)
    assert isinstance(trip, RoundTrip)
    assert trip.reconstruction.shape == signals.shape
    assert trip.tokens is not None
    assert trip.tokens.shape[1] == 76  # 24,002 samples in positions of 320
    back = change_rate(change_rate(signals, 16000, 24000), 24000, 16000)[..., 500:-500]
    length = back.shape[-1]
    assert (back - signals[..., 500 : 500 + length]).abs().max() < 1e-3


def test_a_repository_of_a_hub_is_pinned(
    networks: Networks, speech: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = networks("dac")
    with using_hub(monkeypatch, tmp_path / "cache") as hub:
        commit = hub.add("you/dac", {path.name: path.read_bytes() for path in folder.iterdir()})
        made = encode([str(speech)], str(tmp_path / "t.npy"), model="hf:you/dac@2")
        assert made.to_json()["model"] == f"hf:you/dac@2@{commit}"
        assert made.to_json()["published"]["revision"] == commit
        header = open_tokens(tmp_path / "t.npy").header
        assert header.groups == 2
        assert header.published is not None
        assert (header.published["source"], header.published["revision"]) == ("hf:you/dac", commit)
        decoded = decode(str(tmp_path / "t.npy"), str(tmp_path / "out"), model=f"hf:you/dac@{commit}").to_json()
        assert (decoded["model"], decoded["published"]["revision"]) == (f"hf:you/dac@{commit}", commit)
        with pytest.raises(InputError, match=f"was made by 'hf:you/dac@{commit}'"):
            decode(str(tmp_path / "t.npy"), str(tmp_path / "again"))
        (row,) = evaluate([f"hf:you/dac@2@{commit}"], data=str(speech), metrics=["si-sdr"], items=1)
        assert row.title.model == f"hf:you/dac@2@{commit}"
        assert row.protocol["published"]["revision"] == commit
        assert info("hf:you/dac")["revision"] == commit


def test_its_tokens_are_probed_and_samples_decoded(
    tok, networks: Networks, speech: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_protocol(monkeypatch)
    folder, _ = networks("dac")
    for number in range(2, 8):
        (speech / f"{number}.wav").write_bytes((speech / f"{number % 2}.wav").read_bytes())
    assert tok("encode", speech, "-o", "train.npy", "-m", folder, "--size", "3200", "--quiet").code == 0
    shutil.copy("train.npy", "val.npy")
    shutil.copy("train.npy.json", "val.npy.json")
    outcome = tok("probe", "train.npy", "--val", "val.npy", "-m", folder, "--samples", "2", "-o", "p", "--json")
    assert outcome.code == 0, outcome.err
    (row,) = outcome.json["probes"]
    assert row["bits"] > 0
    assert pathlib.Path(row["samples"]["sheet"]).is_file()
