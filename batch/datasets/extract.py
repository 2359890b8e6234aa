"""A prompt and the bare input inside it: taken out of one, or put into one by a template."""

from __future__ import annotations

import re
from dataclasses import dataclass

from batch.datasets.transcripts import split_transcript
from batch.errors import BatchError

# What stands before the sentence in the prompts of known correction datasets; a colon may be of either width.
_PREFIXES = (
    "Please correct the grammar in the following Japanese sentence:",
    "Correct the grammar in this Japanese sentence:",
    "Correct the grammar of the following Japanese sentence.\n",
    "Please correct the following Japanese sentence:",
    "Correct this Japanese sentence:",
    "Correct the grammar in the following sentence:",
    "Fix the grammar:",
    "次の日本語文を文法的に正しく修正してください:",
    "次の文の文法を直してください:",
    "次の文を修正してください。\n",
    "文法を修正してください:",
)
# Tags that name a task; only at the very beginning, as a sentence may well have brackets in it.
_TAG = re.compile(r"\s*\[(?:FIX|DETECT|CORRECT|ASSESS)\]\s*")
_COLON = re.compile(r":\s|：")
_PLACE = re.compile(r"\{(?:input_text|input|text|prompt|sentence|)\}")


def _pattern(prefix: str) -> re.Pattern[str]:
    words = [re.escape(part) for part in prefix.rstrip(":\n").split()]
    end = r"\s*[:：]\s*" if prefix.endswith(":") else r"\s*"
    return re.compile(r"\s+".join(words) + end)


_KNOWN = tuple(_pattern(prefix) for prefix in _PREFIXES)


class TemplateError(BatchError):
    """A prompt template that has no place for the input."""


@dataclass(frozen=True, slots=True)
class Template:
    """`prompt_template` of a configuration: a text, or a chat in ChatML, with a place for the input.

    The place is `{input_text}`; `{input}`, `{text}`, `{prompt}`, `{sentence}` and `{}` are taken for the same. Nothing
    else in it is interpreted.
    """

    system: str | None
    before: str
    after: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises TemplateError where there is no place for the input."""
        system = None
        if turns := split_transcript(text):
            system = next((turn["content"] for turn in turns if turn["role"] == "system"), None)
            text = next((turn["content"] for turn in turns if _PLACE.search(turn["content"])), "")
        place = _PLACE.search(text)
        if place is None:
            raise TemplateError("prompt_template has no place for the input; write {input_text} where it goes")
        return cls(system, text[: place.start()], text[place.end() :])

    def fill(self, text: str) -> str:
        """The prompt around an input."""
        return f"{self.before}{text}{self.after}"

    def take_out(self, prompt: str) -> str | None:
        """The input inside a prompt that this template made, or None."""
        before, after = self.before.strip(), self.after.strip()
        if not (before or after) or before not in prompt:
            return None
        inner = prompt.rpartition(before)[2] if before else prompt
        if after:
            found, middle, _ = inner.partition(after)
            if not middle:
                return None
            inner = found
        return inner.strip()


def known_input(prompt: str, template: Template | None = None) -> str | None:
    """The bare input of a prompt that the template or a known prefix made; None where neither did."""
    if template is not None and (found := template.take_out(prompt)):
        return found
    end = -1
    for pattern in _KNOWN:
        for match in pattern.finditer(prompt):
            end = max(end, match.end())
    if end < 0 and (tag := _TAG.match(prompt)):
        end = tag.end()
    return (prompt[end:].strip() or None) if end >= 0 else None


def bare_input(prompt: str, template: Template | None = None) -> str:
    """The bare input of any prompt: as `known_input`, else what follows the last `: ` or `：`, else all of it."""
    found = known_input(prompt, template)
    if found:
        return found
    colons = list(_COLON.finditer(prompt))
    rest = prompt[colons[-1].end() :].strip() if colons else ""
    return rest or prompt.strip()
