"""The sides of the semantic ID benchmark: the rows, the model, and each way to encode them, one function a process."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

PARTS = (210, 92, 24, 1084)  # category, region, hours, users
WIDTH = sum(PARTS)
DIMS = (WIDTH, 1024, 512, 128, 64)
CODEWORDS = 32
CHUNK = 20_000


def write_rows(path: Path, rows: int, kind: str) -> None:
    """The table, chunk by chunk."""
    rng = np.random.default_rng(0)
    table = open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, WIDTH))
    starts = np.cumsum((0, *PARTS))
    taste = [rng.dirichlet(np.full(PARTS[3], 0.05)).cumsum() for _ in range(40)]  # crowds with users of their own
    for first in range(0, rows, CHUNK):
        part = table[first : first + CHUNK]
        count = len(part)
        if kind == "dense":
            part[:] = rng.standard_normal((count, WIDTH), dtype=np.float32)
            continue
        place = np.arange(count)
        category = (PARTS[0] * rng.random(count) ** 2).astype(np.int64)
        part[place, category] = 1
        part[place, starts[1] + (PARTS[1] * rng.random(count) ** 2).astype(np.int64)] = 1
        hours = (category[:, None] % 24 + rng.random((count, 24)).argpartition(10, axis=1)[:, :10]) % 24
        part[place[:, None], starts[2] + hours] = 1
        for crowd, shares in enumerate(taste):
            mine = place[category % len(taste) == crowd]
            users = np.searchsorted(shares, rng.random((len(mine), 10))).clip(max=PARTS[3] - 1)
            part[mine[:, None], starts[3] + users] = 1
    table.flush()


def prepare(folder: str, rows: int, kind: str) -> None:
    """The table and a model that has seen some of it."""
    import torch

    from batch.semantic_ids.checkpoint import save_rqvae
    from batch.semantic_ids.train import TrainConfig, train

    torch.set_num_threads(1)
    path = Path(folder) / "features.npy"
    write_rows(path, rows, kind)
    sample = np.load(path, mmap_mode="r")[:8192]
    save_rqvae(
        train(sample, TrainConfig(method="gradient", epochs=1, kmeans_n_init=2), strict=False),
        Path(folder) / "model.pt",
    )


class Clock:
    """Wall-clock and processor seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Both."""
        return {"seconds": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


def ours(folder: str, rows: int) -> dict[str, Any]:
    """Open, read and encode the table, start to end; codes are left in a file."""
    from batch.semantic_ids.checkpoint import load_rqvae
    from batch.semantic_ids.encode import Encoder, encode_table
    from batch.semantic_ids.features import open_features

    encoder = Encoder(load_rqvae(Path(folder) / "model.pt"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = Clock()
    codes = np.empty((rows, encoder.levels), dtype=np.int32)
    exact = 0
    for first, part in encode_table(encoder, open_features(Path(folder) / "features.npy")):
        codes[first : first + len(part.codes)] = part.codes
        exact += part.exact
    found = clock.read()
    np.save(Path(folder) / "codes.npy", codes)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "exact": exact, "threads": encoder.threads, "grown_mb": (after - before) / 1024}


def torch_loop(folder: str, rows: int, workers: int) -> dict[str, Any]:
    """The peer: see the top of the file."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from batch.semantic_ids.checkpoint import load_rqvae

    model = load_rqvae(Path(folder) / "model.pt")
    tables = list(model.codebooks())
    clock = Clock()
    features = torch.from_numpy(np.load(Path(folder) / "features.npy", mmap_mode="c")[:rows])
    found = []
    with torch.inference_mode():
        for (batch,) in DataLoader(TensorDataset(features), batch_size=128, shuffle=False, num_workers=workers):
            residual = model.encoder(batch)
            codes = []
            for table in tables:
                code = torch.cdist(residual, table).argmin(1)
                residual = residual - table[code]
                codes.append(code)
            found.append(torch.stack(codes, 1))
        codes = torch.cat(found)
    times = clock.read()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    times["cpu"] += children.ru_utime + children.ru_stime
    ours = np.load(Path(folder) / "codes.npy")[:rows]
    return {**times, "differ": int((codes.numpy() != ours).any(axis=1).sum())}


def gemm_limit(seconds: float) -> dict[str, float]:
    """Rows a second, and a processor second, that the four products alone reach at best."""
    import torch

    every = torch.get_num_threads()
    weights = [torch.rand(b, a).t() for a, b in itertools.pairwise(DIMS)]
    best = {"rate": 0.0, "cpu_rate": 0.0}
    options = [(block, side) for block in (128, 1024, 4096) for side in (1, every)]

    def work(block: int, until: float) -> int:
        x = torch.rand(block, WIDTH)
        outs = [torch.empty(block, width) for width in DIMS[1:]]
        done = 0
        with torch.inference_mode():
            while time.perf_counter() < until:
                hidden = x
                for weight, out in zip(weights, outs, strict=True):
                    torch.mm(hidden, weight, out=out)
                    hidden = out
                done += block
        return done

    for block, side in dict.fromkeys(options):

        def begin(threads: int = every // side) -> None:
            torch.set_num_threads(max(1, threads))

        with ThreadPoolExecutor(side, initializer=begin) as pool:
            list(pool.map(work, [block] * side, [0.0] * side))
            clock = Clock()
            done = sum(pool.map(work, [block] * side, [time.perf_counter() + seconds / len(options)] * side))
            times = clock.read()
        best["rate"] = max(best["rate"], done / times["seconds"])
        best["cpu_rate"] = max(best["cpu_rate"], done / times["cpu"])
    return best


def latents_of(folder: str, rows: int) -> None:
    """The encoder's output of the first rows, for the quantisers."""
    from batch.semantic_ids.checkpoint import load_rqvae
    from batch.semantic_ids.encode import Encoder

    encoder = Encoder(load_rqvae(Path(folder) / "model.pt"))
    table = np.load(Path(folder) / "features.npy", mmap_mode="c")
    out = open_memmap(Path(folder) / "latents.npy", mode="w+", dtype=np.float32, shape=(rows, DIMS[-1]))
    for first in range(0, rows, CHUNK):
        out[first : first + CHUNK] = encoder.latent(table[first : min(first + CHUNK, rows)])
    out.flush()


def quantiser(folder: str, rows: int, which: str) -> dict[str, Any]:
    """One quantiser over the latents, all in memory; the peers with the best of three block sizes."""
    import torch

    from batch.semantic_ids.checkpoint import load_rqvae
    from batch.semantic_ids.quantizer import FrozenCodebooks

    tables = load_rqvae(Path(folder) / "model.pt").codebooks()
    latents = torch.from_numpy(np.load(Path(folder) / "latents.npy")[:rows])
    frozen = FrozenCodebooks(tables)

    def broadcast(x: Any) -> Any:
        codes = []
        for table in tables:
            code = (x[:, None, :] - table[None]).square().sum(2).argmin(1)
            x = x - table[code]
            codes.append(code)
        return torch.stack(codes, 1)

    search: Callable[[Any], Any] = broadcast if which == "broadcast" else frozen.encode
    if which == "ResidualVQ":
        from vector_quantize_pytorch import ResidualVQ

        peer = ResidualVQ(dim=DIMS[-1], num_quantizers=len(tables), codebook_size=CODEWORDS)
        for layer, table in zip(peer.layers, tables, strict=True):
            layer._codebook.embed.copy_(table[None])
        peer.eval()

        def search(x: Any) -> Any:
            return peer(x[None])[1][0]

    blocks = {"ours": (4096,), "broadcast": (256, 1024, 4096), "ResidualVQ": (2048, 16384, 131072)}[which]
    best: dict[str, Any] = {}
    with torch.inference_mode():
        for block in blocks:
            for start in range(0, min(rows, 4 * block), block):
                search(latents[start : start + block])
            for _ in range(2):
                clock = Clock()
                codes = torch.cat([search(part) for part in latents.split(block)])
                times = clock.read()
                if not best or times["cpu"] < best["cpu"]:
                    best = {**times, "block": block}
        best["differ"] = int((codes != frozen.encode(latents)).any(1).sum())
    return best


def collisions(folder: str, rows: int) -> dict[str, Any]:
    """The report on so many IDs."""
    from batch.semantic_ids.collisions import count_collisions

    codes = np.load(Path(folder) / "codes.npy")[:rows]
    clock = Clock()
    report = count_collisions(codes, CODEWORDS)
    return {**clock.read(), "unique": report.unique, "items": report.items}
