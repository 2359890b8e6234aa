"""llama.cpp's own server, out of the package xllamacpp: `python llama_server.py GGUF PORT`, until it is killed."""

import sys
import threading

import xllamacpp

if __name__ == "__main__":
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[2])
    params.n_ctx = 2048
    params.n_parallel = 4  # which share the context: 512 tokens each
    params.warmup = False
    server = xllamacpp.Server(params)
    threading.Event().wait()
