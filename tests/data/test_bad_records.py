from __future__ import annotations

import pytest

from calmkit.data.bad_records import PLACES, BadRecord, Skipped, check_max_bad, percent
from calmkit.interfaces import DataError
from calmkit.text.token_file import HEADER


def bad(number: int, kind: str = "not JSON") -> BadRecord:
    return BadRecord(f"line {number} is wrong", number, kind)


def place(file: int, number: int) -> str:
    return f"{'ab'[file]}.jsonl:{number}"


@pytest.fixture
def skipped() -> Skipped:
    found = Skipped()
    texts = [
        *found.keep(["one", bad(2), " \n", "two"], 0, "skip"),
        *found.keep([bad(1, "null"), bad(7)], 1, "skip"),
    ]
    assert texts == ["one", "two"]
    return found


def test_by_hand(skipped):
    assert skipped == Skipped(
        records=6,
        kinds={"not JSON": 2, "null": 1},
        places=[(0, 2, "not JSON"), (1, 1, "null"), (1, 7, "not JSON")],
    )
    assert skipped.bad == 3
    assert skipped.note("data.train=x", "lines", place) == (
        "skipped 3 bad lines of 6 in data.train=x (50 %): a.jsonl:2 (not JSON), b.jsonl:1 (null), "
        "b.jsonl:7 (not JSON); data.on_bad=refuse stops at the first"
    )


def test_it_comes_back_from_text(skipped):
    assert Skipped.from_text(skipped.to_text()) == skipped
    assert Skipped(records=9).to_text() == ""
    assert Skipped.from_text("") == Skipped()


def test_many_are_told_by_a_few_places_and_by_kind():
    found = Skipped()
    list(found.keep([bad(n, "null" if n == 20 else "not JSON") for n in range(1, 21)], 0, "skip"))
    told = found.note("x", "lines", place)
    assert told.count("a.jsonl:") == PLACES
    assert "a.jsonl:5 (not JSON) and 15 more; in all 19 not JSON, 1 null;" in told


def test_the_first_is_refused_where_none_may_be_skipped():
    kept = Skipped().keep(["one", bad(2), bad(3)], 0, "refuse")
    assert next(kept) == "one"
    with pytest.raises(
        DataError, match=r"^line 2 is wrong; data\.on_bad=skip leaves a few such records out$"
    ):
        next(kept)


def test_the_ceiling_is_a_share_and_may_be_reached(skipped):
    skipped.check(0.5, "lines", place)
    with pytest.raises(
        DataError, match=r"3 of 6 lines are bad \(50 %\), more than data\.max_bad allows \(49 %\)"
    ):
        skipped.check(0.49, "lines", place)
    Skipped(records=100, kinds={"null": 29}).check(0.29, "lines", place)  # 0.29 * 100 is below 29
    Skipped().check(0.0, "lines", place)  # nothing at all was read: no share of it is bad


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_ceiling_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match="text: max_bad is a share of all records, from 0 to 1"):
        check_max_bad("text", share)


def test_percents_never_round_up_to_all_or_down_to_none():
    shown = [percent(part / whole) for part, whole in ((0, 7), (1, 10**6), (5, 65), (99_999, 10**5), (7, 7))]
    assert shown == ["0 %", "under 0.1 %", "7.7 %", "99.9 %", "100 %"]


def test_the_longest_note_leaves_room_in_the_header_of_a_token_file():
    found = Skipped()
    key = f"no key '{'é' * 400}'"  # the one kind that a user's words are in; each é is six bytes of JSON
    kinds = [key] * PLACES + [f"{name} instead of text" for name in ("bool", "dict", "float", "int", "list")]
    kinds += ["not JSON", "not UTF-8", "null", "half a surrogate pair"]
    list(found.keep([bad(10**12, kind) for kind in kinds], 10**6, "skip"))
    assert len(found.to_text()) < HEADER - 1000  # the other fields take some 500
