r"""The final answer in a model's output: without reasoning, tags and special tokens.

    final_answer("<think>Is it A? No.</think>B")     ->  "B"
    final_answer("<answer>C</answer>")               ->  "C"
    final_answer("<think>Is it A? Let me")           ->  None     (cut inside the reasoning: there is no answer)

Reasoning models write their reasoning between tags. Known forms: <think>, <thinking>, <thought>, <reasoning>,
<reflection> (DeepSeek-R1, Qwen3, LLaVA-CoT and similar), ◁think▷ (Kimi), [THINK] (Magistral), <seed:think> (Seed-OSS),
<|begin_of_thought|> (Sky-T1), and gpt-oss' channels.
"""

import re

_WORDS = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
_OPEN = rf"(?:<(?:seed:)?{_WORDS}>|◁think▷|\[THINK\]|<\|begin_of_thought\|>)"
_CLOSE = rf"(?:</(?:seed:)?{_WORDS}>|◁/think▷|\[/THINK\]|<\|end_of_thought\|>)"
_THOUGHT = re.compile(rf"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
_UNTIL_CLOSE = re.compile(rf"^.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_FROM_OPEN = re.compile(rf"{_OPEN}.*$", re.DOTALL | re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r".*<\|channel\|>\s*final\s*(?:<\|[^|>]*\|>\s*\w*\s*)*?<\|message\|>", re.DOTALL)
_ANSWER = re.compile(r"<(answer|solution|conclusion)>(.*?)(?:</\1>|$)", re.DOTALL | re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<(?:eos|bos|pad|unk|end_of_turn|start_of_turn)>|\[/?INST\]")


def final_answer(text: str) -> str | None:
    """The answer without reasoning, as plain text; None if the text ends inside the reasoning.

    Of several `<answer>` parts the last counts. Text before a closing tag that was never opened is reasoning, and so is
    text after an opening tag that is never closed.
    """
    if "<|channel|>" in text:
        final = _FINAL_CHANNEL.match(text)
        if final is None:
            return None
        text = text[final.end() :]
    text = _THOUGHT.sub(" ", text)
    text = _UNTIL_CLOSE.sub(" ", text)
    if _FROM_OPEN.search(text):
        before = _FROM_OPEN.sub(" ", text).strip()
        return before or None
    answers = _ANSWER.findall(text)
    if answers:
        text = answers[-1][1]
    return _SPECIAL.sub(" ", text).strip()
