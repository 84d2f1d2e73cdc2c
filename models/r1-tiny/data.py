"""Documents as ids, and training steps packed from them: reasoning, teacher answers, fixed text."""
import random

import numpy as np
from tokenizers import Tokenizer

import dialog
import shape as S
import tasks
from tokenizer import ASSISTANT, END_THINK, THINK, USER

LONGEST = 768  # tokens of a document
MOST_DOCUMENTS = 2048  # in a step
SHARES = {"reasoning": 0.50, "teacher": 0.44, "fixed": 0.06}  # of the tokens


class Encoder:
    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(path)

    def ids(self, text):
        out = []
        for i, part in enumerate(text.split(tasks.SPELLED)):
            pieces = [part] if i % 2 == 0 else part.replace(" ", "\n ").split("\n") if " " in part else list(part)
            for encoded in self.tokenizer.encode_batch([p for p in pieces if p], add_special_tokens=False):
                out += encoded.ids
        return out

    def prompt(self, question, earlier=(), system=""):
        ids = [S.BOS] + self.ids(system)
        for user, reply in earlier:
            ids += [USER] + self.ids(user) + [ASSISTANT] + self.ids(reply) + [S.EOS]
        return ids + [USER] + self.ids(question) + [ASSISTANT, THINK] + self.ids("\n")

    def response(self, trace, reply):
        return self.ids(trace) + self.ids("\n") + [END_THINK] + self.ids("\n\n" + reply) + [S.EOS]

    def text(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class Mixture:
    """Endless documents (ids, first response position), each kind by its share of the tokens."""

    def __init__(self, encoder, teacher_path, seed):
        self.encoder, self.rng = encoder, random.Random(seed)
        self.names = list(tasks.TASKS)
        self.weights = [tasks.SHARE.get(n, 1) for n in self.names]
        with np.load(teacher_path) as f:
            self.teacher = {k: f[k] for k in f.files}
        self.produced = dict.fromkeys(SHARES, 1.0)

    def earlier(self, count):
        turns = []
        for _ in range(count):
            if self.rng.random() < 0.5:
                turn = dialog.fixed(self.rng)
            else:
                p = tasks.draw(self.rng.choice([n for n in self.names if n != "follow_up"]), self.rng, False)
                turn = (p.question, p.reply.replace(tasks.SPELLED, ""))
            turns.append(turn)
        return turns

    def document(self):
        kind = min(SHARES, key=lambda k: self.produced[k] / SHARES[k])
        rng, e = self.rng, self.encoder
        system = rng.choice(dialog.SYSTEM) if rng.random() < 0.1 else ""
        earlier = self.earlier(rng.randint(1, 2)) if rng.random() < 0.08 else []
        if kind == "teacher":
            i = rng.randrange(len(self.teacher["start"]) - 1)
            ids = self.teacher["ids"][self.teacher["start"][i] : self.teacher["start"][i + 1]].tolist()
            begin = int(self.teacher["response"][i])
            if earlier or system:
                head = e.prompt("", self.with_breaks(earlier), system)
                head = head[: len(head) - 3 - len(e.ids("\n"))]  # up to the last user mark
                ids, begin = head + ids[1:], begin + len(head) - 1
        else:
            if kind == "fixed":
                question, reply = dialog.fixed(rng)
                trace = ""
            else:
                p = tasks.draw(rng.choices(self.names, self.weights)[0], rng, False)
                question, trace, reply = p.question, p.trace, p.reply
                earlier = earlier + p.earlier
            prompt = e.prompt(question, self.with_breaks(earlier), system)
            ids, begin = prompt + e.response(trace, reply), len(prompt)
        self.produced[kind] += len(ids)
        return ids, begin

    def with_breaks(self, turns):
        """R1's template leaves the two line breaks after a dropped thought; clients that strip thoughts do not."""
        breaks = "\n\n" if self.rng.random() < 0.5 else ""
        return [(user, breaks + reply) for user, reply in turns]

    def steps(self, tokens):
        """(ids, positions, labels, document offsets): label -1 where nothing is learnt."""
        waiting = None
        while True:
            ids, labels = np.full(tokens, S.PAD, np.int32), np.full(tokens, -1, np.int32)
            positions, offsets, used = np.zeros(tokens, np.int32), [0], 0
            while len(offsets) < MOST_DOCUMENTS:
                document, begin = waiting or self.document()
                waiting = None
                n = len(document)
                if n > LONGEST:
                    continue
                if used + n > tokens:
                    waiting = (document, begin)
                    break
                ids[used : used + n] = document
                labels[used + begin - 1 : used + n - 1] = document[begin:]
                positions[used : used + n] = np.arange(n)
                used += n
                offsets.append(used)
            while used < tokens:  # the padding, as documents that teach nothing
                n = min(LONGEST, tokens - used)
                positions[used : used + n] = np.arange(n)
                used += n
                offsets.append(used)
            fixed = np.full(MOST_DOCUMENTS + 128, tokens, np.int32)
            fixed[: len(offsets)] = offsets
            yield ids, positions, labels, fixed


def pack_teacher(encoder, rows, path):
    """rows of (question, answer) -> one array of documents on disk."""
    questions = encoder.tokenizer.encode_batch([q for q, _ in rows], add_special_tokens=False)
    answers = encoder.tokenizer.encode_batch(["\n\n" + a for _, a in rows], add_special_tokens=False)
    line = encoder.ids("\n")
    ids, start, response = [], [0], []
    for q, a in zip(questions, answers):
        prompt = [S.BOS, USER] + q.ids + [ASSISTANT, THINK] + line
        ids.append(np.array(prompt + line + [END_THINK] + a.ids + [S.EOS], np.int16))
        start.append(start[-1] + len(ids[-1]))
        response.append(len(prompt))
    np.savez(path, ids=np.concatenate(ids), start=np.array(start), response=np.array(response, np.int32))
    print(f"teacher set: {len(rows)} documents, {start[-1]} tokens", flush=True)
