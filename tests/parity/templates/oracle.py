"""jinja2 as transformers runs it: the reference for src/chat/.

The environment is that of transformers/utils/chat_template_utils.py (5.23): immutable sandbox, trim_blocks,
lstrip_blocks, loop controls, the `generation` tag, tojson as plain json.dumps, raise_exception, strftime_now.
"""
import datetime
import json

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def environment(now: int) -> ImmutableSandboxedEnvironment:
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def render_all(source: str, inputs: list) -> dict:
    """{"results": [{"output"} | {"error", "type"}]}, or {"error", "type"} if the template does not compile."""
    try:
        env = environment(inputs[0].get("now", 0))
        template = env.from_string(source)
    except Exception as e:  # a SyntaxError of Python's own compiler as well
        return {"error": getattr(e, "message", None) or str(e), "type": type(e).__name__}
    results = []
    for case in inputs:
        variables = {
            "messages": case.get("messages", []),
            "tools": case.get("tools"),
            "documents": None,
            "add_generation_prompt": case.get("add_generation_prompt", True),
            "bos_token": case.get("bos_token", ""),
            "eos_token": case.get("eos_token", ""),
            **(case.get("kwargs") or {}),
        }
        try:
            # Deep copy: no template may change what the next one sees.
            results.append({"output": template.render(**json.loads(json.dumps(variables)))})
        except Exception as e:
            results.append({"error": str(e), "type": type(e).__name__})
    return {"results": results}
