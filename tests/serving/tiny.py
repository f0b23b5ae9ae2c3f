"""Tokenizers that a worker of the tests makes by their place.

Their weights come from torch's generator, which the threads that play workers share: one at a time.
"""

import threading

from syllabary.tests import tiny_codecs

_lock = threading.Lock()


def dmel():
    with _lock:
        return tiny_codecs.dmel()


def ts3():
    with _lock:
        return tiny_codecs.ts3()


def rvq():
    with _lock:
        return tiny_codecs.rvq()
