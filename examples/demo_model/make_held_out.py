"""Write the three held-out sets, each from its own seed.

python examples/demo_model/make_held_out.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import departments
import japanese
import questions

FOLDER = Path(__file__).parent / "held_out"
SEED = 20_000
COUNT = 600


def held_out() -> dict[str, list[dict[str, Any]]]:
    """All held-out rows by skill."""
    return {
        "questions": questions.held_out_rows(),
        "japanese": japanese.rows(SEED, COUNT, "test"),
        "departments": departments.rows(SEED, COUNT, held=True),
    }


def main() -> None:
    """Write one JSON lines file a skill."""
    FOLDER.mkdir(exist_ok=True)
    for name, rows in held_out().items():
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rows)
        (FOLDER / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
