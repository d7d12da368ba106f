"""Entities: first names, cities, things. Real ones and made-up ones, so that copying is learnt."""

import random
import tomllib
from pathlib import Path

from training.demo.data.splits import Split, draw

_LISTS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def listed(key: str) -> tuple[str, ...]:
    """Give one list of `words.toml`."""
    return tuple(_LISTS[key].split())


NAMES, CITIES, ITEMS, THINGS, DAYS = map(listed, ("names", "cities", "items", "things", "days"))
_ONSETS, _VOWELS = listed("onsets"), listed("vowels")
_CODAS = ("", "", "", *listed("codas"))


_ACCENTED = {
    "a": "áàâäãåą",
    "e": "éèêëęě",
    "i": "íìîï",
    "o": "óòôöõø",
    "u": "úùûüů",
    "n": "ñń",
    "s": "šś",
    "z": "žż",
}
_ACCENTED_SHARE = 0.12


def made_up(rng: random.Random, syllables: int) -> str:
    """Make a word that nobody has seen, in lower case; some have a letter with an accent."""
    parts = [
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)
    ]
    word = "".join(parts)
    places = [at for at, letter in enumerate(word) if letter in _ACCENTED]
    if places and rng.random() < _ACCENTED_SHARE:
        at = rng.choice(places)
        word = word[:at] + rng.choice(_ACCENTED[word[at]]) + word[at + 1 :]
    return word


def name(rng: random.Random, split: Split) -> str:
    """Draw a first name of the split; more than half of them are made up."""

    def sample() -> str:
        if rng.random() < 0.4:
            return rng.choice(NAMES)
        return made_up(rng, rng.choice((1, 2, 2))).capitalize()

    return draw(rng, split, "proper name", sample)


def city(rng: random.Random, split: Split) -> str:
    """Draw a city of the split."""

    def sample() -> str:
        if rng.random() < 0.4:
            return rng.choice(CITIES)
        return made_up(rng, rng.choice((1, 2, 2))).capitalize()

    return draw(rng, split, "proper name", sample)


def item(rng: random.Random, split: Split) -> str:
    """Draw a thing to order, in the plural and in lower case."""

    def sample() -> str:
        if rng.random() < 0.5:
            return rng.choice(ITEMS)
        return made_up(rng, rng.choice((1, 2, 2))) + "s"

    return draw(rng, split, "item", sample)


def thing(rng: random.Random, split: Split) -> str:
    """Draw a thing to talk about, in the singular."""

    def sample() -> str:
        if split == "test" or rng.random() < 0.8:
            return rng.choice(THINGS)
        return made_up(rng, rng.choice((1, 2)))

    return draw(rng, split, "thing", sample)


def article(noun_phrase: str) -> str:
    """Put `a` or `an` before a phrase."""
    return ("an " if noun_phrase[0] in "aeiou" else "a ") + noun_phrase
