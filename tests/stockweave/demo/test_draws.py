from __future__ import annotations

import hashlib

from stockweave.demo.draws import chosen, draws

MASK = (1 << 64) - 1


def splitmix64(state: int, length: int) -> list[int]:
    numbers = []
    for _ in range(length):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        numbers.append(z ^ (z >> 31))
    return numbers


def test_splitmix64_here_gives_its_published_numbers() -> None:
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_splitmix64_from_the_hash_of_seed_and_purpose() -> None:
    start = int.from_bytes(hashlib.blake2b(b"7:late", digest_size=8).digest(), "big")
    assert draws(500, 7, "late").to_list() == splitmix64(start, 500)


def test_another_seed_or_purpose_gives_other_numbers() -> None:
    same = draws(100, 7, "late")
    assert same.equals(draws(100, 7, "late"))
    assert not same.equals(draws(100, 8, "late"))
    assert not same.equals(draws(100, 7, "later"))


def test_exactly_as_many_places_are_chosen_as_asked_for_and_there_are() -> None:
    assert chosen(1000, 37, 7, "x").sum() == 37
    assert chosen(10, 37, 7, "x").sum() == 10
    assert chosen(0, 5, 7, "x").len() == 0
