"""Every kind of picture that a user may hand over, good and bad."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from showtell import images
from showtell.errors import ImageError


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_missing_folder_and_empty_files(tmp_path):
    (tmp_path / "empty.png").touch()
    for name, words in (("none.png", "no such file"), ("empty.png", "empty"), (".", "folder")):
        with pytest.raises(ImageError, match=words) as caught:
            images.open_picture(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, I am a text file", "is not a picture"),
        (b"\x89PNG\r\n\x1a\n rubbish", "is not a picture|broken"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:500], "broken or cut short"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:600], "broken or cut short"),
        (png_header(0, 0), "no pixels|broken|not a picture"),
        (png_header(50_000, 50_000), "64 megapixels"),
        (png_header(9_000, 9_000), "64 megapixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is not a picture"),
    ],
)
def test_bad_files(tmp_path, data, words):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(ImageError, match=words) as caught:
            images.open_picture(source)
        assert "\n" not in str(caught.value)


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch):
    def never(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(ImageError, match="megapixels"):
        images.open_picture(png_header(9_000, 9_000))


def test_the_limits_can_be_set(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    with pytest.raises(ImageError, match="MiB"):
        images.open_picture(path, max_bytes=10)
    with pytest.raises(ImageError, match="20x20"):
        images.open_picture(path, max_pixels=399)
    assert images.open_picture(path, max_pixels=400).size == (20, 20)


@pytest.mark.parametrize(
    "thing", [3, None, object(), np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros(5, np.uint8),
              np.full((4, 4), 2.0), np.full((4, 4), np.nan), np.zeros((4, 4), np.int64), Image.new("RGB", (0, 5))],
)  # fmt: skip
def test_what_is_no_picture_in_memory(thing):
    with pytest.raises(ImageError):
        images.open_picture(thing)


def test_arrays_and_tensors():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    floats = rgb.astype(np.float32) / 255
    for source in (
        rgb,
        floats,
        torch.from_numpy(rgb).permute(2, 0, 1),
        torch.from_numpy(floats).permute(2, 0, 1)[None],
    ):
        assert np.array_equal(np.asarray(images.open_picture(source).rgb), rgb)
    grey = images.open_picture(rgb[:, :, 0]).rgb
    assert grey.mode == "RGB" and np.array_equal(np.asarray(grey)[:, :, 1], rgb[:, :, 0])
    deep = images.open_picture(rgb[:, :, 0].astype(np.uint16) * 257).rgb
    assert np.array_equal(np.asarray(deep), np.asarray(grey))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    found = np.asarray(images.open_picture(path).rgb)[:, :, 0]
    assert np.abs(found - values / 257).max() <= 0.51


def test_cmyk_palette_bilevel_and_float(tmp_path):
    cmyk = Image.new("CMYK", (9, 9), (0, 255, 255, 0))
    red = np.asarray(images.open_picture(encoded(cmyk, "JPEG")).rgb).mean((0, 1))
    assert red[0] > 230 and red[1] < 30 and red[2] < 30
    palette = Image.new("RGB", (9, 9), (12, 34, 56)).quantize(4)
    assert images.open_picture(encoded(palette, "PNG")).rgb.getpixel((4, 4)) == (12, 34, 56)
    assert images.open_picture(Image.new("1", (4, 4), 1)).rgb.getpixel((0, 0)) == (255, 255, 255)
    half = Image.fromarray(np.full((4, 4), 0.5, np.float32))
    assert images.open_picture(half).rgb.getpixel((0, 0)) == (
        128,
        128,
        128,
    )


def test_alpha_is_laid_over_white_and_kept():
    rgba = Image.new("RGBA", (4, 4), (200, 0, 0, 255))
    rgba.putpixel((0, 0), (0, 0, 0, 0))
    found = images.open_picture(encoded(rgba, "PNG"))
    assert found.rgb.getpixel((0, 0)) == (255, 255, 255) and found.rgb.getpixel((1, 1)) == (200, 0, 0)
    assert found.alpha.getpixel((0, 0)) == 0 and found.alpha.getpixel((1, 1)) == 255
    see_through = Image.new("P", (4, 4), 0)
    see_through.putpalette([9, 9, 9] * 256)
    found = images.open_picture(encoded(see_through, "PNG", transparency=0))
    assert found.alpha.getpixel((0, 0)) == 0
    assert images.open_picture(Image.new("LA", (2, 2))).alpha is not None


def test_exif_turn_is_honoured():
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = images.open_picture(encoded(image, "JPEG", exif=exif))
    assert found.size == (10, 20)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken_and_said(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    found = images.open_picture(data)
    assert found.rgb.getpixel((4, 4))[0] > 240 and found.rgb.getpixel((4, 4))[2] < 10
    assert "3 frames; only the first" in found.notes[0]


def written(kind: str, rng: np.random.Generator) -> bytes:
    frames = [Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)) for _ in range(3)]
    several = {"save_all": True, "append_images": frames[1:]} if kind in ("GIF", "TIFF", "WEBP") else {}
    return encoded(frames[0], kind, **several)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP", "JPEG", "BMP", "TGA", "ICO", "PPM"])
def test_a_broken_file_is_an_image_error_and_no_other(kind):
    rng = np.random.default_rng(0)
    whole = written(kind, rng)
    for _ in range(300):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(len(data))] = rng.integers(256)
        try:
            images.open_picture(bytes(data))
        except ImageError as error:
            assert "\n" not in str(error)


def test_masks():
    array = np.zeros((6, 8))
    array[2:4, 2:4] = 1
    expected = array.astype(bool)
    as_picture = Image.fromarray((array * 255).astype(np.uint8))
    for mask in (array, expected, array.astype(np.uint8), (array * 255).astype(np.uint8), as_picture,
                 as_picture.convert("RGBA"), torch.from_numpy(expected), torch.from_numpy(array)[None],
                 torch.from_numpy(array).bfloat16(), images.open_picture(as_picture)):  # fmt: skip
        assert np.array_equal(images.open_mask(mask, size=(8, 6)), expected)
    with pytest.raises(ImageError, match="mask is 8x6 and the picture 6x8"):
        images.open_mask(expected, size=(6, 8))
    with pytest.raises(ImageError, match="mask is empty"):
        images.open_mask(np.zeros((6, 8)), size=(8, 6))
    with pytest.raises(ImageError, match="no such file"):
        images.open_mask("nowhere.png", size=(8, 6))
