"""Text completions through the openai client."""

import pytest

PROMPT = "The capital of France is"


def whole(api, model, **parameters):
    return api.completions.create(model=model, **{"prompt": PROMPT, "max_tokens": 12, "temperature": 0, **parameters})


def streamed(api, model, **parameters):
    texts, finishes, usage = {}, {}, None
    for chunk in whole(api, model, stream=True, stream_options={"include_usage": True}, **parameters):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    return texts, finishes, usage


@pytest.mark.parametrize("parameters", [
    {},
    {"echo": True},
    {"echo": True, "logprobs": 2},
    {"n": 2, "temperature": 1, "seed": 3},
    {"prompt": [PROMPT, "Once upon a time"], "n": 2, "temperature": 1, "seed": 9},
    {"prompt": [1, 2, 3, 4]},
    {"prompt": [[1, 2, 3], [4, 5]]},
    {"stop": [" the", "."]},
    {"echo": True, "max_tokens": 0},
])
def test_streamed_equals_whole(api, model, parameters):
    answer = whole(api, model, **parameters)
    texts, finishes, usage = streamed(api, model, **parameters)
    prompts = parameters.get("prompt", PROMPT)
    count = len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) else 1
    assert [choice.index for choice in answer.choices] == list(range(count * parameters.get("n", 1)))
    for choice in answer.choices:
        assert texts.get(choice.index, "") == choice.text
        assert finishes[choice.index] == choice.finish_reason
    assert usage.completion_tokens == answer.usage.completion_tokens


def test_default_is_16_tokens(api, model):
    answer = api.completions.create(model=model, prompt=PROMPT, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


def test_text_equals_its_ids(api, gantry, model):
    ids = gantry.request("POST", "/tokenize", {"model": model, "prompt": PROMPT}).json()["tokens"]
    by_text = whole(api, model, extra_body={"return_token_ids": True}).choices[0]
    by_ids = whole(api, model, prompt=ids, extra_body={"return_token_ids": True}).choices[0]
    assert by_text.text == by_ids.text
    assert by_text.model_extra["token_ids"] == by_ids.model_extra["token_ids"]
    assert by_text.model_extra["prompt_token_ids"] == by_ids.model_extra["prompt_token_ids"] == ids


def test_echo(api, model):
    plain = whole(api, model).choices[0].text
    assert whole(api, model, echo=True).choices[0].text == PROMPT + plain
    assert whole(api, model, echo=True, max_tokens=0).choices[0].text == PROMPT


def test_logprobs_of_the_prompt(api, model):
    """What echo says of a prompt's tokens is what generating them would say."""
    generated = whole(api, model, logprobs=3, extra_body={"return_token_ids": True}).choices[0]
    prompt_ids = generated.model_extra["prompt_token_ids"]
    ids = prompt_ids + generated.model_extra["token_ids"][:8]
    echoed = whole(api, model, prompt=ids, echo=True, max_tokens=0, logprobs=3).choices[0].logprobs
    assert len(echoed.tokens) == len(ids)
    assert echoed.token_logprobs[0] is None and echoed.top_logprobs[0] is None
    for position in range(8):
        expected = generated.logprobs.token_logprobs[position]
        assert abs(echoed.token_logprobs[len(prompt_ids) + position] - expected) < 1e-3


def test_logprobs(api, model):
    choice = whole(api, model, logprobs=4).choices[0]
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == len(logprobs.top_logprobs)
    for token, logprob, offset, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.text_offset, logprobs.top_logprobs):
        assert top[token] == logprob == max(top.values())
        assert 4 <= len(top) <= 5
        if not token.startswith("bytes:"):
            assert choice.text[offset:].startswith(token)


def test_batched_answers_equal_single_ones(api, model):
    prompts = [PROMPT, "Once upon a time", "1, 2, 3,", "def main():"]
    together = [choice.text for choice in whole(api, model, prompt=prompts).choices]
    assert together == [whole(api, model, prompt=prompt).choices[0].text for prompt in prompts]
