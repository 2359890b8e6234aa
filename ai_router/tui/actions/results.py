"""What the keys of the results do."""

from __future__ import annotations

from ai_router.tui.actions.action import Action

RESULTS = (
    Action("results.part", "f", "filter", "Show the next part: all, done, failed, pending", "Results",
           method="next_part"),
    Action("results.all", "1", "all", "Show all items", "Results", False, method="part('all')"),
    Action("results.done", "2", "done", "Show answered items", "Results", False, method="part('done')"),
    Action("results.failed", "3", "failed", "Show failed items", "Results", False, method="part('failed')"),
    Action("results.pending", "4", "pending", "Show items without a result", "Results", False,
           method="part('pending')"),
    Action("results.search", "slash", "search", "Find text in prompts and answers, or filter: failed tokens>200",
           "Results", key_display="/"),
    Action("results.copy", "c,y", "copy", "Copy the answer (of a failed item, the error)", "Results"),
    Action("results.copy_json", "Y,shift+y", "copy JSON", "Copy the row as JSON", "Results", False),
    Action("results.export", "e", "export", "Write the results to a file", "Results"),
    Action("results.retry", "t", "retry failed", "Run the failed prompts again, and what is missing", "Results", False),
    Action("results.run", "r", "run", "Run what is missing; of a running job, watch it", "Results", False,
           method="resume"),
    Action("results.errors", "x", "errors", "Failures by kind, with counts", "Results", False),
    Action("results.goto", "number_sign,ctrl+g", "go to", "Go to an item by its number", "Results", False,
           key_display="#"),
    Action("results.sort", "s", "sort", "Sort by the next column", "Results", False),
    Action("results.reverse", "S,shift+s", "reverse", "Turn the order round", "Results", False),
    Action("results.mark", "space", "mark", "Mark the row, or take its mark away", "Results", False),
    Action("results.mark_all", "A,shift+a", "mark all", "Mark all rows that are shown, or take all marks away",
           "Results", False),
    Action("results.copy_as", "w", "copy as", "Copy a cell, or rows as text, CSV, Markdown or JSON", "Results", False),
    Action("results.again", "a", "again", "A new job of the marked or failed rows, with another model or other options",
           "Results", False),
    Action("results.picture", "p", "picture", "This job in plots: rates, cost, durations, scores", "Results", False),
    Action("results.jobs", "b", "jobs pane", "Hide the jobs beside the results, or show them", "Results", False,
           method="jobs_pane"),
    Action("results.next_hit", "n", "next hit", "The next place of what is looked for", "Results", False),
    Action("results.hit_back", "N,shift+n", "hit before", "The place before of what is looked for", "Results", False),
    Action("results.columns", "C,shift+c", "columns", "Choose which columns are shown", "Results", False),
    Action("results.rendered", "M,shift+m", "Markdown", "Show answers as Markdown, with code in colours; again: as they"
           " came", "Results", False),
    Action("results.score", "v", "score", "How many are right, and what is wrong with the others", "Results"),
)  # fmt: skip
