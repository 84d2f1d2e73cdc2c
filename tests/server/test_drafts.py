"""r1-tiny answers the same whatever number of tokens its MTP layer drafts, and most first drafts are right.

GANTRY_DRAFT_PROMPTS=200 asks as many prompts; GANTRY_DRAFT_RESULTS=FILE writes what was accepted there.
"""

import concurrent.futures
import json
import os
import pathlib
import sys

import pytest
from client import Gantry

R1_TINY = pathlib.Path(__file__).resolve().parents[2] / "models/r1-tiny"
PROMPTS = int(os.environ.get("GANTRY_DRAFT_PROMPTS", "12"))
PLAIN = ["What is the sun?", "Why do birds sing?", "What can I cook with rice?", "How do I make a friend?", "What is a river?",
         "Why is sleep important?", "Tell me about trees.", "What does a doctor do?", "How do planes fly?", "What is music?"]
NAMES = {"steps": "gantry_spec_drafted_steps_total", "drafts": "gantry_spec_draft_tokens_total",
         "accepted": "gantry_spec_accepted_tokens_total", "tokens": "gantry_generation_tokens_total"}


def questions():
    """Four of five are held-out reasoning tasks, the others plain questions."""
    sys.path.insert(0, str(R1_TINY))
    import tasks
    tables = [tasks.held_out_problems(name, -(-PROMPTS // 12)) for name in tasks.TASKS]
    problems = [problem.question for row in zip(*tables) for problem in row]
    return [PLAIN[i // 5 % len(PLAIN)] if i % 5 == 4 else problems[i] for i in range(PROMPTS)]


def requests(sampled):
    out = []
    for i, question in enumerate(questions()):
        body = {"messages": [{"role": "user", "content": question}], "max_tokens": 300, "temperature": 0, "seed": i}
        if sampled:
            body |= {"temperature": 0.8, "top_p": 0.95 if i % 2 else 1.0}
        if i % 4 == 1:
            body |= {"logprobs": True, "top_logprobs": 2}
        if i % 6 == 2:
            body |= {"n": 2, "presence_penalty": 0.3}
        if i % 6 == 3:
            body |= {"stop": ["**"], "min_tokens": 5}
        out.append(body)
    return out


def by_place(server):
    prefix = "gantry_spec_accepted_total"
    lines = [line for line in server.request("GET", "/metrics").text.splitlines() if line.startswith(prefix)]
    return [float(line.split()[-1]) for line in sorted(lines)]


def ask(server, bodies):
    """Answers, the sum of their usages, and how the server's counters moved."""
    before, places = server.metrics(), by_place(server)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda body: server.request("POST", "/v1/chat/completions", {"model": "r1-tiny", **body}), bodies))
    assert [reply.status for reply in replies] == [200] * len(bodies), [r.text for r in replies if r.status != 200][:1]
    answers = [reply.json() for reply in replies]
    details = [answer["usage"]["completion_tokens_details"] for answer in answers]
    usage = {key: sum(detail[key] for detail in details) for key in ("accepted_prediction_tokens", "rejected_prediction_tokens")}
    server.wait_until_idle()
    after = server.metrics()
    moved = {key: after[name] - before[name] for key, name in NAMES.items()}
    moved["by_place"] = [new - old for new, old in zip(by_place(server), places)]
    return [answer["choices"] for answer in answers], usage, moved


@pytest.fixture(scope="module")
def runs():
    """By number of drafts and by kind."""
    out = {}
    for drafts in range(4):
        server = Gantry("--served-model-name", "r1-tiny", "--num-speculative-tokens", str(drafts), model=R1_TINY / "weights")
        try:
            out[drafts] = {kind: ask(server, requests(kind == "sampled")) for kind in ("greedy", "sampled")}
        finally:
            server.stop()
    if path := os.environ.get("GANTRY_DRAFT_RESULTS"):
        table = {f"{drafts} drafts": {kind: moved | usage for kind, (_, usage, moved) in kinds.items()}
                 for drafts, kinds in out.items()}
        same = all(out[k][kind][0] == out[0][kind][0] for k in out for kind in out[k])
        pathlib.Path(path).write_text(json.dumps({"prompts": PROMPTS, "texts_identical": same, "acceptance": table}, indent=1) + "\n")
    return out


@pytest.mark.parametrize("drafts", [1, 2, 3])
@pytest.mark.parametrize("kind", ["greedy", "sampled"])
def test_answers_do_not_depend_on_the_number_of_drafts(runs, kind, drafts):
    plain, drafted = runs[0][kind][0], runs[drafts][kind][0]
    different = [i for i, (a, b) in enumerate(zip(plain, drafted, strict=True)) if a != b]
    assert different == []
    assert any(choice["finish_reason"] == "stop" for choices in plain for choice in choices)


@pytest.mark.parametrize("drafts", [1, 2, 3])
def test_most_first_drafts_are_accepted(runs, drafts):
    for kind, least in (("greedy", 0.7), ("sampled", 0.5)):
        _, usage, moved = runs[drafts][kind]
        assert moved["by_place"][0] / moved["steps"] >= least, (kind, moved)
        assert moved["by_place"][drafts:] == [0] * (3 - drafts)
        # What follows a stop string is not part of an answer.
        assert 0 < usage["accepted_prediction_tokens"] <= moved["accepted"]
        assert 0 < usage["rejected_prediction_tokens"] <= moved["drafts"] - moved["accepted"]


def test_without_drafts_none_are_counted(runs):
    for _, usage, moved in runs[0].values():
        assert moved["drafts"] == 0 and set(usage.values()) == {0}
