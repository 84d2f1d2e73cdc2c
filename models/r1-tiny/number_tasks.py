"""Tasks on bare numbers."""
import arithmetic as A
from problem import Problem, listed, number


def add(rng):
    a, b = number(rng, 5), number(rng, 5)
    q = rng.choice(["What is {a}+{b}?", "What is {a} + {b}?", "{a} + {b} = ?", "{a}+{b}", "Add {a} and {b}.", "Compute {a} + {b}.",
                    "What is {a} plus {b}?", "What is the sum of {a} and {b}?", "Calculate {a}+{b}.",
                    "How much is {a} plus {b}?"]).format(a=a, b=b)
    return Problem((a, b), q, A.add(a, b), f"{a} + {b} = **{a + b}**", str(a + b))


def subtract(rng):
    a, b = number(rng, 5), number(rng, 5)
    if rng.random() < 0.9 and a < b:
        a, b = b, a
    q = rng.choice(["What is {a}-{b}?", "What is {a} - {b}?", "{a} - {b} = ?", "{a}-{b}", "Subtract {b} from {a}.", "Compute {a} - {b}.",
                    "What is {a} minus {b}?", "How much is {a} minus {b}?", "Take {b} away from {a}.",
                    "Calculate {a}-{b}."]).format(a=a, b=b)
    larger = A.compare(a, b) if a != b else f"{a}={b}."
    steps = f"{larger} {A.subtract(max(a, b), min(a, b))}"
    if a < b:
        steps += f" So {a}-{b}=-{b - a}."
    return Problem((a, b), q, steps, f"{a} - {b} = **{a - b}**", str(a - b))


def product(rng, a, b):
    if rng.random() < 0.5:
        q = rng.choice(["What is {a}*{b}?", "What is {a} * {b}?", "{a} * {b} = ?", "{a} x {b} = ?", "What is {a} × {b}?", "{a}*{b}"])
    else:
        q = rng.choice(["What is {a} times {b}?", "Multiply {a} by {b}.", "Compute {a} * {b}.", "Calculate {a} times {b}.",
                        "What is the product of {a} and {b}?", "How much is {a} times {b}?"])
    big, small = (a, b) if b < 10 or a >= 10 else (b, a)
    return Problem((a, b), q.format(a=a, b=b), A.multiply(big, small), f"{a} * {b} = **{a * b}**", str(a * b))


def multiply_digit(rng):
    a, b = number(rng, 3), rng.randint(0, 9)
    return product(rng, *((a, b) if rng.random() < 0.7 else (b, a)))


def multiply_two(rng):
    return product(rng, rng.randint(10, 99), rng.randint(10, 99))


def divide(rng):
    b = rng.randint(2, 12)
    a = b * rng.randint(1, 99)
    q = rng.choice(["What is {a}/{b}?", "What is {a} divided by {b}?", "Divide {a} by {b}.", "{a} / {b} = ?", "{a} ÷ {b} = ?",
                    "How many times does {b} go into {a}?"]).format(a=a, b=b)
    return Problem((a, b), q, A.divide(a, b), f"{a} / {b} = **{a // b}**", str(a // b))


def remainder(rng):
    b, a = rng.randint(2, 12), rng.randint(10, 999)
    q = rng.choice(["What is the remainder when {a} is divided by {b}?", "What is {a} mod {b}?", "Divide {a} by {b}. What is left over?",
                    "What is the remainder of {a} divided by {b}?", "Find the remainder of {a} / {b}."]).format(a=a, b=b)
    return Problem((a, b), q, A.divide(a, b), f"The remainder is **{a % b}**.", str(a % b))


def compare(rng):
    a, b = number(rng, 6), number(rng, 6)
    if rng.random() < 0.6:  # same length, often a shared beginning
        x = str(a)
        k = rng.randint(0, len(x) - 1)
        b = int(x[:k] + "".join(rng.choice("0123456789") for _ in x[k:]))
    if a == b:
        b = a + 1
    large, small = max(a, b), min(a, b)
    kind = rng.randrange(3)
    if kind == 2:
        q = rng.choice(["Is {a} greater than {b}?", "Is {a} larger than {b}?", "Is {a} bigger than {b}?"]).format(a=a, b=b)
        answer = "Yes" if a > b else "No"
        reply = f"**{answer}**, {a} is {'larger' if a > b else 'smaller'} than {b}."
    elif kind == 1:
        q = rng.choice(["Which is smaller, {a} or {b}?", "Which number is smaller: {a} or {b}?", "Which is less, {a} or {b}?"]).format(a=a, b=b)
        answer, reply = str(small), f"**{small}** is smaller than {large}."
    else:
        q = rng.choice(["Which is larger, {a} or {b}?", "Which number is bigger, {a} or {b}?", "Which is greater: {a} or {b}?",
                        "What is larger, {a} or {b}?", "Compare {a} and {b}. Which is larger?"]).format(a=a, b=b)
        answer, reply = str(large), f"**{large}** is larger than {small}."
    return Problem((a, b, kind), q, A.compare(a, b), reply, answer)


def extreme(rng):
    numbers = rng.sample(range(1, 1000 if rng.random() < 0.4 else 100), rng.randint(3, 6))
    top = rng.random() < 0.5
    adjective = rng.choice(["largest", "biggest", "highest", "greatest"] if top else ["smallest", "lowest", "least"])
    q = rng.choice(["What is the {w} number in {l}?", "Which of these is the {w}: {l}?", "Find the {w} of {l}.",
                    "What is the {w} of these numbers: {l}?"]).format(w=adjective, l=listed(numbers))
    best, parts = numbers[0], [f"Start with {numbers[0]}."]
    for n in numbers[1:]:
        step = A.compare_short(n, best)
        best = max(best, n) if top else min(best, n)
        parts.append(f"{step}, best {best}.")
    return Problem((top, *numbers), q, " ".join(parts), f"The {adjective} number is **{best}**.", str(best))


def sort(rng):
    numbers = rng.sample(range(1, 100), rng.randint(3, 5))
    down = rng.random() < 0.3
    order = rng.choice(["from largest to smallest", "in descending order"] if down else
                       ["from smallest to largest", "in ascending order", "in increasing order"])
    q = rng.choice(["Sort {l} {o}.", "Sort these numbers {o}: {l}.", "Put {l} {o}.", "Arrange these numbers {o}: {l}."]).format(
        l=listed(numbers), o=order)
    left, done, parts = list(numbers), [], []
    while left:
        best, steps = left[0], [f"Left: {listed(left)}. Take {left[0]}."]
        for n in left[1:]:
            step = A.compare_short(n, best)
            best = max(best, n) if down else min(best, n)
            steps.append(f"{step}, take {best}.")
        left.remove(best)
        done.append(best)
        parts.append(" ".join(steps) + f" Sorted: {listed(done)}.")
    return Problem((down, *numbers), q, "\n".join(parts), f"Sorted: **{listed(done)}**", listed(done))


def sum_list(rng):
    numbers = [rng.randint(1, 99) for _ in range(rng.randint(3, 5))]
    q = rng.choice(["What is the sum of {l}?", "Add these numbers: {l}.", "Find the total of {l}.", "Sum {l}.",
                    "What do {l} add up to?"]).format(l=listed(numbers))
    total, parts = numbers[0], []
    for i, n in enumerate(numbers[1:], 2):
        parts.append(f"Number {i} is {n}. {A.add(total, n)}")
        total += n
    return Problem(tuple(numbers), q, "\n".join(parts), f"The sum is **{total}**.", str(total))


def sequence(rng):
    step, down = rng.randint(1, 15), rng.random() < 0.25
    start = rng.randint(1, 99) + (5 * step if down else 0)
    terms = [start + i * (-step if down else step) for i in range(rng.randint(4, 5))]
    after = terms[-1] + (-step if down else step)
    q = rng.choice(["What comes next: {l}?", "What is the next number in {l}?", "Continue the sequence: {l}.",
                    "Find the next number: {l}, ..."]).format(l=listed(terms))
    gaps = [A.subtract(max(p), min(p)) for p in zip(terms[:2], terms[1:3])]
    last = A.subtract(terms[-1], step) if down else A.add(terms[-1], step)
    trace = f"{' '.join(gaps)} {'Down' if down else 'Up'} by {step} each time. The last is {terms[-1]}. {last}"
    return Problem(tuple(terms), q, trace, f"The next number is **{after}**.", str(after))


def parity(rng):
    n = number(rng, 6)
    q = rng.choice(["Is {n} even or odd?", "Is {n} odd or even?", "Is the number {n} even or odd?", "{n}: even or odd?"]).format(n=n)
    answer = "odd" if n % 2 else "even"
    return Problem((n,), q, f"The last digit of {n} is {n % 10}, and {n % 10} is {answer}.", f"{n} is **{answer}**.", answer)
