import shutil
import subprocess

import pytest

from kmm.client import Client


@pytest.fixture
def client(address):
    with Client(address, timeout=10) as client:
        yield client


@pytest.fixture
def film(tmp_path):
    """A PNG of a bright disk."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:32, :64]
    pixels = np.where((x - 44) ** 2 + (y - 18) ** 2 < 25, 220, 30).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return tmp_path / "film.png"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder of PEM files, made by openssl: an authority with certificates of `server.test`, `expired.test` and
    `client`, another authority `other`, and faulty files."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def list_new(name):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        return "req", *key, "-subj", f"/CN={name}"

    for name in ("authority", "other"):
        openssl(*list_new(name), "-x509", "-days", "2", "-out", f"{name}.pem")
    for name, days in (("server.test", "2"), ("expired.test", "-1"), ("client", "2")):
        openssl(*list_new(name), "-out", f"{name}.csr")
        (folder / "names").write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                "-CAcreateserial", "-days", days, "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    openssl("ec", "-aes256", "-passout", "pass:word", "-in", "client.key", "-out", "locked.key")
    openssl("x509", "-in", "authority.pem", "-outform", "DER", "-out", "authority.der")
    (folder / "junk.txt").write_text("This is no certificate.\n")
    (folder / "empty.pem").write_bytes(b"")
    return folder
