"""System prompts that must be obeyed: how each one changes an answer."""

import random
from dataclasses import dataclass

from training.demo.data import smalltalk, words
from training.demo.data.exchange import Exchange
from training.demo.data.splits import Frames, Split

PLAIN = Frames(
    train=(
        "You are a helpful assistant.",
        "You are a helpful assistant",
        "You are a friendly assistant.",
        "You are an assistant.",
        "Be helpful.",
        "Be polite.",
        "You help people.",
        "Answer the question.",
        "You are the assistant of the Lepton project.",
        "Answer questions about Lepton.",
        "You are a helpful AI assistant.",
        "Help the user.",
        "Answer briefly.",
        "Be brief and polite.",
    ),
    test=(
        "You are a polite assistant.",
        "Be friendly and helpful.",
        "You are a helpful AI.",
        "Help people.",
    ),
)
UPPER = Frames(
    train=(
        "Answer in upper case.",
        "Answer in capital letters.",
        "Write everything in upper case.",
        "Use only capital letters.",
        "You always write in upper case.",
        "Always answer in upper case.",
        "Reply in upper case.",
        "Please use upper case.",
        "ANSWER IN UPPER CASE.",
        "Use upper case letters.",
    ),
    test=(
        "Always write in capital letters.",
        "Please answer in upper case.",
        "Reply in capital letters.",
    ),
)
ONE_WORD = Frames(
    train=(
        "Answer with one word only.",
        "Answer with one word.",
        "Answer in one word.",
        "Use one word only.",
        "Reply with a single word.",
        "Give only one word as the answer.",
        "Every answer is one word.",
        "Always answer with a single word.",
        "One word only.",
        "You answer with exactly one word.",
    ),
    test=("Reply with one word only.", "Always answer in one word.", "Answer with a single word."),
)
PREFIX = Frames(
    train=(
        "Start every answer with the word {w}:",
        "Start every answer with {w}:",
        "Begin each answer with {w}:",
        "Begin every answer with the word {w}:",
        "Always start with {w}:",
        "Every answer starts with {w}:",
        "Start your answers with {w}:",
        "Write {w}: before every answer.",
        "Put {w}: before each answer.",
    ),
    test=(
        "Start each answer with the word {w}:",
        "Always begin with {w}:",
        "Put {w}: before every answer.",
    ),
)
SUFFIX = Frames(
    train=(
        "End every answer with the word {w}.",
        "End every answer with {w}.",
        "End each answer with the word {w}.",
        "Every answer ends with {w}.",
        "Finish every answer with {w}.",
        "Always end with the word {w}.",
        "Finish each answer with the word {w}.",
        "Write {w} after every answer.",
    ),
    test=(
        "Finish every answer with the word {w}.",
        "Always end with {w}.",
        "End your answers with {w}.",
    ),
)
PERSONA = Frames(
    train=(
        "You are called {w}.",
        "Your name is {w}.",
        "You are {w}.",
        "You are {w}, a helpful assistant.",
        "You are an assistant called {w}.",
        "Your name is {w}. You are a helpful assistant.",
        "You are a friendly assistant and your name is {w}.",
        "Call yourself {w}.",
        "You are a helper. Your name is {w}.",
        "Be polite. Your name is {w}.",
        "You are an assistant and your name is {w}.",
        "You are a polite assistant called {w}.",
        "Be brief. You are {w}.",
    ),
    test=(
        "You are a helpful assistant called {w}.",
        "You are an assistant. Your name is {w}.",
        "You are {w}, an assistant.",
    ),
)
USER_NAME = Frames(
    train=(
        "The user is called {w}.",
        "The name of the user is {w}.",
        "You talk to {w}.",
        "You are talking to {w}.",
        "The user's name is {w}.",
        "You help {w}.",
        "You are the assistant of {w}.",
        "You are talking with {w}.",
        "You are here to help {w}.",
        "You are assisting {w}.",
        "You work for {w}.",
        "You are helping the user {w}.",
        "You talk to a user called {w}.",
    ),
    test=(
        "You are talking to a user called {w}.",
        "The user you help is called {w}.",
        "You are helping {w}.",
    ),
)
EXCLAMATIONS = words.listed("exclamations")
FRAMES = {
    "plain": PLAIN,
    "upper": UPPER,
    "one_word": ONE_WORD,
    "prefix": PREFIX,
    "suffix": SUFFIX,
    "persona": PERSONA,
    "user_name": USER_NAME,
}
UPPER_TASKS = ("arithmetic", "sentiment", "facts", "smalltalk")
UPPER_CHARACTERS_MAX = 110


@dataclass(frozen=True, slots=True)
class SystemPrompt:
    """A system message and what it asks of every answer."""

    style: str
    text: str
    word: str = ""

    def apply(self, exchange: Exchange) -> str | None:
        """Give the answer as this prompt wants it, or None where the two do not fit."""
        answer = exchange.answer
        match self.style:
            case "upper":
                fits = exchange.task in UPPER_TASKS and len(answer) <= UPPER_CHARACTERS_MAX
                return answer.upper() if fits else None
            case "one_word":
                return exchange.word
            case "prefix":
                return f"{self.word}: {answer}"
            case "suffix":
                return f"{answer} {self.word}"
            case "persona" if answer == smalltalk.SELF:
                return f"I am {self.word}."
            case "persona" if answer == smalltalk.HELLO:
                return answer.replace("lepton-demo", self.word)
        return answer


def sample(rng: random.Random, split: Split, style: str | None = None) -> SystemPrompt:
    """Draw a system prompt of the split, of one style if it is given."""
    style = style or rng.choice(tuple(FRAMES))
    word = ""
    if style in ("prefix", "suffix") and split == "train" and rng.random() < 0.5:
        word = rng.choice(EXCLAMATIONS)
    elif style in ("prefix", "suffix", "persona", "user_name"):
        word = words.name(rng, split)
    return SystemPrompt(style, FRAMES[style].pick(rng, split).format(w=word), word)
