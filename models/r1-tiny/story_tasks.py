"""Units, dates, word problems and a question about the turn before."""
import arithmetic as A
from problem import Problem
from words import ITEMS, MONTHS, NAMES, PLACES

UNITS = [("kilometers", "meters", 1000), ("meters", "centimeters", 100), ("kilograms", "grams", 1000), ("hours", "minutes", 60),
         ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7), ("feet", "inches", 12), ("years", "months", 12),
         ("liters", "milliliters", 1000), ("centimeters", "millimeters", 10), ("dollars", "cents", 100)]


def units(rng):
    big, small, factor = rng.choice(UNITS)
    n = rng.randint(2, 99)
    zeros = len(str(factor)) - 1
    if factor in (10, 100, 1000) and rng.random() < 0.4:
        value, source, target, answer = n * factor, small, big, n
        trace = f"{factor} {small} are one of {big}. Drop {zeros} zeros from {value}: {n}."
    else:
        value, source, target, answer = n, big, small, n * factor
        trace = f"One of {big} is {factor} {small}. "
        trace += f"Add {zeros} zeros to {n}: {answer}." if factor in (10, 100, 1000) else A.multiply(n, factor)
    q = rng.choice(["How many {t} are in {v} {s}?", "Convert {v} {s} to {t}.", "What is {v} {s} in {t}?",
                    "How many {t} are there in {v} {s}?"]).format(v=value, s=source, t=target)
    return Problem((value, source, target), q, trace, f"{value} {source} are **{answer}** {target}.", str(answer))


def dates(rng):
    m = rng.randrange(12)
    month, days = MONTHS[m]
    day, later = rng.randint(1, days), rng.randint(1, 28)
    total = day + later
    trace = f"{month} has {days} days. {A.add(day, later)}"
    if total > days:
        following = MONTHS[(m + 1) % 12][0]
        trace += f" {total}>{days}, so {following}. {A.subtract(total, days)}"
        answer = f"{following} {total - days}"
    else:
        answer = f"{month} {total}"
        trace += f" {total} is not over {days}, so {month} stays."
    q = rng.choice(["What date is {n} days after {m} {d}?", "Today is {m} {d}. What date is it in {n} days?",
                    "What is the date {n} days after {m} {d}?"]).format(n=later, m=month, d=day)
    return Problem((m, day, later), q, trace, f"It is **{answer}**.", answer)


WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def weekday(rng):
    d, n = rng.randrange(7), rng.randint(1, 600)
    q = rng.choice(["If today is {d}, what day is it in {n} days?", "Today is {d}. What day of the week is it in {n} days?",
                    "What day comes {n} days after {d}?"]).format(d=WEEK[d], n=n)
    walk = ", ".join(f"{WEEK[(d + i) % 7]} {i}" for i in range(n % 7 + 1))
    answer = WEEK[(d + n) % 7]
    return Problem((d, n), q, f"{A.divide(n, 7)} Walk {n % 7} from {WEEK[d]}: {walk}.", f"It is **{answer}**.", answer)


def money(rng):
    (x, y), p, r = rng.sample(ITEMS, 2), rng.randint(2, 30), rng.randint(2, 30)
    n, k = rng.randint(2, 9), rng.randint(2, 9)
    first, second = n * p, k * r
    if rng.random() < 0.5:
        q = f"A {x} costs ${p} and a {y} costs ${r}. How much do {n} {x}s and {k} {y}s cost?"
        trace = f"{n} {x}s: {A.multiply(p, n)} {k} {y}s: {A.multiply(r, k)} Together: {A.add(first, second)}"
        answer, reply, key = first + second, "The total is **${}**.", (x, y, p, r, n, k)
    else:
        paid = next(v for v in (10, 20, 50, 100, 200, 500) if v >= first)
        name = rng.choice(NAMES)
        q = f"{name} buys {n} {x}s at ${p} each and pays with ${paid}. How much change does {name} get?"
        trace = f"{n} {x}s: {A.multiply(p, n)} Change: {A.subtract(paid, first)}"
        answer, reply, key = paid - first, "The change is **${}**.", (x, p, n, paid)
    return Problem(key, q, trace, reply.format(answer), f"${answer}")


def age(rng):
    a, b = rng.sample(NAMES, 2)
    n, gap, later = rng.randint(11, 60), rng.randint(2, 10), rng.randint(2, 30)
    older = rng.random() < 0.5
    other = n + gap if older else n - gap
    q = rng.choice(["{a} is {n} years old. {b} is {g} years {w}. How old will {b} be in {l} years?",
                    "{b} is {g} years {w} than {a}, who is {n}. How old will {b} be in {l} years?"]).format(
        a=a, b=b, n=n, g=gap, w="older" if older else "younger", l=later)
    trace = f"{b} now: {A.add(n, gap) if older else A.subtract(n, gap)} In {later} years: {A.add(other, later)}"
    return Problem((n, gap, later, older), q, trace, f"{b} will be **{other + later}** years old.", str(other + later))


def one_step(rng):
    name, other = rng.sample(NAMES, 2)
    item, place, a, b = rng.choice(ITEMS), rng.choice(PLACES), rng.randint(10, 99), rng.randint(2, 9)
    kind = rng.randrange(4)
    c = rng.randint(2, a - 1)
    if kind == 0:
        q = f"{name} has {a} {item}s and finds {c} more at the {place}. How many {item}s does {name} have now?"
        answer, trace = a + c, "More, so add. " + A.add(a, c)
    elif kind == 1:
        q = f"{name} has {a} {item}s and gives {c} to {other}. How many {item}s are left?"
        answer, trace = a - c, "Gives, so subtract. " + A.subtract(a, c)
    elif kind == 2:
        q = f"There are {b} boxes with {a} {item}s each at the {place}. How many {item}s are there?"
        answer, trace = a * b, "Each, so multiply. " + A.multiply(a, b)
    else:
        a = b * rng.randint(2, 30)
        q = f"{name} shares {a} {item}s equally among {b} friends. How many {item}s does each friend get?"
        answer, trace, c = a // b, "Shares, so divide. " + A.divide(a, b), 0
    return Problem((kind, item, a, b, c), q, trace, f"The answer is **{answer}** {item}s.", str(answer))


def two_step(rng):
    name, other = rng.sample(NAMES, 2)
    item, place, a, b = rng.choice(ITEMS), rng.choice(PLACES), rng.randint(10, 60), rng.randint(2, 9)
    c = rng.randint(2, a - 1)
    kind = rng.randrange(3)
    if kind == 0:
        middle = a * b
        q = f"{name} has {b} bags with {a} {item}s each. {name} gives {c} {item}s to {other}. How many {item}s are left?"
        answer, trace = middle - c, f"First multiply. {A.multiply(a, b)} Then subtract. {A.subtract(middle, c)}"
    elif kind == 1:
        middle = a * b
        q = f"A shop at the {place} has {b} boxes of {a} {item}s and {c} single {item}s. How many {item}s are there in total?"
        answer, trace = middle + c, f"First multiply. {A.multiply(a, b)} Then add. {A.add(middle, c)}"
    else:
        middle, d = a - c, rng.randint(2, 60)
        q = f"{name} had {a} {item}s, gave away {c} and then bought {d} more. How many {item}s does {name} have?"
        answer, trace, b = middle + d, f"First subtract. {A.subtract(a, c)} Then add. {A.add(middle, d)}", d
    return Problem((kind, item, a, b, c), q, trace, f"The answer is **{answer}** {item}s.", str(answer))


def follow_up(rng):
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    before, c = a + b, rng.randint(2, 50)
    first = rng.choice(["What is {a}+{b}?", "What is {a} + {b}?", "Add {a} and {b}.", "What is {a} plus {b}?"]).format(a=a, b=b)
    kind = rng.randrange(3)
    start = f"Before it was {before}. "
    if kind == 0:
        q = rng.choice(["Now add {c}.", "Add {c} to that.", "And plus {c}?", "What if you add {c} more?"]).format(c=c)
        answer, trace, sign = before + c, start + A.add(before, c), f"+ {c}"
    elif kind == 1:
        c = rng.randint(1, before)
        q = rng.choice(["Now subtract {c}.", "Take away {c} from that.", "And minus {c}?"]).format(c=c)
        answer, trace, sign = before - c, start + A.subtract(before, c), f"- {c}"
    else:
        c = rng.randint(2, 9)
        q = rng.choice(["Now multiply it by {c}.", "Multiply that by {c}.", "And times {c}?"]).format(c=c)
        answer, trace, sign = before * c, start + A.multiply(before, c), f"* {c}"
    return Problem((a, b, c, kind), q, trace, f"{before} {sign} = **{answer}**", str(answer), [(first, f"{a} + {b} = **{before}**")])
