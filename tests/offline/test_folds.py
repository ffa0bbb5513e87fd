"""Folds keep subjects apart, are those of the papers, and refuse what cannot be a fair test."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.folds import PUBLISHED, Split, make_folds, train_all
from streamscore.errors import ConfigError

NIGHTS = [f"{k:02d}" for k in range(20)]


def apart(split: Split) -> bool:
    parts = (set(split.train), set(split.validation), set(split.test))
    return all(parts) and not any(one & two for one, two in combinations(parts, 2))


@given(n=st.integers(3, 40), n_folds=st.integers(2, 12), seed=st.integers(0, 9), share=st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_every_subject_is_tested_once_and_is_elsewhere_otherwise(
    n: int, n_folds: int, seed: int, share: float
) -> None:
    subjects = [f"m{k}" for k in range(n)]
    n_folds = min(n_folds, n)
    if n - -(-n // n_folds) < 2:
        return
    folds = make_folds(subjects, str(n_folds), seed=seed, validation_share=share)
    assert sorted(subject for split in folds for subject in split.test) == sorted(subjects)
    assert all(apart(split) for split in folds)
    assert all(set(split.train + split.validation + split.test) == set(subjects) for split in folds)
    sizes = [len(split.test) for split in folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_alone_decides() -> None:
    subjects = [f"s{k}" for k in range(17)]
    assert make_folds(subjects, "5", seed=3) == make_folds(subjects[::-1], "5", seed=3)
    assert make_folds(subjects, "5", seed=3) != make_folds(subjects, "5", seed=4)


def test_leave_one_out_follows_the_numbers_in_names() -> None:
    folds = make_folds(["m10", "m2", "m1"], "loo")
    assert [split.test for split in folds] == [("m1",), ("m2",), ("m10",)]


def test_a_final_training_tests_nobody() -> None:
    split = train_all(NIGHTS, validation_share=0.25)
    assert (len(split.train), len(split.validation), split.test) == (15, 5, ())
    with pytest.raises(ConfigError, match="final training tests nobody"):
        Split(("a",), ("b",), ("c",), final=True)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (((), ("b",), ("c",)), "`train` has no subject"),
        ((("a",), (), ("c",)), "`validation` has no subject"),
        ((("a",), ("b",), ()), "`test` has no subject"),
        ((("a", "b"), ("c",), ("a",)), "a in `train` and a in `test` share recordings"),
        ((("a",), ("c",), ("b", "b")), "b in `test` and b in `test`"),
        ((("a",), ("b",), ("a@2-4h",)), "a in `train` and a@2-4h in `test`"),
        ((("a@0-3h",), ("b",), ("a@2-4h",)), "a@0-3h in `train` and a@2-4h in `test`"),
        ((("a@0-3h",), ("b",), ("a@1-h",)), "share recordings"),
        ((("a@3-1h",), ("b",), ("c",)), "ends before it begins"),
    ],
)
def test_unfair_splits_are_refused(parts: tuple[tuple[str, ...], ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Split(*parts)  # type: ignore[arg-type]


def test_hours_of_one_animal_may_be_split() -> None:
    (split,) = make_folds(["M1", "M2"], "M1@0-13h/M1@13-16h/M1@16-h")
    assert split == Split(("M1@0-13h",), ("M1@13-16h",), ("M1@16-h",))


@pytest.mark.parametrize(
    ("subjects", "folds", "told"),
    [
        (NIGHTS, "many", "unknown 'many'"),
        (NIGHTS, "-3", "unknown '-3'"),
        (NIGHTS, "1", "leaves nobody"),
        (["a", "b", "c"], "5", "cannot fill 5 folds"),
        (["a", "b"], "loo", "1 subjects are left"),
        (["a"], "loo", "leaves nobody"),
        ([], "loo", "leaves nobody"),
        (["a", "b", "c"], "2", "1 subjects are left"),
        (["a", "a", "b", "c"], "2", "named twice"),
        (NIGHTS, "00/01", "2 parts"),
        (NIGHTS, "00/01/77", "no subject '77'"),
        (NIGHTS, "00//01", "`validation` has no subject"),
        (NIGHTS, "published:nobody", "choose one of sleep-edf-39"),
        (NIGHTS[:7], "published:sleep-edf-39", "needs 20 subjects, but the data have 7"),
        (NIGHTS, "published:wfci", "not offered.*published:wfci-200128"),
        (NIGHTS, "published:wfci-200128", "holds out mouse 200128"),
    ],
)
def test_impossible_folds_are_told(subjects: list[str], folds: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_folds(subjects, folds)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_a_validation_share_must_leave_both_sides(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make_folds(NIGHTS, "5", validation_share=share)


@pytest.mark.parametrize(
    ("name", "n_subjects", "sizes"),
    [
        # Folds, then how many subjects are trained on, validated and tested in each.
        ("sleep-edf-39", 20, [(17, 2, 1)] * 20),
        ("sleep-edf-153", 78, [(63, 7, 8)] * 8 + [(64, 7, 7)] * 2),
        ("sleep-edf-153-20", 78, [(67, 7, 4)] * 18 + [(67, 8, 3)] * 2),
        ("mass", 62, [(54, 6, 2)] * 31),
        ("baek", 20, [(17, 2, 1)]),
        ("vilamala", 20, [(15, 4, 1)] * 20),
        ("ajioka", 5, [(3, 1, 1)] * 20),
    ],
)
def test_published_splits_have_their_sizes(name: str, n_subjects: int, sizes: list[tuple[int, ...]]) -> None:
    folds = make_folds([str(k) for k in range(n_subjects)], f"published:{name}")
    assert [(len(s.train), len(s.validation), len(s.test)) for s in folds] == sizes
    assert all(apart(split) for split in folds)
    assert len(PUBLISHED[name].about) > 10


def test_published_tests_are_those_of_the_papers() -> None:
    people = [str(k + 1) for k in range(20)]
    (baek,) = make_folds(people, "published:baek")
    assert (baek.test, baek.validation, baek.train) == (("1",), ("19", "20"), tuple(people[1:18]))
    assert [s.test for s in make_folds(people, "published:sleep-edf-39")] == [(name,) for name in people]
    of_mass = make_folds([str(k) for k in range(62)], "published:mass")
    assert [s.test for s in of_mass][:2] == [("0", "1"), ("2", "3")]
    mice = make_folds(["m1", "m2", "m3", "m4", "m5"], "published:ajioka")
    assert len({(s.validation, s.test) for s in mice}) == 20
    assert all(set(s.train + s.validation + s.test) == {"m1", "m2", "m3", "m4", "m5"} for s in mice)
    (wfci,) = make_folds(["200128", "191030", "200813"], "published:wfci-200128")
    assert wfci.test == ("200128",)
