# SPDX-License-Identifier: Apache-2.0
import os

import numpy as np

from pyvpp.keepsakes import Keepsakes
from pyvpp.tables import record_dtype

FIELDS = [("key", np.uint64, (2,)), ("expires", np.int64), ("flags", np.uint8)]


def handed(keepsakes: Keepsakes) -> Keepsakes:
    kept, descriptor = keepsakes.write()
    try:
        return Keepsakes.read(kept, descriptor)
    finally:
        os.close(descriptor)


def test_arrays_arrive_as_they_were_written():
    records = np.zeros(5, record_dtype(FIELDS, align=True))
    records["expires"], records["key"][:, 1] = range(5), range(7, 12)
    words = np.arange(1000, dtype=np.uint64)[10:20]
    given = Keepsakes()
    given.add("records", records)
    given.add("nothing", np.zeros(0, np.uint32))
    given.add("words", words)
    records["flags"][3] = 9  # added before, read when it is written
    found = handed(given)
    assert found.take("records", records.dtype).tobytes() == records.tobytes()
    assert found.take("words", np.uint64).tolist() == words.tolist()
    assert len(found.take("nothing", np.uint32)) == 0


def test_what_was_of_another_type_is_not_taken():
    given = Keepsakes()
    given.add("records", np.zeros(3, record_dtype(FIELDS, align=True)))
    found = handed(given)
    assert found.take("records", record_dtype([*FIELDS, ("more", np.uint8)], align=True)) is None
    assert found.take("records", record_dtype([FIELDS[1], FIELDS[0], FIELDS[2]], align=True)) is None
    assert found.take("others", np.uint64) is None
    assert not Keepsakes() and given
