"""The demo model on the test set of this folder, without and with the adapter, through the library.

    python examples/japanese_gec/batch_inference.py
    python examples/japanese_gec/batch_inference.py --check-only

It writes results/base.jsonl and results/adapter.jsonl with a summary beside each, and prints how many answers of each
kind are right. `ai-router dataset run` does the same for one model, resumable and with a display.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import yaml

from ai_router.models import DEMO_PATH
from batch import BatchProcessor
from batch.datasets import CleaningEngine, open_dataset
from batch.datasets.adapter import check_adapter
from batch.datasets.observer import DatasetObserver
from batch.engines.local.host import HostedEngine
from batch.evaluation.pairs import read_results
from batch.evaluation.tally import ScoreTally
from batch.options import RunOptions, SamplingOptions

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config" / "lora_config.yaml"
NEW_TYPES = ("causative", "passive")  # those that the demo model was never trained on


def predict(test_file: Path, adapter: Path | None, output: Path, sampling: SamplingOptions, batch_size: int) -> None:
    """Answer every example of a test set; the rows are in `output` as they come, and in order at the end."""
    details = {"output_file": str(output.absolute()), "output_name": str(output), "log_level": "INFO"}
    with tempfile.TemporaryDirectory() as folder:
        config = {"kind": "dataset", "source": str(test_file), "details": details}
        processor = BatchProcessor(folder)
        job = processor.create_job("demo", open_dataset(test_file), config=config)
        model = {"path": DEMO_PATH, **({"adapter_path": adapter} if adapter else {})}
        engine = CleaningEngine(HostedEngine("torch", model, sampling))
        run = processor.run(job, engine, RunOptions(workers=batch_size), observer=DatasetObserver(job))
        while not run.wait(0.5):
            pass
        for line in run.news()[-1:]:
            print(f"{output}: {line}", file=sys.stderr)
        if run.error:
            raise SystemExit(f"Error: {run.error}")


def scores(results: Path) -> dict[str, ScoreTally]:
    """Exact match by kind of error."""
    found = {name: ScoreTally() for name in (*NEW_TYPES, "known types", "nothing to correct", "all")}
    for pair in read_results(results):
        kind = pair.error_type if pair.error_type in NEW_TYPES else "known types"
        found["nothing to correct" if pair.error_type == "none" else str(kind)].add(pair)
        found["all"].add(pair)
    return found


def table(columns: dict[str, dict[str, ScoreTally]]) -> str:
    """A Markdown table: right answers, their share, and the 95 % interval (Wilson)."""
    lines = ["| Error type | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for kind in next(iter(columns.values())):
        cells = []
        for found in columns.values():
            score = found[kind]
            low, high = score.interval
            cells.append(f"{score.right}/{score.n} = {score.score:.1%} ({low * 100:.1f}–{high * 100:.1f})")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Check, run twice, compare."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="The demo model on the test set, without and with the adapter.")
    parser.add_argument("--test-file", type=Path, default=HERE / "data" / "test.jsonl")
    parser.add_argument("--adapter-path", type=Path, default=HERE / "adapter")
    parser.add_argument("--output-dir", type=Path, default=Path("results"))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--check-only", action="store_true", help="only look whether all is there")
    args = parser.parse_args()
    examples = sum(example is not None for _, example, _ in open_dataset(args.test_file).examples())
    print(f"{examples} examples; {check_adapter(args.adapter_path, DEMO_PATH)}", file=sys.stderr)
    if args.check_only:
        return
    sampling = SamplingOptions(max_tokens=config["max_tokens"], temperature=config["temp"], top_p=config["top_p"])
    columns = {}
    for name, adapter in (("base", None), ("adapter", args.adapter_path)):
        output = args.output_dir / f"{name}.jsonl"
        predict(args.test_file, adapter, output, sampling, args.batch_size)
        columns[name] = scores(output)
    print(table(columns))


if __name__ == "__main__":
    main()
