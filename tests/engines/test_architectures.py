"""A few of the architectures that the script compares with `generate`, one of each runner and the slowest left out."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.engines import architectures  # noqa: E402

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("name", "runner"),
    [
        ("qwen3_next", "rows with states"),
        ("mamba", "rows with states"),
        ("jamba", "rows with states"),
        ("lfm2", "rows with states"),
        ("falcon_h1", "rows with states"),
        ("deepseek_v3", "packed"),
        ("gpt_oss", "packed"),
        ("gemma2", "packed"),
        ("llama4_text", "packed"),
        ("bloom", "rectangle"),
        ("roformer", "one by one"),
    ],
)
def test_answers_are_those_of_generate(name: str, runner: str) -> None:
    if name not in architectures.names():
        pytest.skip(f"this transformers has no {name}")
    found = architectures.compare(name)
    assert (found.runner.partition(",")[0], found.said) == (runner, "equal")


def test_a_config_with_a_size_the_table_does_not_name_is_not_made() -> None:
    assert architectures.compare("no-such-architecture").said.startswith("not made")
