"""Departments of faculty members, from a table of texts through a provider's batch API, into a table again.

    python examples/departments/extract_departments_batch.py --input_file=data.parquet --provider=gemini-2.0-flash-001
    python examples/departments/extract_departments_batch.py --provider=demo

Both need pandas (`pip install pandas pyarrow`). The first needs a key and the extra `providers`; the second runs
offline, with the model that ships with ai-router, on the table beside this file. A job does the same and survives
whatever happens meanwhile:

    ai-router submit data.parquet --template examples/departments/departments.j2 --model ID --merge out.parquet
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import pandas as pd
except ImportError:
    sys.exit("This example needs pandas, and pyarrow for Parquet: pip install pandas pyarrow")

from batch.errors import BatchError
from batch.providers import ERROR, MISSING, BatchInferencePipelineFactory, ProviderPipeline

HERE = Path(__file__).parent
PATTERNS = (
    r"\bDepartment of ((?:[A-Z][\w-]+)(?: (?:and |of |the )?[A-Z][\w-]+)*)",
    r"\b((?:[A-Z][\w-]+)(?: (?:and )?[A-Z][\w-]+)*) Department\b",
)


def by_pattern(text: str) -> str:
    """The department that a regular expression finds: the baseline that a model has to beat."""
    for pattern in PATTERNS:
        if match := re.search(pattern, text):
            return match[1]
    return MISSING


def demo_pipeline(name: str, **options: Any) -> ProviderPipeline:
    """The model that ships with ai-router, behind the same steps."""
    from ai_router.models import DEMO_PATH
    from batch.inference import BatchInferenceEngine, BatchItem, InferenceBatchRequest
    from batch.providers.chunked import ChunkedPage

    engine = BatchInferenceEngine(DEMO_PATH)

    def line(custom_id: str, request: Any, *_: Any) -> dict[str, Any]:
        return {"custom_id": custom_id, "body": {"prompt": request.text}}

    def ask(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        items = [BatchItem(i, InferenceBatchRequest(b["prompt"], max_tokens=24)) for i, b in enumerate(bodies)]
        said = []
        for one in engine.infer_batch(items, split=True):
            if one.data is None:
                body: dict[str, Any] = {"error": {"message": one.error.message if one.error else "no answer"}}
            else:
                body = {"choices": [{"message": {"content": one.data.text}, "finish_reason": "stop"}]}
            said.append({"response": {"status_code": 500 if one.data is None else 200, "body": body}, "error": None})
        return said

    page = ChunkedPage(line, ask, chunk=64)
    page.close = engine.close  # type: ignore[method-assign]
    return ProviderPipeline("demo", lambda bucket: page, **options)


def read(path: Path) -> pd.DataFrame:
    """A table of Parquet or CSV. Raises ValueError with a sentence."""
    if not path.is_file():
        raise ValueError(f"There is no file {path}")
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    return pd.read_parquet(path)


def report(table: pd.DataFrame) -> None:
    """What has no answer and why, and how many came out right, where the table knows."""
    failed = table["department_llm_error"].dropna()
    if len(failed):
        print(f"{len(failed)} of {len(table)} have no answer: {failed.iloc[0]}", file=sys.stderr)
    if "department" not in table.columns:
        return
    for column, called in (("department_llm", "model"), ("department_textual", "patterns")):
        right = int((table[column] == table["department"]).sum())
        print(f"{called}: {right} of {len(table)} departments right")


def main() -> int:
    """Run the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", type=Path, default=HERE / "faculty.csv", help="Parquet or CSV")
    parser.add_argument("--provider", default="gemini-2.0-flash-001", help="a model, a provider, or demo")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs"))
    parser.add_argument("--bucket_name", default="dess-llm-jobs", help="of Cloud Storage (Vertex AI)")
    args = parser.parse_args()
    BatchInferencePipelineFactory.register("demo", demo_pipeline)
    try:
        table = read(args.input_file)
        args.output_dir.mkdir(parents=True, exist_ok=True)
        pipeline = BatchInferencePipelineFactory.get_pipeline(args.provider)
        batch_file = args.output_dir / f"batch_{args.input_file.stem}.jsonl"
        info = pipeline.prepare_batch_file(table, batch_file)
        source = pipeline.upload_batch_file(batch_file, args.bucket_name)
        job = pipeline.create_batch_job(source, f"gs://{args.bucket_name}")
        print(f"{info['row_count']} requests in {job.name}")
        job = pipeline.wait_for_completion(job)
        made = pipeline.retrieve_and_merge_results(job, table, info)
    except (BatchError, OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    texts = table[["snippet_1", "snippet_2", "snippet_3", "snippet_4"]].fillna("").agg(" ".join, axis=1)
    made["department_textual"] = [by_pattern(text) for text in texts]
    output = args.output_dir / f"processed_{args.input_file.stem}.parquet"
    made.to_parquet(output)
    print(f"Wrote {output}")
    report(made)
    if isinstance(pipeline, ProviderPipeline):
        pipeline.page.close()
    return 1 if (made["department_llm"] == ERROR).any() else 0


if __name__ == "__main__":
    sys.exit(main())
