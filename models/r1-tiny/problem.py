"""What a task makes, and how a reply is checked."""
import re
from dataclasses import dataclass, field

SPELLED = "\ue000"  # between these marks the encoder takes one character at a time


@dataclass
class Problem:
    key: tuple
    question: str
    trace: str
    reply: str
    answer: str
    earlier: list = field(default_factory=list)  # (user, assistant) turns before


def bold(text):
    found = re.findall(r"\*\*(.+?)\*\*", text)
    return found[-1] if found else None


def number(rng, digits):
    """Each length equally often."""
    d = rng.randint(1, digits)
    return rng.randint(10 ** (d - 1) if d > 1 else 0, 10**d - 1)


def listed(numbers):
    return ", ".join(map(str, numbers))
