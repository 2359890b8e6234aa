"""llama.cpp's logits, by a Python that has llama-cpp-python: `python -m benchmarks.llama_logits FILE.gguf OUT`.

Each line of stdin is a list of tokens. The logits of all of them, float32, [tokens, vocabulary], are written into OUT,
and their number as a line to stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy

from benchmarks.engine_llama import STEP, Llama


def main() -> None:
    """Answer until stdin ends."""
    engine, out = Llama(Path(sys.argv[1]), STEP, []), Path(sys.argv[2])
    for line in sys.stdin:
        tokens = json.loads(line)
        engine.ll.llama_memory_clear(engine.memory, True)
        for i, token in enumerate(tokens):
            engine.add(token, i, 0, logits=True)
        engine.decode()
        logits = engine.ll.llama_get_logits(engine.context)
        numpy.ctypeslib.as_array(logits, (len(tokens), engine.vocabulary)).tofile(out)
        print(len(tokens), flush=True)


if __name__ == "__main__":
    main()
