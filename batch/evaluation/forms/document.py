"""A report as JSON. The first keys are those of the reference evaluator; scores are 0 to 1 throughout."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from batch.evaluation.pairs import Pair
from batch.evaluation.report import Change, Comparison, Report


def document(report: Report, comparison: Comparison | None = None, *, now: datetime | None = None) -> dict[str, Any]:
    """All a report has, as plain values."""
    right, total = report.right, report.total
    partial = report.scored - right - report.unchanged - report.lengthened
    shares = {
        "perfect_match_rate": right,
        "partial_correction_rate": partial,
        "no_correction_rate": report.unchanged,
        "overcorrection_rate": report.lengthened,
        "failure_rate": report.failed,
    }
    found: dict[str, Any] = {
        "evaluation_summary": {
            "timestamp": (now or datetime.now()).strftime("%Y-%m-%d %H:%M:%S"),
            "results_file": report.name,
            "total_examples": total,
            "successful_predictions": total - report.failed,
            "failed_predictions": report.failed,
            "scored": report.scored,
            "unscorable": report.unscorable,
            "skipped_lines": report.skipped,
            "replaced_rows": report.superseded,
        },
        "sentence_level_metrics": {
            "exact_match_accuracy": report.value("exact_match") if report.match != "regex" else report.main.value,
            "perfect_matches": right,
            "perfect_match_rate": right / total if total else 0.0,
        },
        **_groups(report),
        "error_analysis": {
            "total_examples": total,
            "perfect_matches": right,
            "partial_corrections": partial,
            "no_corrections": report.unchanged,
            "overcorrections": report.lengthened,
            "failed_predictions": report.failed,
        },
        "performance_breakdown": {name: count / total if total else 0.0 for name, count in shares.items()},
        **_details(report),
    }
    if comparison is not None:
        found["comparison"] = _comparison(comparison)
    return found


def _groups(report: Report) -> dict[str, Any]:
    """The groups of metrics that were measured."""
    groups: dict[str, dict[str, str]] = {
        "token_level_metrics": _prf("token", "f1_score", "f1"),
        "character_level_metrics": _prf("character", "f1_score", "f1"),
        "edit_level_metrics": _prf("edit", "f0.5_score", "f0.5"),
        "character_edit_level_metrics": _prf("character_edit", "f0.5_score", "f0.5"),
        "errant_metrics": _prf("errant", "f0.5_score", "f0.5"),
        "fluency_metrics": {"bleu_score": "bleu", "chrf_score": "chrf", "gleu_score": "gleu"},
        "edit_distance_metrics": {"normalized_edit_distance": "normalized_edit_distance"},
        "correction_metrics": {
            name: name
            for name in (
                "over_correction_rate",
                "under_correction_rate",
                "no_correction_rate",
                "changed_right_rate",
            )
        },
        "json_metrics": {"validity": "json_validity", "field_accuracy": "field_accuracy"},
    }
    found: dict[str, Any] = {}
    for group, keys in groups.items():
        values = {name: report.value(key) for name, key in keys.items()}
        if any(value is not None for value in values.values()):
            found[group] = values
    if (distance := report.value("normalized_edit_distance")) is not None:
        found["edit_distance_metrics"]["edit_accuracy"] = 1 - distance
    return found


def _prf(unit: str, name: str, f: str) -> dict[str, str]:
    return {"precision": f"{unit}_precision", "recall": f"{unit}_recall", name: f"{unit}_{f}"}


def _details(report: Report) -> dict[str, Any]:
    return {
        "scores": [
            {
                "key": score.key,
                "title": score.title,
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "interval": score.method or None,
                "lower_is_better": score.lower_is_better,
            }
            for score in report.scores
        ],
        "verdicts": {str(verdict): count for verdict, count in report.verdicts.items()},
        "error_types": [
            {
                "error_type": kind.name,
                "n": kind.n,
                "right": kind.right,
                "share": kind.share,
                "low": kind.low,
                "high": kind.high,
                "edit_f0.5": kind.edit_f05,
            }
            for kind in report.types
        ],
        "input_lengths": [
            {"from": b.shortest, "to": b.longest, "n": b.n, "right": b.right, "low": b.low, "high": b.high}
            for b in report.lengths
        ],
        "settings": {
            "match": report.match,
            "task": report.task,
            "tokeniser": report.tokeniser,
            "normalisation": list(report.normalisation),
            "level": report.level,
            "bootstrap_samples": report.samples,
            "seed": report.seed,
            "sacrebleu_signatures": dict(report.signatures),
        },
        "notes": list(report.notes),
        "failures": [{"error": error, "count": count} for error, count in report.errors],
        "skipped": [{"line": problem.line, "problem": problem.message} for problem in report.problems],
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "against": comparison.against,
        "paired": comparison.paired,
        "fixed": comparison.fixed,
        "broken": comparison.broken,
        "both_right": comparison.both_right,
        "both_wrong": comparison.both_wrong,
        "unchanged_text": comparison.unchanged,
        "only_here": comparison.only_ours,
        "only_against": comparison.only_theirs,
        "same_id_other_text": comparison.differing,
        "differences": [
            {
                "key": d.key,
                "title": d.title,
                "here": d.ours,
                "against": d.theirs,
                "change": d.change,
                "low": d.low,
                "high": d.high,
                "p": d.p,
                "test": d.test,
                "lower_is_better": d.lower_is_better,
            }
            for d in comparison.differences
        ],
        "changes": {kind: _changes(changes) for kind, changes in comparison.changes.items()},
        "notes": list(comparison.notes),
    }


def _changes(changes: Iterable[Change]) -> list[dict[str, Any]]:
    return [
        {
            **_pair(change.pair),
            "predicted_before": change.before,
            "verdict": str(change.verdict),
            "verdict_before": str(change.verdict_before),
        }
        for change in changes
    ]


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "example_id": pair.example_id,
        "input": pair.input,
        "expected": pair.expected,
        "predicted": pair.predicted,
    }
