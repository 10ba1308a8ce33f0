"""What tests that start processes of their own share."""

import os
from importlib import metadata


def environment(backend, devices=1):
    """Of a process on this backend, in which XLA compiles quickly rather than well."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    flags += f" --xla_force_host_platform_device_count={devices}"
    if backend == "jax" and metadata.version("jax").startswith("0.10."):
        # XLA's former emitters take a third of the time; later versions do not have them.
        flags += " --xla_cpu_use_fusion_emitters=false"
    own = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": flags}
    return {**os.environ, **own}
