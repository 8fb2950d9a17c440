"""metrics.jsonl and events.jsonl, read after a kill or a failing disk."""

from train.loggers.jsonl import drop_lines_after, read_records


def test_torn_and_damaged_lines_are_skipped_and_a_resume_drops_them(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n\x80\x81\n[2]\n\0\0\0\n{"step": 2}\n{"step": 3}\n{"step": 4, "gra')
    assert [record["step"] for record in read_records(file)] == [1, 2, 3]
    drop_lines_after(file, 2)
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert read_records(tmp_path / "none") == []
