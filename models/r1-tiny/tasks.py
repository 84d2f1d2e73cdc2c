"""The 24 reasoning tasks by name, their shares, and which problems are held out."""
import random
import zlib

import letter_tasks as letters
import number_tasks as numbers
import story_tasks as stories
from problem import SPELLED, bold  # noqa: F401, the names other stages use

HELD_OUT = 20  # one key in so many is kept for the evaluation

TASKS = {f.__name__: f for f in (
    numbers.add, numbers.subtract, numbers.multiply_digit, numbers.multiply_two, numbers.divide, numbers.remainder, numbers.compare,
    numbers.extreme, numbers.sort, numbers.sum_list, numbers.sequence, numbers.parity,
    letters.count_letter, letters.letter_position, letters.length, letters.reverse,
    stories.units, stories.dates, stories.weekday, stories.money, stories.age, stories.one_step, stories.two_step, stories.follow_up)}
# drawn more often where the trial was weak or the target is high
SHARE = {"compare": 2, "subtract": 2, "sort": 2, "count_letter": 2, "reverse": 2, "letter_position": 1.5, "length": 1.5, "add": 1.5,
         "multiply_two": 1.5, "sum_list": 1.5, "parity": 0.3}


def held_out(task, key):
    return zlib.crc32(f"{task}:{key}".encode()) % HELD_OUT == 0


def draw(task, rng, evaluation):
    while True:
        problem = TASKS[task](rng)
        if held_out(task, problem.key) == evaluation:
            return problem


def held_out_problems(task, count, seed=1):
    """Distinct held-out problems, as many as the task has up to count."""
    rng, seen, out = random.Random(f"{task}{seed}"), set(), []
    for _ in range(count * 400):
        problem = TASKS[task](rng)
        if held_out(task, problem.key) and (problem.key, problem.question) not in seen:
            seen.add((problem.key, problem.question))
            out.append(problem)
            if len(out) == count:
                break
    return out
