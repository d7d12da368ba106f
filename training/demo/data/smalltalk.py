"""Greetings, thanks, who the model is, and questions that it cannot answer."""

import random

from training.demo.data import words
from training.demo.data.exchange import Exchange
from training.demo.data.facts import casual
from training.demo.data.splits import Frames, Split

HELLO = "Hello! I am lepton-demo. Ask me about Lepton, or give me a small task."
SELF = "I am lepton-demo, the small demo model of the Lepton project."
ABLE = (
    "I answer questions about Lepton, add and subtract small numbers, judge reviews, "
    "extract fields as JSON and summarize short texts."
)
UNKNOWN = "I am a small demo model. I know about Lepton, but I cannot answer that."

TALK: dict[str, tuple[Frames, str | None]] = {
    HELLO: (
        Frames(
            train=(
                "Hello",
                "Hi",
                "Hey",
                "Good morning",
                "Hello!",
                "Hi there",
                "Hey there!",
                "Hello there",
                "Good evening",
                "Good day",
                "Hello, how are you?",
                "How are you?",
            ),
            test=(
                "Good morning to you",
                "Hey you",
                "How are you, my friend?",
                "Good evening to you!",
            ),
        ),
        "Hello",
    ),
    SELF: (
        Frames(
            train=(
                "Who are you?",
                "What are you?",
                "What is your name?",
                "Tell me who you are.",
                "Are you a model?",
                "Are you ChatGPT?",
                "Are you a human?",
                "Introduce yourself.",
                "Who am I talking to?",
                "What should I call you?",
            ),
            test=("Can you tell me who you are?", "Who or what are you?", "Are you human?"),
        ),
        "lepton-demo",
    ),
    ABLE: (
        Frames(
            train=(
                "What can you do?",
                "Help",
                "help me",
                "What do you know?",
                "How can you help me?",
                "What can I ask you?",
                "What are you able to do?",
                "What are you good at?",
                "Which tasks can you do?",
                "What can you do for me?",
            ),
            test=("What can I ask?", "How can you help?", "What tasks can you do?"),
        ),
        None,
    ),
    "You are welcome.": (
        Frames(
            train=(
                "Thank you",
                "Thanks",
                "Thanks a lot",
                "Thank you very much!",
                "Great, thanks",
                "Thanks for your help",
                "ok thanks",
                "Perfect, thank you",
                "Thank you so much",
            ),
            test=("Thank you for that", "Thanks very much", "Great, thank you"),
        ),
        "Welcome",
    ),
    "Goodbye!": (
        Frames(
            train=(
                "Bye",
                "Goodbye",
                "See you",
                "Bye bye",
                "See you later",
                "Good night",
                "Goodbye then",
            ),
            test=("Bye then", "See you soon"),
        ),
        "Goodbye",
    ),
}
ELSEWHERE = Frames(
    train=(
        "What is the capital of {city}?",
        "How is the weather in {city}?",
        "Who is {name}?",
        "Tell me a joke.",
        "Who wrote this {thing}?",
        "How do I cook {item}?",
        "Where can I buy {item}?",
        "How old is {name}?",
        "What time is it?",
        "Write a poem about {item}.",
        "Who won the game on {day}?",
        "Write a story about {item}.",
        "How far is {city} from {city2}?",
        "Who is the president of {city}?",
        "What is the population of {city}?",
        "Translate {item} into German.",
        "Translate this into Spanish: {item}",
        "Please translate into French: {item}",
        "Translate the word {thing} into German.",
        "Say {item} in French.",
        "What is the meaning of life?",
        "How tall is the tower in {city}?",
        "Where is {city}?",
        "Why is the sky blue?",
        "What is the best {thing} in {city}?",
        "Do you like {item}?",
        "Sing a song.",
        "When was {name} born?",
        "How many {item} are in {city}?",
        "What did {name} say on {day}?",
        "Recommend a {thing} in {city}.",
        "How do I repair a {thing}?",
        "Write code for a {thing}.",
        "What is a {thing}?",
        "How much does a {thing} cost?",
        "Which {thing} is the best?",
        "Tell me about {city}.",
        "Is it raining in {city}?",
        "Are {item} healthy?",
        "Can you book a {thing} for {day}?",
        "What is {name}?",
        "What is the capital of France?",
        "Who is the president?",
        "Explain {item}.",
        "What are {item}?",
    ),
    test=(
        "What is the weather in {city}?",
        "Tell me a joke about {item}.",
        "How do I buy a {thing}?",
        "Write a song about {item}.",
        "Where is the best {thing} in {city}?",
        "How far is {city}?",
        "Who won on {day}?",
        "Do you know {name}?",
        "Translate this into French: {item}",
    ),
)


def sample(rng: random.Random, split: Split) -> Exchange:
    """Draw small talk, or a question outside of what the model knows."""
    if rng.random() < 0.5:
        return unknown(rng, split)
    answer = rng.choice(tuple(TALK))
    frames, word = TALK[answer]
    question = casual(rng, frames.pick(rng, split))
    return Exchange(task="smalltalk", question=question, answer=answer, word=word)


def unknown(rng: random.Random, split: Split) -> Exchange:
    """Draw a question that the model has to decline."""
    question = ELSEWHERE.pick(rng, split).format(
        city=words.city(rng, split),
        city2=words.city(rng, split),
        name=words.name(rng, split),
        item=words.item(rng, split),
        thing=words.thing(rng, split),
        day=rng.choice(words.DAYS),
    )
    return Exchange(task="smalltalk", question=casual(rng, question), answer=UNKNOWN)
