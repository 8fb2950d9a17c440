"""Messages as they are sent, and replies as they are read."""

import io

import pytest
from PIL import Image

from configs.errors import DataError
from data_prep.api.messages import sendable
from data_prep.api.reply import reply_of
from data_prep.orientation import UprightImage


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": " a cat "}, "a cat"),
        ({"content": None, "refusal": "I cannot say."}, "I cannot say."),
        ({"content": None}, ""),
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]}, "a cat"),
    ],
)
def test_what_the_model_said(message, text):
    reply = reply_of({"choices": [{"message": message, "finish_reason": "length"}]}, 0.5)
    assert (reply.text, reply.cut, reply.tokens_out) == (text, True, 0)


def test_a_server_that_reports_absurd_numbers_takes_no_memory():
    values = {"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": 10**12}}
    assert reply_of(values, 0.0).tokens_out == 10**6


def test_images_are_sent_as_stored_or_as_png(picture):
    assert sendable(picture(1)) == ("image/jpeg", picture(1))
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (250, 0, 0)).save(buffer, format="BMP")
    media, data = sendable(buffer.getvalue())
    assert media == "image/png"
    assert Image.open(io.BytesIO(data)).getpixel((0, 0)) == (250, 0, 0)
    with pytest.raises(DataError):
        sendable(picture(1)[:40])


@pytest.mark.parametrize("bytes_type, size", [(bytes, (24, 16)), (UprightImage, (16, 24))])
def test_a_photograph_with_an_orientation_is_sent_without_it_so_that_every_server_sees_the_same(bytes_type, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 10, 10)).save(buffer, "JPEG", exif=exif)
    media, data = sendable(bytes_type(buffer.getvalue()))
    sent = Image.open(io.BytesIO(data))
    assert (media, sent.size, sent.getexif().get(0x0112)) == ("image/jpeg", size, None)
