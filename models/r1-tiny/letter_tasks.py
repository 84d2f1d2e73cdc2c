"""Tasks on the letters of a word."""
import arithmetic as A
from problem import SPELLED, Problem
from words import WORDS


def some_word(rng):
    if rng.random() < 0.15:
        return "".join(rng.choice("bcdfghklmnprstvw" if i % 2 else "aeiou") for i in range(rng.randint(3, 8)))
    return rng.choice(WORDS)


def quoted(rng, word):
    return rng.choice([f'"{word}"', f"the word {word}", f'the word "{word}"', word])


def spelled(word):
    return f"Spell {SPELLED}{' '.join(word)}{SPELLED}."


def count_letter(rng):
    word = some_word(rng)
    letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    style = rng.choice([letter, f"'{letter}'", f'"{letter}"', letter])
    q = rng.choice(["How many times does the letter {c} appear in {w}?", "How many {c}'s are in {w}?", "Count the letter {c} in {w}.",
                    "How many {c} are in {w}?", "How many letters {c} are there in {w}?"]).format(c=style, w=quoted(rng, word))
    count, parts = 0, []
    for c in word:
        count += c == letter
        parts.append(f"{c} {count}")
    trace = f"Count {letter}. {spelled(word)} {'; '.join(parts)}. So {count}."
    return Problem((word, letter), q, trace, f"The letter {letter} appears **{count}** time{'' if count == 1 else 's'}.", str(count))


ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]


def letter_position(rng):
    word = some_word(rng)
    last = rng.random() < 0.15
    i = len(word) if last else rng.randint(1, min(len(word), 10))
    ordinal = "last" if last else ORDINALS[i - 1]
    q = rng.choice(["What is the {o} letter of {w}?", "What is the {o} letter in {w}?", "Which letter is {o} in {w}?"]).format(
        o=ordinal, w=quoted(rng, word))
    trace = f"{'The last letter' if last else f'Letter {i}'}. {spelled(word)} {A.indexed(word)}. Letter {i} is {word[i - 1]}."
    return Problem((word, ordinal), q, trace, f"The {ordinal} letter is **{word[i - 1]}**.", word[i - 1])


def length(rng):
    word = some_word(rng)
    q = rng.choice(["How many letters are in {w}?", "How long is {w}?", "How many letters does {w} have?",
                    "Count the letters in {w}."]).format(w=quoted(rng, word))
    return Problem((word,), q, f"{spelled(word)} {A.indexed(word)}. So {len(word)}.", f"It has **{len(word)}** letters.", str(len(word)))


def reverse(rng):
    word = some_word(rng)
    q = rng.choice(["Reverse {w}.", "Spell {w} backwards.", "What is {w} spelled backwards?", "Write {w} backwards.",
                    "What is {w} reversed?"]).format(w=quoted(rng, word))
    back = " ".join(f"{i} {word[i - 1]}" for i in range(len(word), 0, -1))
    return Problem((word,), q, f"{spelled(word)} {A.indexed(word)}. Backwards: {back}.", f"**{SPELLED}{word[::-1]}{SPELLED}**", word[::-1])
