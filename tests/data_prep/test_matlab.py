"""A MATLAB file that is cut, foreign or of a format that scipy does not read is one line that names it."""

import numpy as np
import pytest

from configs.errors import DataError
from data_prep.readers.matlab import load_mat

savemat = pytest.importorskip("scipy.io").savemat


@pytest.fixture
def whole(tmp_path):
    file = tmp_path / "labels.mat"
    savemat(file, {"labels": np.arange(500)}, do_compression=True)
    return file


def test_the_arrays_of_a_whole_file_are_flat(whole):
    assert load_mat(whole, "labels")[0].tolist() == list(range(500))


@pytest.mark.parametrize(
    "damage",
    {
        "nothing": lambda data: b"",
        "a header": lambda data: data[:100],
        "half of it": lambda data: data[: len(data) // 2],
        "flipped bits": lambda data: data[:140] + bytes(byte ^ 255 for byte in data[140:160]) + data[160:],
        "a pointer of git-lfs": lambda data: b"version https://git-lfs.github.com/spec/v1\nsize 5\n",
        "a web page": lambda data: b"<html>not found</html>" * 20,
        "version 7.3": lambda data: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM\x89HDF\r\n\x1a\n" + bytes(100),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_file_is_named_with_what_it_should_hold(whole, damage):
    whole.write_bytes(damage[1](whole.read_bytes()))
    with pytest.raises(
        DataError, match=r"labels\.mat is not the expected MATLAB file .* hold labels: download it again"
    ):
        load_mat(whole, "labels")


def test_an_array_that_is_not_there_is_named(whole):
    with pytest.raises(DataError, match="should hold labels, setid"):
        load_mat(whole, "labels", "setid")
