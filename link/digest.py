"""SHA-256 from CPython itself, without OpenSSL.

``hashlib`` loads OpenSSL, 3.5 MiB that an edge process would hold for a few hashes at its start.  The modules
here are those that it falls back on itself; an interpreter built without them gives OpenSSL's.  The digests
are the same.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__all__ = ["sha256"]

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:
        from hashlib import sha256
