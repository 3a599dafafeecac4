"""Words, voices and text: counted as on paper, and made by transformers' own call on small random models."""

import importlib.util
import json
import math
import pathlib

import numpy
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from tokcli.backbones.torchvision import let_torchvision_import
from tokcli.contracts import RoundTrip
from tokcli.errors import InputError, UsageError
from tokcli.metrics import build_metrics
from tokcli.metrics.understanding import SpeakerSimilarity, Wer, count_edits, split_words

let_torchvision_import()
transformers = pytest.importorskip("transformers")

CLIPS = torch.randn(2, 1, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
OTHER = torch.randn(2, 1, 16_000, generator=torch.Generator().manual_seed(1)) * 0.1
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 10),
    "conv_stride": (40, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A wav2vec 2.0 model with a CTC head over six letters, which says something of noise."""
    folder = tmp_path_factory.mktemp("recogniser")
    letters = ["a", "<s>", "</s>", "b", "|", "c", "d", "e", "<unk>", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor()
    transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    torch.manual_seed(2)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(vocab_size=len(letters), **SMALL))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A WavLM model with an x-vector head."""
    folder = tmp_path_factory.mktemp("voices")
    torch.manual_seed(4)
    config = transformers.WavLMConfig(tdnn_dim=(8, 8, 8, 8, 8), xvector_output_dim=6, **SMALL)
    model = transformers.WavLMForXVector(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def round_trip(reconstruction: torch.Tensor, reference: torch.Tensor, **more: object) -> RoundTrip:
    return RoundTrip(reference, reconstruction, None, 1, 16_000, **more)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("candidate", "reference", "edits"),
    [("", "", 0), ("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ba", "ab", 2)],
)
def test_edits_are_those_counted_by_hand(candidate: str, reference: str, edits: int) -> None:
    assert count_edits(candidate, reference) == edits


def test_words_are_what_is_said_and_not_how_it_is_written() -> None:
    assert split_words("Don't  stop — NOW, at 5!") == ["dont", "stop", "now", "at", "5"]


def test_words_are_those_of_transformers_own_call(recogniser: pathlib.Path) -> None:
    metric = Wer(str(recogniser))
    metric.update(round_trip(OTHER, CLIPS))
    model = transformers.AutoModelForCTC.from_pretrained(recogniser).eval()
    processor = transformers.AutoProcessor.from_pretrained(recogniser)

    def recognise(clip: torch.Tensor) -> list[str]:
        given = processor(clip[0].numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            return processor.batch_decode(model(**given).logits.argmax(-1))[0].split()

    expected = []
    for reference, reconstruction in zip(CLIPS, OTHER, strict=True):
        words = recognise(reference)
        assert words, "the model must say something"
        expected.append(count_edits(recognise(reconstruction), words) / len(words))
    assert metric.item_scores().tolist() == pytest.approx(expected)
    assert metric.compute() > 0
    again = Wer(str(recogniser))
    again.update(round_trip(CLIPS, CLIPS))
    assert again.compute() == 0


def test_the_words_that_an_item_brings_are_the_reference(recogniser: pathlib.Path) -> None:
    metric = Wer(str(recogniser))
    metric.update(round_trip(CLIPS, CLIPS, about=[{"text": "xyz xyz"}, {}]))
    first, second = metric.item_scores().tolist()
    assert (first > 0, second) == (True, 0)
    assert metric.protocol()["clips_with_text"] == 1
    assert "errors in" in str(metric.remark())


def test_a_text_without_words_cannot_be_scored(recogniser: pathlib.Path) -> None:
    metric = Wer(str(recogniser))
    metric.update(round_trip(CLIPS, CLIPS, about=[{"text": "…"}, {"text": "a"}]))
    assert metric.unscored == 1


def test_whisper_writes_what_its_own_call_writes(tmp_path: pathlib.Path) -> None:
    folder = save_whisper(tmp_path)
    metric = Wer(str(folder))
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    given = processor(CLIPS[0, 0].numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected = processor.batch_decode(model.generate(given["input_features"]), skip_special_tokens=True)[0]
    assert metric._recogniser.transcribe(CLIPS[0, 0].numpy()) == expected.strip()


def save_whisper(folder: pathlib.Path) -> pathlib.Path:
    """A Whisper model of one block with letters for tokens."""
    words = {letter: index for index, letter in enumerate(["<|endoftext|>", "<|startoftranscript|>", "Ġ", *"abcde"])}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    extractor = transformers.WhisperFeatureExtractor()
    transformers.WhisperProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        max_target_positions=24,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
    return folder


def test_a_voice_is_transformers_own_embedding(voices: pathlib.Path) -> None:
    metric = SpeakerSimilarity(str(voices))
    metric.update(round_trip(OTHER, CLIPS))
    model = transformers.AutoModelForAudioXVector.from_pretrained(voices).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(voices)
    with torch.no_grad():
        pairs = [
            [
                model(**extractor(clip[0].numpy(), sampling_rate=16_000, return_tensors="pt")).embeddings[0]
                for clip in pair
            ]
            for pair in zip(OTHER, CLIPS, strict=True)
        ]
    expected = [float(torch.cosine_similarity(*pair, dim=0)) for pair in pairs]
    assert metric.item_scores().tolist() == pytest.approx(expected, abs=1e-5)
    same = SpeakerSimilarity(str(voices))
    same.update(round_trip(CLIPS, CLIPS))
    assert same.compute() == pytest.approx(1, abs=1e-6)
    short = SpeakerSimilarity(str(voices))
    short.update(round_trip(CLIPS[..., :9000], CLIPS[..., :9000]))
    assert (short.unscored, math.isnan(short.compute())) == (2, True)


def test_what_is_missing_or_wrong_is_said(recogniser: pathlib.Path, voices: pathlib.Path, tmp_path) -> None:
    with pytest.raises(
        InputError, match=r"the metric wer needs a model: --weights wer=FOLDER names that of one such as"
    ):
        build_metrics(["wer"], "audio")
    with pytest.raises(InputError, match=r"there is no folder .*none; expected that of a recogniser of speech"):
        build_metrics(["wer"], "audio", {"wer": str(tmp_path / "none")})
    with pytest.raises(InputError, match="of the architecture WavLMForXVector; expected a recogniser of speech"):
        Wer(str(voices))
    with pytest.raises(InputError, match="of the architecture Wav2Vec2ForCTC; expected a model with an x-vector head"):
        SpeakerSimilarity(str(recogniser))
    (tmp_path / "config.json").write_text('{"architectures": ["WavLMForXVector"]}')
    (tmp_path / "pytest.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no whole model\.safetensors; pickles are never read"):
        SpeakerSimilarity(str(tmp_path))
    with pytest.raises(UsageError, match="no weights are called 'werr'; did you mean 'wer'"):
        build_metrics(["wer"], "audio", {"werr": "x"})


@pytest.mark.parametrize(("metric", "package"), [("text", "onnxruntime"), ("dnsmos", "onnxruntime")])
def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch, metric: str, package: str) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(UsageError, match=rf"{package} is not installed; run: pip install {package}"):
        build_metrics([metric], "image" if metric == "text" else "audio")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="rapidocr is not installed")
def test_text_that_is_blurred_away_is_lost() -> None:
    page = Image.new("RGB", (320, 96), "white")
    ImageDraw.Draw(page).text((12, 24), "Hello World", fill="black", font=ImageFont.load_default(size=40))
    sharp = torch.from_numpy(numpy.asarray(page).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    flat = torch.ones_like(sharp)
    metric = build_metrics(["text"], "image")["text"]
    metric.update(RoundTrip(sharp, sharp, None, 1))
    metric.update(RoundTrip(sharp, flat, None, 1))
    metric.update(RoundTrip(flat, sharp, None, 1))
    assert metric.item_scores().tolist() == pytest.approx([1, 0, math.nan], nan_ok=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("speechmos") is None, reason="speechmos is not installed")
def test_dnsmos_is_the_packages_own_figure() -> None:
    from speechmos import dnsmos as package

    from tokcli.backbones.speech import dnsmos

    clip = OTHER[0, 0].numpy()
    assert dnsmos(clip, clip, 16_000) == pytest.approx(float(package.run(clip, sr=16_000)["ovrl_mos"]))
    assert math.isnan(dnsmos(clip, clip * 0, 16_000))
