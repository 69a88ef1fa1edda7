"""HDF5 files: read in a process of their own first.

They have no checksums, and from some damaged ones HDF5 itself does not come back, or ends the
process. Neither can be caught where it happens.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..errors import SourceError

READING = """
import sys
import h5py
def read(name, group):
    return [group.attrs[key] for key in group.attrs]
with h5py.File(sys.argv[1]) as file:
    read("", file)
    file.visititems(read)
"""
"""All that is no array: names, links and attributes."""
SECONDS, BYTES_PER_SECOND = 30.0, 5e7


def check_h5(path: Path) -> None:
    """Refuse a file that HDF5 does not come back from.

    Raises:
        SourceError: It is such a file. What is wrong with another one, Keras says.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        return  # another program than Python
    limit = SECONDS + path.stat().st_size / BYTES_PER_SECOND
    command = [sys.executable, "-c", READING, str(path)]
    try:
        ended = subprocess.run(command, capture_output=True, check=False, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        ended = -1
    if ended < 0:
        raise SourceError(f"{path} is damaged: HDF5 cannot read it. Copy or save it again.")
