"""A report as JSON, Markdown and HTML."""

from __future__ import annotations

from batch.evaluation.forms.document import document
from batch.evaluation.forms.html import html
from batch.evaluation.forms.markdown import markdown

__all__ = ["document", "html", "markdown"]
