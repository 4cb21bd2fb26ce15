# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvpp import wire
from pyvpp.jit import BOUNDSCHECK, COMPILED

FUNCTIONS = [(order, bits) for order in ("be", "le") for bits in (16, 32, 64)]
CHECKED = pytest.mark.skipif(COMPILED and not BOUNDSCHECK, reason="compiled without checks")


@pytest.mark.parametrize(("order", "bits"), FUNCTIONS)
@given(data=st.binary(min_size=24, max_size=40), at=st.integers(0, 16), value=st.integers(0, 2**64 - 1))
def test_load_and_store_at_any_offset(order, bits, data, at, value):
    endian = "big" if order == "be" else "little"
    size, array = bits // 8, np.frombuffer(bytearray(data), np.uint8)
    value &= 2**bits - 1
    assert int(getattr(wire, f"{order}{bits}")(array, at)) == int.from_bytes(data[at : at + size], endian)
    given_ = np.uint64(value) if bits == 64 and COMPILED else value
    getattr(wire, f"put_{order}{bits}")(array, at, given_)
    assert array.tobytes() == data[:at] + value.to_bytes(size, endian) + data[at + size :]


@given(st.binary(min_size=1, max_size=64), st.data())
def test_copy_is_memmove(data, draw):
    n = draw.draw(st.integers(0, len(data)))
    to, source = draw.draw(st.integers(0, len(data) - n)), draw.draw(st.integers(0, len(data) - n))
    array, expected = np.frombuffer(bytearray(data), np.uint8), bytearray(data)
    expected[to : to + n] = data[source : source + n]
    wire.copy(array, to, source, n)
    assert array.tobytes() == bytes(expected)


@CHECKED
@pytest.mark.parametrize(("order", "bits"), FUNCTIONS)
def test_outside_the_array(order, bits):
    array = np.zeros(16, np.uint8)
    for at in (-1, 17 - bits // 8, 16, 1 << 40):
        with pytest.raises(IndexError):
            getattr(wire, f"{order}{bits}")(array, at)
        with pytest.raises(IndexError):
            getattr(wire, f"put_{order}{bits}")(array, at, 0)
    assert not array.any()


@CHECKED
@pytest.mark.parametrize(("to", "source", "n"), [(-1, 0, 4), (0, -1, 4), (13, 0, 4), (0, 13, 4), (0, 0, 17)])
def test_copy_outside_the_array(to, source, n):
    with pytest.raises(IndexError):
        wire.copy(np.zeros(16, np.uint8), to, source, n)
