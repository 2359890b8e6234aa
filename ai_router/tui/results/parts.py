"""The parts of a job's items, one of them chosen."""

from __future__ import annotations

from ai_router.tui.widgets.tabs import Tab

PARTS = (
    Tab("all", "1", "≡", "all"),
    Tab("done", "2", "✓", "done", style="success"),
    Tab("failed", "3", "✗", "failed", style="error"),
    Tab("pending", "4", "◌", "pending", "left", style="muted"),
)
