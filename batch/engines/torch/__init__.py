"""Continuous batching on torch: any Hugging Face causal language model.

`sequence` is one prompt and its answer so far, `scheduler` decides who runs, `sampler` picks tokens, `text` turns them
into characters, `prompt` turns a chat into tokens, `loader` reads the model's folder, `lora` merges an adapter into it,
`linear` fuses its layers or puts them into int8, `precision` decides about that, and `engine` puts them together.
Importing this package imports no torch.

Ways to run a model, the first that a trial at load shows to be right: `packed` (all new tokens in one line, over
`slots` and shared prefixes from `prefix`, with an `attention` function of its own; CPUs) or `static` (steps of fixed
shapes over `static_cache`, recorded by `graphs`; GPUs), the rectangle of `cache` with left padding, and one by one
(both in `runner`).

Precision: `precision` says what `auto` does on which machine. `int8` is weights and activations of all linear layers,
and the KV cache in bf16 where the CPU has it; `int4` (in `int4`) is weights alone. examples/demo_model/precision.py
measures what each costs; ai_router/demo/README.md has the figures. `bf16` on a CPU is of weights, products and cache;
what lies between stays float32. On CUDA the model runs in bf16 and decodes by CUDA graphs; that path has its tests on
CPU tensors and is unmeasured.
"""
