"""Whatever a picture file holds becomes upright 8-bit RGB, or one sentence that says why it cannot."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tokcli.data.files import open_file
from tokcli.data.image import decoding
from tokcli.data.image.decoding import read_image, to_image, to_pixels, to_signal
from tokcli.errors import InputError

ORANGE = (200, 100, 50)


def read(path: Path) -> Image.Image:
    """The image in a file."""
    with open_file(str(path)) as file:
        return read_image(file)


def pixel(path: Path, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = read(path)
    assert image.mode == "RGB"
    return image.getpixel(at)


def png(header: bytes, rows: bytes = b"") -> bytes:
    """A PNG written by hand: `header` is the content of IHDR."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    pixels = torch.arange(5 * 4 * 3, dtype=torch.uint8).reshape(5, 4, 3).numpy() * 4
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", lossless=True)
    assert (numpy.array(read(tmp_path / f"a.{suffix}")) == pixels).all()


def test_jpeg_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (16, 8), ORANGE).save(tmp_path / "a.jpg", quality=100)
    assert numpy.abs(numpy.subtract(pixel(tmp_path / "a.jpg"), ORANGE)).max() <= 2


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), ORANGE).save(tmp_path / "a.jpg", format="PNG")
    assert pixel(tmp_path / "a.jpg") == ORANGE


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGBA", (*ORANGE, 255), ORANGE),
        ("RGBA", (*ORANGE, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),  # a fifth of black over four fifths of white
    ],
)
def test_grey_and_alpha_become_rgb_over_white(tmp_path: Path, mode: str, value: object, expected: object) -> None:
    Image.new(mode, (3, 2), value).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == expected


def test_a_palette_is_looked_up_and_its_transparent_entries_are_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*ORANGE, 1, 2, 3])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "one.png", transparency=1)
    image.save(tmp_path / "each.png", transparency=b"\x00\xff")
    assert [pixel(tmp_path / "plain.png", (x, 0)) for x in (0, 1)] == [ORANGE, (1, 2, 3)]
    assert [pixel(tmp_path / "one.png", (x, 0)) for x in (0, 1)] == [ORANGE, (255, 255, 255)]
    assert [pixel(tmp_path / "each.png", (x, 0)) for x in (0, 1)] == [(255, 255, 255), (1, 2, 3)]


def test_a_transparent_colour_without_an_alpha_channel_is_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), ORANGE)
    image.putpixel((1, 0), (1, 2, 3))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert [pixel(tmp_path / "a.png", (x, 0)) for x in (0, 1)] == [ORANGE, (255, 255, 255)]


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / f"a.{suffix}")
    assert numpy.abs(numpy.subtract(pixel(tmp_path / f"a.{suffix}"), (255, 0, 0))).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_is_scaled_and_rounded(tmp_path: Path, suffix: str) -> None:
    values = numpy.array([[0, 128, 129, 257, 32768, 65535]], dtype=numpy.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read(tmp_path / f"a.{suffix}")
    assert [image.getpixel((x, 0))[0] for x in range(6)] == [0, 0, 1, 1, 128, 255]


def test_sixteen_bit_colour_keeps_its_upper_bits(tmp_path: Path) -> None:
    row = b"\x00" + struct.pack(">3H", 0xFFFF, 0x8000, 0x00FF)
    (tmp_path / "a.png").write_bytes(png(struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), row))
    assert pixel(tmp_path / "a.png") == (255, 128, 0)


def test_wide_integers_are_read_up_to_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray(numpy.array([[0, 65535]], dtype=numpy.int32)).save(tmp_path / "fits.tiff")
    assert pixel(tmp_path / "fits.tiff", (1, 0)) == (255, 255, 255)
    Image.fromarray(numpy.array([[-1, 70000]], dtype=numpy.int32)).save(tmp_path / "wide.tiff")
    with pytest.raises(InputError, match="values from -1 to 70000; convert it to 8 or 16 bits"):
        read(tmp_path / "wide.tiff")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path: Path, suffix: str, orientation: int) -> None:
    """A picture with a white top-left quarter, stored as a camera held in each way would store it."""
    upright = Image.new("L", (32, 16), 0)
    upright.paste(255, (0, 0, 16, 8))
    how_it_is_stored = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in how_it_is_stored.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.convert("RGB").save(tmp_path / f"a.{suffix}", exif=exif)
    image = read(tmp_path / f"a.{suffix}")
    assert image.size == (32, 16)
    corners = [image.getpixel(at)[0] > 127 for at in ((2, 2), (29, 2), (2, 13), (29, 13))]
    assert corners == [True, False, False, False]


def test_damaged_exif_does_not_hide_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "a.jpg", exif=b"Exif\x00\x00garbage")
    assert pixel(tmp_path / "a.jpg") == (255, 255, 255)


def hostile(folder: Path, kind: str) -> Path:
    path = folder / "a.jpg"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is not a picture\n" * 50)
    elif kind == "truncated":
        noise = numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif kind == "broken png":
        path.write_bytes(png(struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0), b"\x00"))
    elif kind == "float":
        Image.new("F", (2, 2), 0.5).save(path, format="TIFF")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", r"^the file is empty \(0 bytes\)$"),
        ("text", r"^the content is not a picture this can read \(JPEG, PNG, WEBP, BMP, TIFF\)$"),
        ("truncated", r"^the picture is damaged or cut short: .*truncated"),
        ("broken png", r"^the picture is damaged or cut short: "),
        ("float", r"^the picture holds floating point values of unknown range; convert it to 8 or 16 bits$"),
        ("missing", r"^the file cannot be opened: No such file"),
        ("folder", r"^the file cannot be opened: Is a directory"),
    ],
)
def test_unreadable_files_are_explained(tmp_path: Path, kind: str, words: str) -> None:
    path = hostile(tmp_path, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=words):
            read(path)


@pytest.mark.parametrize("side", [10_001, 12_000, 20_000])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path, side: int, recwarn: object) -> None:
    """The file holds a header alone, so decoding it would be a different error."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)))
    with pytest.raises(InputError, match="too large to decode safely: at most 100 million pixels"):
        read(path)
    assert not list(recwarn)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBa", "CMYK", "YCbCr", "I;16", "I", "RGB"])
def test_a_large_picture_is_converted_band_by_band_to_the_same_pixels(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = numpy.random.default_rng(0)
    if mode.startswith("I"):
        picture = Image.fromarray(generator.integers(0, 65536, (37, 23)).astype("uint16" if ";" in mode else "int32"))
    else:
        colours = Image.fromarray(generator.integers(0, 256, (37, 23, 4), dtype=numpy.uint8))
        picture = colours.convert("RGB").convert("P") if mode in ("P", "PA") else colours
        picture = picture if picture.mode == mode else picture.convert(mode)
    if mode == "P":
        picture.info["transparency"] = bytes(range(256))
    whole = numpy.asarray(decoding.to_upright_rgb(picture))
    monkeypatch.setattr(decoding, "BAND_PIXELS", 5 * 23)
    assert (numpy.asarray(decoding.to_upright_rgb(picture)) == whole).all()


def test_a_picture_of_its_own_size_is_refused_from_its_header(tmp_path: Path) -> None:
    """The file holds a header alone, so decoding it would be a different error."""
    path = tmp_path / "large.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", 5001, 5000, 8, 2, 0, 0, 0)))
    words = "too large to be taken whole: at most 25 million pixels; give it a --size, or cut it in parts; this one has"
    with pytest.raises(InputError, match=words), open(path, "rb") as file:
        decoding.read_image(file, decoding.MAX_WHOLE_PIXELS)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_gives_a_picture_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "damaged"
    fmt = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((12, 9)).convert("RGB").save(path, format=fmt, exif=exif)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        outcome = read(path).mode
    except InputError as error:
        outcome = str(error)
    assert outcome == "RGB" or (outcome.startswith("the ") and "\n" not in outcome)


def test_every_level_survives_the_way_to_a_signal_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, 16, 16)
    picture = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
    signal = to_signal(picture)
    assert signal.shape == (3, 16, 16)
    assert signal.dtype == torch.float32
    assert signal.is_contiguous()
    assert (signal.min(), signal.max()) == (-1, 1)
    assert torch.equal(to_pixels(signal), levels)
    assert (numpy.array(to_image(signal)) == numpy.array(picture)).all()


def test_pixels_are_rounded_and_clamped() -> None:
    """One level is 1/127.5 wide: 0.6 of it rounds up, 0.4 down, where truncation would lose both."""
    signal = torch.tensor([0.6, 0.4, 254.6]) / 127.5 - 1
    assert to_pixels(signal).tolist() == [1, 0, 255]
    assert to_pixels(torch.tensor([-3.0, 1.2], dtype=torch.bfloat16)).tolist() == [0, 255]


def test_only_the_named_formats_are_opened(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif")
    with pytest.raises(InputError, match="not a picture this can read"):
        read(tmp_path / "a.gif")
    assert {suffix.strip(".") for suffix in decoding.SUFFIXES} == {"jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"}
