"""Cache of compiled steps on disk, where the backend has one.

JAX compiles a step of a large network for a minute or more, and can keep the result for later processes. TensorFlow
traces a step in each process, without XLA, and PyTorch compiles nothing: they have nothing to keep.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras

from kmm.training.cache.cache_folder import Use

FOLDER = "compiled"


@contextlib.contextmanager
def keep_compilations(cache: Path) -> Iterator[None]:
    """Lets JAX keep what it compiles in a folder of the cache while the block runs; does nothing on other backends, or
    if the user has chosen a folder (`JAX_COMPILATION_CACHE_DIR`).

    Args:
        cache: Path of the folder shared by all runs.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if jax.config.jax_compilation_cache_dir is not None:
        yield
        return
    use = Use(cache / FOLDER)  # nothing removes the folder meanwhile
    jax.config.update("jax_compilation_cache_dir", str(cache / FOLDER))
    compilation_cache.reset_cache()  # else a process that has compiled before goes on without
    try:
        yield
    finally:
        del use
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
