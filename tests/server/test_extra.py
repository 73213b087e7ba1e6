"""Without its optional libraries the server names the extra that installs them."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules[sys.argv[1]] = None
from kmm.cli import main
sys.argv = ["kmm", "serve", "model=none"]
main()
"""


@pytest.mark.large
@pytest.mark.parametrize("package", ["tornado", "prometheus_client", "grpc_health", "grpc_reflection"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(package):
    run = subprocess.run([sys.executable, "-c", PROGRAM, package], capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert run.stderr == (
        f'kmm: The package "{package}" is needed here and is not installed. Install it: pip install "kmm[serve]"\n'
    )
