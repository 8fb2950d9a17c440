"""Data-loading processes: what they print when their rank stops."""

import threading

import pytest

from train.data.loader import without_broken_connections


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "pipe"), EOFError()])
def test_a_data_process_is_silent_when_its_rank_stops_receiving_a_batch_and_prints_all_other_errors(error):
    printed: list[BaseException] = []
    hook = without_broken_connections(lambda kind, error, traceback: printed.append(error))
    other = ValueError("a decoder's error")

    def in_thread() -> None:
        for each in (error, other):
            hook(type(each), each, None)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert printed == [other]
    hook(type(error), error, None)  # of the main thread
    assert printed == [other, error]
