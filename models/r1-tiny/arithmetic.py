"""Worked arithmetic: each function returns the steps as text, one digit at a time, ending in the result."""


def reversed_digits(n, width):
    return str(n).zfill(width)[::-1]


def add(a, b):
    if a < 10 and b < 10:
        return f"{a}+{b}={a + b}."
    width = max(len(str(a)), len(str(b)))
    x, y = reversed_digits(a, width), reversed_digits(b, width)
    parts, carry, kept = [f"{a}+{b}: from the right {x} and {y}."], 0, ""
    for i in range(width):
        total = int(x[i]) + int(y[i]) + carry
        kept = (str(total) if i == width - 1 else str(total % 10)) + kept
        parts.append(f"{x[i]}+{y[i]}+{carry}={total}, keep {kept}.")
        carry = total // 10
    return " ".join(parts) + f" So {a}+{b}={a + b}."


def subtract(a, b):
    """For a >= b."""
    if a < 10:
        return f"{a}-{b}={a - b}."
    width = len(str(a))
    x, y = reversed_digits(a, width), reversed_digits(b, width)
    parts, borrow, kept = [f"{a}-{b}: from the right {x} and {y}."], 0, ""
    for i in range(width):
        left, right = int(x[i]), int(y[i])
        lent = left - right - borrow < 0
        digit = left - right - borrow + 10 * lent
        kept = str(digit) + kept
        parts.append(f"{left + 10 * lent}-{right}-{borrow}={digit}, keep {kept}.")
        borrow = int(lent)
    return " ".join(parts) + f" So {a}-{b}={a - b}."


def times_digit(a, d):
    if a < 10:
        return f"{a}*{d}={a * d}."
    x = str(a)[::-1]
    parts, carry, kept = [f"{a}*{d}: from the right {x}."], 0, ""
    for i, digit in enumerate(x):
        product = int(digit) * d
        total = product + carry
        kept = (str(total) if i == len(x) - 1 else str(total % 10)) + kept
        parts.append(f"{digit}*{d}={product}, +{carry}={total}, keep {kept}.")
        carry = total // 10
    return " ".join(parts) + f" So {a}*{d}={a * d}."


def multiply(a, b):
    if b < 10:
        return times_digit(a, b)
    tens, ones = divmod(b, 10)
    return (f"{b}={tens}0+{ones}. {times_digit(a, ones)} {times_digit(a, tens)} "
            f"With a zero {a * tens * 10}. {add(a * tens * 10, a * ones)} So {a}*{b}={a * b}.")


def divide(a, b):
    """Long division from the left, with quotient and remainder."""
    parts, rest, quotient = [f"{a}/{b}: digits from the left."], 0, ""
    for digit in str(a):
        value = rest * 10 + int(digit)
        q, r = divmod(value, b)
        quotient += str(q)
        parts.append(f"{rest} and {digit} make {value}={b}*{q}+{r}, quotient {quotient}.")
        rest = r
    return " ".join(parts) + f" So {a}={b}*{a // b}+{a % b}."


def indexed(text):
    return " ".join(f"{i} {c}" for i, c in enumerate(text, 1))


def lettered(n):
    return " ".join(f"{'abcdefghij'[i]}{c}" for i, c in enumerate(str(n)))


def compare(a, b):
    """Lengths first, then digits from the left; letters mark the places, so that no place looks like a digit."""
    x, y = str(a), str(b)
    parts = [f"{a}: {lettered(a)}. {b}: {lettered(b)}."]
    if len(x) != len(y):
        sign = "more" if len(x) > len(y) else "fewer"
        parts.append(f"Lengths {len(x)} and {len(y)}: {sign} digits.")
    else:
        for place, c, d in zip("abcdefghij", x, y):
            sign = "=" if c == d else ">" if c > d else "<"
            parts.append(f"{place}: {c}{sign}{d}.")
            if c != d:
                break
    sign = ">" if a > b else "<"
    return " ".join(parts) + f" So {a}{sign}{b}."


def compare_short(a, b):
    """A comparison in few tokens, for scans over lists."""
    x, y = str(a), str(b)
    if len(x) != len(y):
        why = f"length {len(x)}, {len(y)}"
    else:
        c, d = next(((c, d) for c, d in zip(x, y) if c != d), (x[-1], y[-1]))
        why = f"{c}{'<' if c < d else '>' if c > d else '='}{d}"
    return f"{a} and {b}: {why}, {a}{'<' if a < b else '>' if a > b else '='}{b}"
