"""Numbers of things in sentences."""

from configs.words import counted


def test_one_thing_is_in_the_singular_and_other_numbers_have_the_plural_of_the_noun():
    assert [counted(1, noun) for noun in ("shard", "class", "reply")] == ["1 shard", "1 class", "1 reply"]
    assert counted(0, "entry") == "0 entries"
    assert counted(2, "day") == "2 days"
    assert counted(1200, "class") == "1,200 classes"
    assert counted(3, "batch") == "3 batches"
