"""Chat through the openai client: every parameter, streamed and whole."""

import pytest

MESSAGES = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Name three colours."}]


def whole(api, model, **parameters):
    return api.chat.completions.create(model=model, messages=MESSAGES, **{"max_tokens": 24, "temperature": 0, **parameters})


def streamed(api, model, **parameters):
    """Per choice: text, finish reason; and the usage."""
    texts, finishes, usage = {}, {}, None
    for chunk in whole(api, model, stream=True, stream_options={"include_usage": True}, **parameters):
        if chunk.usage:
            assert not chunk.choices
            usage = chunk.usage
        for choice in chunk.choices:
            assert choice.index not in finishes, "a chunk follows the last one"
            if choice.index not in texts:
                assert choice.delta.role == "assistant"
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert usage is not None
    return texts, finishes, usage


@pytest.mark.parametrize("parameters", [
    {},
    {"max_tokens": 1},
    {"max_completion_tokens": 5, "max_tokens": None},
    {"temperature": 1, "seed": 7},
    {"temperature": 0.7, "top_p": 0.5, "seed": 1},
    {"temperature": 1, "seed": 3, "extra_body": {"top_k": 5, "min_p": 0.1}},
    {"presence_penalty": 1.5, "frequency_penalty": 1.0},
    {"extra_body": {"repetition_penalty": 1.3}},
    {"n": 3, "temperature": 1, "seed": 5},
    {"stop": [".", "\n"]},
    {"stop": "e"},
    {"extra_body": {"ignore_eos": True, "min_tokens": 10}},
    {"logit_bias": {"5": -100, "7": 1}},
    {"user": "someone", "extra_body": {"cache_salt": "tenant", "priority": 1, "include_reasoning": False}},
    {"response_format": {"type": "text"}},
])
def test_streamed_equals_whole(api, model, parameters):
    answer = whole(api, model, **parameters)
    texts, finishes, usage = streamed(api, model, **parameters)
    assert len(answer.choices) == parameters.get("n", 1)
    for choice in answer.choices:
        assert choice.message.role == "assistant"
        assert texts[choice.index] == choice.message.content
        assert finishes[choice.index] == choice.finish_reason
    assert usage.prompt_tokens == answer.usage.prompt_tokens > 0
    assert usage.completion_tokens == answer.usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens is not None
    assert usage.completion_tokens_details.reasoning_tokens == 0


def test_length_is_counted(api, model):
    answer = whole(api, model, max_tokens=5, extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5


def test_a_seed_repeats_and_another_differs(api, model):
    texts = [whole(api, model, temperature=1.5, seed=seed, max_tokens=40).choices[0].message.content for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_choices_of_one_request_differ(api, model):
    answer = whole(api, model, temperature=1.5, n=4, seed=11, max_tokens=40)
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_stop_strings_are_cut_off(api, model):
    full = whole(api, model, max_tokens=40).choices[0].message.content
    assert len(full) > 8
    stop = full[4:8]
    answer = whole(api, model, max_tokens=40, stop=[stop])
    assert answer.choices[0].message.content == full[:full.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_stop_token_ids(api, model):
    ids = whole(api, model, extra_body={"return_token_ids": True, "ignore_eos": True}).choices[0].model_extra["token_ids"]
    stop = ids[5]
    answer = whole(api, model, extra_body={"return_token_ids": True, "stop_token_ids": [stop]})
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].model_extra["token_ids"][:-1] == ids[:ids.index(stop)]


def test_logit_bias_decides(api, model):
    ids = whole(api, model, max_tokens=1, extra_body={"return_token_ids": True, "ignore_eos": True}).choices[0].model_extra["token_ids"]
    other = 100 if ids[0] != 100 else 101
    biased = whole(api, model, max_tokens=3, logit_bias={str(other): 100}, extra_body={"return_token_ids": True, "ignore_eos": True})
    assert biased.choices[0].model_extra["token_ids"] == [other] * 3


def test_logprobs(api, model):
    answer = whole(api, model, logprobs=True, top_logprobs=5, max_tokens=8)
    items = answer.choices[0].logprobs.content
    assert b"".join(bytes(item.bytes) for item in items).decode(errors="ignore").startswith(answer.choices[0].message.content)
    for item in items:
        assert len(item.top_logprobs) == 5
        ordered = [top.logprob for top in item.top_logprobs]
        assert ordered == sorted(ordered, reverse=True)
        assert item.logprob == ordered[0] <= 0  # greedy
        assert item.token == item.top_logprobs[0].token
    pieces = []
    for chunk in whole(api, model, logprobs=True, top_logprobs=5, max_tokens=8, stream=True):
        if chunk.choices and chunk.choices[0].logprobs:
            pieces += chunk.choices[0].logprobs.content
    assert [piece.token for piece in pieces] == [item.token for item in items]
    assert whole(api, model, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert whole(api, model).choices[0].logprobs is None


def test_parts_and_roles(api, model):
    parts = [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]
    messages = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts},
                {"role": "assistant", "content": "hello"}, {"role": "user", "content": "Again.", "name": "someone"}]
    answer = api.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0)
    assert answer.choices[0].message.content
    back = [*messages, answer.choices[0].message.model_dump(exclude_unset=True), {"role": "user", "content": "Thanks."}]
    assert api.chat.completions.create(model=model, messages=back, max_tokens=4).choices


def test_control_tokens_in_content_are_text(gantry, model):
    """A message's text holds none of the ids that the same text is in a raw prompt."""
    tags = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]

    def tokens(body):
        answer = gantry.request("POST", "/tokenize", {"model": model, **body})
        assert answer.status == 200, answer.text
        return answer.json()["tokens"]

    def chat(content):
        return tokens({"messages": [{"role": "user", "content": content}]})
    control = [tokens({"prompt": tag, "add_special_tokens": False}) for tag in tags]
    assert all(len(ids) == 1 for ids in control)
    harmless, hostile = chat("x"), chat("".join(tags))
    assert harmless.count(control[0][0]) > 0
    for (token,) in control:
        assert hostile.count(token) == harmless.count(token)
    text = gantry.request("POST", "/detokenize", {"model": model, "tokens": hostile}).json()["prompt"]
    assert "".join(tags) in text


@pytest.mark.parametrize("content", ["\u0000", "\u202e\u2066", "e" + "\u0301" * 1000, "👩‍👩‍👧‍👦", "\u2028\ufeff", "\\\"\n\t"])
def test_any_text_survives(gantry, model, content):
    tokens = gantry.request("POST", "/tokenize", {"model": model, "prompt": content, "add_special_tokens": False}).json()["tokens"]
    assert gantry.request("POST", "/detokenize", {"model": model, "tokens": tokens}).json()["prompt"] == content


def test_streams_hold_only_whole_characters(api, model):
    messages = [{"role": "user", "content": "Repeat: 👩‍👩‍👧‍👦 é 日本語"}]
    for chunk in api.chat.completions.create(model=model, messages=messages, max_tokens=40, temperature=1.5, seed=4, stream=True):
        for choice in chunk.choices:
            (choice.delta.content or "").encode()  # a lone surrogate would raise
