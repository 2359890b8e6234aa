"""A whole chat written as one text, as training files of `text` have it -> its turns."""

from __future__ import annotations

import re

Turn = dict[str, str]

# One pattern a form: the role and the content of each turn. Named as the model families call them.
_FORMS = (
    re.compile(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n?(.*?)(?=<\|im_end\|>|<\|im_start\|>|\Z)", re.DOTALL),  # ChatML
    re.compile(
        r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>(.*?)(?=<\|eot_id\|>|<\|start_header_id\|>|\Z)",
        re.DOTALL,
    ),  # Llama 3
    re.compile(r"<start_of_turn>[ \t]*(\w+)[ \t]*\n?(.*?)(?=<end_of_turn>|<start_of_turn>|\Z)", re.DOTALL),  # Gemma
    re.compile(r"<\|(system|user|assistant)\|>(.*?)(?=<\|end\|>|<\|(?:system|user|assistant)\|>|\Z)", re.DOTALL),  # Phi
)
_MARKS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|user|>")
_INSTRUCTION = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|</s>|\Z)", re.DOTALL)  # Llama 2, Mistral
_LLAMA2_SYSTEM = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_ALPACA = re.compile(r"^###\s*(Instruction|Input|Response|User|Assistant|Human)\s*:[ \t]*\n?", re.MULTILINE)
_NAMED = re.compile(r"^(System|User|Human|Assistant)\s*:[ \t]*", re.MULTILINE)
_ROLES = {"model": "assistant", "human": "user", "gpt": "assistant", "instruction": "user", "response": "assistant"}
_ENDS = re.compile(r"(?:</s>|<\|endoftext\|>|<\|end_of_text\|>|<eos>)\s*\Z")


def role_name(role: str) -> str:
    """`user`, `assistant` or `system`, whatever a form calls them."""
    return _ROLES.get(role.lower(), role.lower())


def split_transcript(text: str) -> list[Turn]:
    """The turns of a chat in ChatML, Llama 2 or 3, Gemma, Phi or Alpaca form, or with names before colons.

    Nothing where it is none of these.
    """
    for mark, form in zip(_MARKS, _FORMS, strict=True):
        if mark in text:
            return [_turn(match[1], match[2]) for match in form.finditer(text)]
    if "[INST]" in text:
        return _instructions(text)
    for form in (_ALPACA, _NAMED):
        parts = form.split(text)
        if len(parts) >= 5:  # what stands before the first name, and two turns at least
            return _joined([_turn(role, content) for role, content in zip(parts[1::2], parts[2::2], strict=True)])
    return []


def _turn(role: str, content: str) -> Turn:
    return {"role": role_name(role), "content": _ENDS.sub("", content).strip()}


def _instructions(text: str) -> list[Turn]:
    turns: list[Turn] = []
    for match in _INSTRUCTION.finditer(text):
        asked = match[1]
        if system := _LLAMA2_SYSTEM.search(asked):
            turns.append(_turn("system", system[1]))
            asked = asked.replace(system[0], "")
        turns.append(_turn("user", asked))
        if match[2].strip():
            turns.append(_turn("assistant", match[2]))
    return turns


def _joined(turns: list[Turn]) -> list[Turn]:
    """Alpaca's Input belongs to the Instruction before it."""
    found: list[Turn] = []
    for turn in turns:
        if turn["role"] == "input" and found and found[-1]["role"] == "user":
            found[-1] = {"role": "user", "content": f"{found[-1]['content']}\n{turn['content']}".strip()}
        else:
            found.append({**turn, "role": "user" if turn["role"] == "input" else turn["role"]})
    return found
