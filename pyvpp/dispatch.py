# SPDX-License-Identifier: Apache-2.0
"""The worker's loop in native code: poll inputs, run pending nodes, move packets to their next node, count, sleep.

It holds no GIL and reaches nodes through a table of addresses: replacing a node is one 8-byte store. Every node has a
queue of its own that holds as many indices as there are buffers, so nothing ever overflows, and a node runs on up to
FRAME_SIZE of them at a time. The loop returns when told to stop.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types, uint16, uint32, uint64
from numba.extending import intrinsic
from numba.np import arrayobj

from pyvpp.buffers import (
    L2_VALID,
    LARGE_BUFFERS,
    POOL_ENTRIES,
    POOL_SMALL,
    TRACED,
    give_back,
)
from pyvpp.device.syscalls import epoll_wait, nanosleep, write
from pyvpp.handoff_ring import awake, lay_down, publish_staged
from pyvpp.jit import inline, jit, outline, rare_case
from pyvpp.node import FRAME_SIZE, FREE, HELD, TO_NODE
from pyvpp.tables import record_dtype
from pyvpp.trace import TRACE_BYTES
from pyvpp.typing import I64, U16, U32, Record, Records

MAX_SLOTS = 16
_populate_array: Any = arrayobj.populate_array

NODE_ROW = record_dtype(
    [
        ("entry", np.int64),  # address of the node's cfunc; 0: not in use
        ("runtime", np.int64),  # address of the record it rebuilds its arrays from
        ("queue", np.int64),  # address of u32[capacity]
        ("head", np.int64),  # first waiting index
        ("count", np.int64),  # one past the last
        ("calls", np.uint64),
        ("vectors", np.uint64),
        ("clocks", np.uint64),
        ("max_clocks", np.uint64),
        ("pending", np.uint8),
        ("kind", np.uint8),  # KIND_*
        ("ready", np.uint8),  # an input that has, or may have, packets
        ("polled", np.uint8),  # an input that is always asked, and the worker never sleeps
        ("n_next", np.uint16),
        ("capture", np.uint16),  # CAPTURE_*: what `pcap trace` takes here
        ("trace_limit", np.int64),  # packets still to be marked at this node
        ("next", np.uint16, (MAX_SLOTS,)),
        ("adaptive", np.uint8),  # an input whose packets keep the worker awake for a moment
        ("in_vain", np.uint8),  # how often in a row that moment passed without a packet, at most SPIN_DOUBT
        ("unawaited", np.uint8),  # how many more of its packets do not keep the worker awake
        ("asked", np.uint8),  # an input that is asked in every round, but lets the worker sleep
        ("via", np.uint16),  # an input's packets go there first, which finds in `feature` where to; 0: to no other
        ("stages", np.uint8),  # leaves packets in rings to other workers, to be published when they have been traced
        ("pad", np.uint8, (1,)),  # to 128 bytes
    ]
)
EXCHANGE = record_dtype(
    [
        ("node", np.int64),  # whose row is given, as one, what follows
        ("entry", np.int64),
        ("runtime", np.int64),
        ("n_next", np.int64),
        ("next", np.uint16, (MAX_SLOTS,)),
    ]
)
CAPTURE_RX, CAPTURE_TX, CAPTURE_DROP = 1, 2, 4
CAPTURE_DATA = 2048
CAPTURE = record_dtype(
    [
        ("time", np.int64),  # ns of the worker's clock
        ("length", np.uint32),  # bytes of the packet
        ("captured", np.uint32),  # bytes of data that count
        ("kind", np.uint16),
        ("error", np.uint16),
        ("sw_if_index", np.uint32),
        ("data", np.uint8, (CAPTURE_DATA,)),
    ]
)
KIND_INTERNAL, KIND_INPUT, KIND_PYTHON = 0, 1, 2

# control words of a worker, i64
STOP, PARK, PARKED, LOOPS, TRACE_ON, TRACE_USED, TRACE_PACKETS, EPOLL_FD, CLOCK_START, NS_NUM, SPIN_NS, \
    PUNT_HEAD, PUNT_TAIL, INJECT_HEAD, INJECT_TAIL, MAIN_EVENT_FD, BAD_NEXT, PUNT_LOST, MAX_LOOPS, SLEEPS, \
    DROP_NODE, N_NODES, CAPTURE_KINDS, CAPTURE_ADDRESS, CAPTURE_CAPACITY, CAPTURE_USED, CAPTURE_BYTES, \
    CAPTURE_INTERFACE, SYNC_ASKED, SYNC_SEEN, START_AT, ENDED_AT, EPOLLS, FD_WAKEUPS, WAKEUPS, \
    SPUN, AT_NODE, TRACE_BASE, HANDOFF_ADDRESS, HANDOFF_WORDS, EXCHANGE_ADDRESS, EXCHANGES = range(42)  # fmt: skip
CONTROL_WORDS = 64
NS_SHIFT = 24
RING = 4096
EPOLL_EVENTS = 64
SLEEP_MS = 100  # at most: what a worker has missed it finds then

# Staying awake, see `run_worker`.
SPIN_WORTH = 30_000  # ns that going to sleep and being woken cost in time and latency
SPIN_SHARE = 6  # one 64th of the time may be spent on waiting in vain
SPIN_SAVED = 2_000_000  # ns of that time that may be saved up
SPIN_DOUBT = 6  # 2 to this power: of how many packets that none follows one is still waited after
WAKE = 0xFFFFFFFF

# ns after which a worker that is awake asks epoll again, with packets and without. A call is worth some twenty packets,
# and it takes the locks of the rings that others fill at this moment.
ASK_BUSY, ASK_AWAKE = 50_000, 2_000

# the context every entry gets: addresses and lengths
CONTEXT_HEAP, CONTEXT_META, CONTEXT_POOL, CONTEXT_EMIT, CONTEXT_NOW, CONTEXT_WORKER = 0, 2, 4, 6, 8, 9
CONTEXT_WORDS = 16
CONTEXT_ONE = 10  # the number 1, what is written to an eventfd


@intrinsic  # type: ignore[untyped-decorator]
def array_at(typing: Any, address: Any, length: Any, dtype: Any) -> Any:
    """The array of so many items at an address. Unlike numba's carray it needs no reference counts in its caller."""
    array_type = types.Array(dtype.dtype, 1, "C")

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(array_type)(context, builder)
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
        data = builder.inttoptr(args[0], array.data.type)
        _populate_array(array, data, [args[1]], [size], size, None)
        return array._getvalue()

    return array_type(types.int64, types.int64, dtype), emit


@intrinsic  # type: ignore[untyped-decorator]
def call_entry(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """Calls int64 entry(context, runtime, frame, n, nexts) at an address: all there is to dynamic dispatch."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        function = ir.FunctionType(i64, [i64] * 5)
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), list(args[1:]))

    return types.int64(*[types.int64] * 6), emit


@intrinsic  # type: ignore[untyped-decorator]
def cycles(typing: Any) -> Any:
    """The cycle counter."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.readcyclecounter", [], ir.FunctionType(ir.IntType(64), []))
        return builder.call(function, [])

    return types.int64(), emit


@intrinsic  # type: ignore[untyped-decorator]
def fetch(typing: Any, array: Any, at: Any) -> Any:
    """An atomic load with acquire order from an int64 array: what another thread stored last."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)

    return types.int64(array, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def publish(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """An atomic store with release order to an int64 array: all stores before it are seen before it."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), emit


@inline
def nanoseconds(clocks: int, ns_num: int) -> int:
    """Clocks as nanoseconds, by NS_NUM. High and low part apart: their product fills 63 bits after nine minutes."""
    return (clocks >> NS_SHIFT) * ns_num + (((clocks & ((1 << NS_SHIFT) - 1)) * ns_num) >> NS_SHIFT)


@jit
def announce(control: I64, at: int, value: int) -> None:
    """`publish` for control code."""
    publish(control, at, value)


@outline
def exchange(rows: Records, control: I64) -> None:
    """Puts other versions of nodes into place, between two rounds: no packet is in any queue then."""
    rare_case()
    changes: Records = array_at(control[EXCHANGE_ADDRESS], control[EXCHANGES], EXCHANGE)
    for k in range(len(changes)):
        change = changes[k]
        row = rows[change.node]
        row.entry = change.entry
        row.runtime = change.runtime
        row.n_next = uint16(change.n_next)
        for slot in range(MAX_SLOTS):
            row.next[slot] = change.next[slot]
    control[EXCHANGES] = 0


@jit
def adopt(rows: Records, control: I64) -> None:
    """`exchange` for control code."""
    exchange(rows, control)


@inline
def enqueue(rows: Records, target: int, b: int, pending: U32, control: I64, capacity: int, slots: I64) -> None:
    """Puts one buffer into a node's queue and the node among the pending ones."""
    row = rows[target]
    queue: U32 = array_at(row.queue, capacity, np.uint32)
    if row.count == capacity:
        n = row.count - row.head
        for k in range(n):
            queue[k] = queue[row.head + k]
        row.head = 0
        row.count = n
    queue[row.count] = uint32(b)
    row.count += 1
    if row.pending == 0:
        row.pending = 1
        pending[slots[1] & (len(pending) - 1)] = uint32(target)
        slots[1] += 1


@inline
def resolve(row: Record, value: int, control: I64) -> int:
    """A node index from a value of nexts; a value that means nothing leads to error-drop and is counted."""
    if value >= TO_NODE:
        target = value & 0x7FFF
        if target < control[N_NODES]:
            return target
    elif value < row.n_next:
        return int(row.next[value])
    control[BAD_NEXT] += 1
    return control[DROP_NODE]


@inline
def release(meta: Records, pool: U32, b: int) -> None:
    """Returns a buffer to the free list, unless somebody else still holds it."""
    m = meta[b]
    if m.ref > 1:
        m.ref -= 1
        return
    m.flags = uint32(0)
    give_back(pool, b)


@inline
def release_all(meta: Records, pool: U32, frame: U32, n: int) -> None:
    """Releases a whole frame, with the free list's length in a register: 1 clock a packet instead of 3.5."""
    top = uint64(pool[POOL_SMALL])
    small = pool[POOL_ENTRIES:]
    for k in range(n):
        b = frame[k]
        m = meta[b]
        if m.ref > 1 or b < LARGE_BUFFERS:
            release(meta, pool, int(b))
        else:
            m.flags = uint32(0)
            small[top] = b
            top += uint64(1)
    pool[POOL_SMALL] = uint32(top)


@inline
def move(
    rows: Records, row: Record, frame: U32, nexts: U16, n: int, meta: Records, pool: U32, pending: U32, control: I64,
    capacity: int, slots: I64,
) -> None:  # fmt: skip
    """Hands each packet of a frame to its next node; a frame that goes one way goes at once."""
    first = nexts[0]
    different = uint16(0)
    for k in range(n):
        different |= nexts[k] ^ first
    if different == 0:
        value = int(first)
        if value == FREE:
            release_all(meta, pool, frame, n)
            return
        if value == HELD:
            return
        target = resolve(row, value, control)
        to = rows[target]
        if int(to.count) + n <= capacity:
            queue: U32 = array_at(to.queue + 4 * to.count, n, np.uint32)
            for k in range(n):
                queue[k] = frame[k]
            to.count += n
            if to.pending == 0:
                to.pending = 1
                pending[slots[1] & (len(pending) - 1)] = uint32(target)
                slots[1] += 1
            return
    for k in range(n):
        value = int(nexts[k])
        if value == FREE:
            release(meta, pool, int(frame[k]))
        elif value != HELD:
            enqueue(rows, resolve(row, value, control), int(frame[k]), pending, control, capacity, slots)


@inline
def detour(row: Record, frame: U32, nexts: U16, n: int, meta: Records, control: I64) -> None:
    """Sends an input's packets to the node `via`; each has in `feature` the value of nexts by which it goes on."""
    for k in range(n):
        value = int(nexts[k])
        if value < HELD:
            meta[frame[k]].feature = uint32(TO_NODE | resolve(row, value, control))
            nexts[k] = uint16(TO_NODE | row.via)


@inline
def mark(row: Record, frame: U32, n: int, meta: Records, control: I64) -> None:
    """`trace add`: marks the first packets that reach the node."""
    for k in range(n):
        if row.trace_limit <= 0:
            return
        m = meta[frame[k]]
        if not m.flags & TRACED:
            m.flags |= uint32(TRACED)
            m.trace = uint32(control[TRACE_BASE] + control[TRACE_PACKETS])
            control[TRACE_PACKETS] += 1
            row.trace_limit -= 1


@inline
def leave_trace(
    index: int, row: Record, frame: U32, nexts: U16, n: int, before: I64, meta: Records, heap: Any, trace: Records,
    control: I64, now: int,
) -> None:  # fmt: skip
    """Writes a record for each marked packet of a frame the node has just done."""
    for k in range(n):
        m = meta[frame[k]]
        if m.flags & TRACED and control[TRACE_USED] < len(trace):
            record = trace[control[TRACE_USED]]
            control[TRACE_USED] += 1
            value = int(nexts[k])
            record.time = now
            record.packet = m.trace
            record.node = uint16(index)
            record.next = uint16(value) if value >= HELD else uint16(resolve(row, value, control))
            record.before = before[k]
            first = min(before[k], m.cur)
            if first + TRACE_BYTES > len(heap) or m.cur - first > TRACE_BYTES:
                first = m.cur
            record.first = first
            record.meta.cur = m.cur
            record.meta.len = m.len
            record.meta.flags = m.flags
            record.meta.l2 = m.l2
            record.meta.l3 = m.l3
            record.meta.l4 = m.l4
            record.meta.rx = m.rx
            record.meta.tx = m.tx
            record.meta.adj = m.adj
            record.meta.flow_hash = m.flow_hash
            record.meta.csum_start = m.csum_start
            record.meta.csum_offset = m.csum_offset
            record.meta.gso_size = m.gso_size
            record.meta.gso_type = m.gso_type
            record.meta.error = m.error
            record.meta.trace = m.trace
            record.meta.feature = m.feature
            for j in range(TRACE_BYTES):
                record.data[j] = heap[first + j]


@inline
def capture(kind: int, frame: U32, n: int, meta: Records, heap: Any, control: I64, now: int) -> None:
    """`pcap trace`: copies packets of the wanted interface until the capture is full."""
    if not control[CAPTURE_KINDS] & kind:
        return
    records: Records = array_at(control[CAPTURE_ADDRESS], control[CAPTURE_CAPACITY], CAPTURE)
    for k in range(n):
        m = meta[frame[k]]
        sw_if_index = int(m.tx) if kind == CAPTURE_TX else int(m.rx)
        if control[CAPTURE_USED] >= control[CAPTURE_CAPACITY]:
            return
        if control[CAPTURE_INTERFACE] and control[CAPTURE_INTERFACE] != sw_if_index:
            continue
        record = records[control[CAPTURE_USED]]
        control[CAPTURE_USED] += 1
        start = int(m.cur)
        if kind == CAPTURE_DROP and m.flags & L2_VALID and int(m.l2) < start:
            start = int(m.l2)
        length = int(m.len) + int(m.cur) - start
        taken = min(length, control[CAPTURE_BYTES])
        record.time = now
        record.length = uint32(length)
        record.captured = uint32(taken)
        record.kind = uint16(kind)
        record.error = m.error
        record.sw_if_index = uint32(sw_if_index)
        for j in range(taken):
            record.data[j] = heap[start + j]


@inline
def is_worth_waiting(row: Record) -> bool:
    """Whether to stay awake after packets of this input, by what `learn` was told."""
    if row.unawaited:
        row.unawaited -= 1
        return False
    return True


@inline
def learn(row: Record, came: bool) -> None:
    """Whether a packet came while the worker stayed awake after packets of this input."""
    row.in_vain = 0 if came else min(int(row.in_vain) + 1, SPIN_DOUBT)
    row.unawaited = (1 << int(row.in_vain)) - 1


@jit
def run_worker(
    control: I64, context: I64, rows: Records, inputs: U32, pending: U32, scratch: U32, nexts: U16, before: I64,
    heap: Any, meta: Records, pool: U32, emit: U32, trace: Records, punt_ring: U32, inject_ring: U32, events: Any,
    slots: I64, capacity: int,
) -> int:  # fmt: skip
    """Runs until control[STOP], or for control[MAX_LOOPS] rounds when that is not 0. Returns the rounds made.

    It begins when the cycle counter has reached control[START_AT], so that several set out at the same moment, and
    leaves what the counter showed at the end in control[ENDED_AT]: the GIL, for which they wait then, is no part of it.

    A worker with an input that is `polled` never sleeps. Otherwise it sleeps in epoll when nothing is left to do, but
    not for control[SPIN_NS] after packets of an `adaptive` input: the answer to a packet is often there in less time
    than waking up takes. Waiting in vain, or longer than SPIN_WORTH, is paid for from an account into which flows one
    64th of the time. So a flood or a quick exchange never meets a sleeping worker, and packets that come one by one,
    far apart or not, cost no more waiting than that; on an empty account they wake the worker, as with interrupts.

    Nor is it worth it after an input whose packets are seldom followed by another: after an answer, say. And it does
    harm where the one who would answer waits for this very processor, which is where Linux puts whom we have just
    woken when no other is idle. Both are learned for each input: a wait in vain halves how often there is one.

    `inputs[0]` is how many inputs follow it. `pending` is a ring of node indices, its length a power of two. `events`
    is memory for EPOLL_EVENTS of Linux's packed epoll_event (12 bytes: events, data = input's node index or WAKE).
    """
    rounds = 0
    idle_since = 1  # when the last adaptive packets had been dealt with; 0: they have not
    awake_until = 1
    heard = awaited = 0  # the input they came from, and the one whose packets were waited after
    credit = 0  # ns that may be waited in vain
    credited = 0
    asked_at = 0  # when epoll was asked last
    while cycles() < control[START_AT]:
        pass
    while True:
        if fetch(control, STOP):
            break
        if fetch(control, PARK):
            publish(control, PARKED, 1)
            while fetch(control, PARK) and not fetch(control, STOP):
                nanosleep(2000)
            publish(control, PARKED, 0)
            continue
        asked = fetch(control, SYNC_ASKED)
        if asked != control[SYNC_SEEN] and control[EXCHANGES]:
            exchange(rows, control)
        publish(control, SYNC_SEEN, asked)
        stamp = cycles()
        now = nanoseconds(stamp - control[CLOCK_START], control[NS_NUM])
        context[CONTEXT_NOW] = now
        control[LOOPS] += 1
        worked = 0
        polled = 0  # inputs that keep the worker awake, and whether adaptive ones had packets
        fresh = 0

        # packets that control code sends or gives back
        tail = fetch(control, INJECT_TAIL)
        while control[INJECT_HEAD] < tail:
            at = 2 * (control[INJECT_HEAD] & (RING - 1))
            b, value = int(inject_ring[at]), int(inject_ring[at + 1])
            publish(control, INJECT_HEAD, control[INJECT_HEAD] + 1)
            if value == FREE:
                release(meta, pool, b)
            else:
                enqueue(rows, value, b, pending, control, capacity, slots)
            worked += 1

        for i in range(int(inputs[0])):
            index = int(inputs[i + 1])
            row = rows[index]
            polled |= int(row.polled)
            if row.entry == 0 or (row.ready == 0 and row.polled == 0):
                continue
            emit[0] = uint32(0)
            control[AT_NODE] = index
            n = call_entry(
                row.entry, context.ctypes.data, row.runtime, scratch.ctypes.data, FRAME_SIZE, nexts.ctypes.data
            )
            after = cycles()
            row.calls += uint64(1)
            if n > 0:
                row.vectors += uint64(n)
                row.clocks += uint64(after - stamp)
                worked += n
                if row.adaptive:
                    fresh = 1
                    heard = index
                if control[CAPTURE_KINDS]:
                    capture(int(row.capture), scratch, n, meta, heap, control, now)
                if control[TRACE_ON]:
                    mark(row, scratch, n, meta, control)
                    for k in range(n):
                        before[k] = meta[scratch[k]].cur
                    leave_trace(index, row, scratch, nexts, n, before, meta, heap, trace, control, now)
                if row.via:
                    detour(row, scratch, nexts, n, meta, control)
                move(rows, row, scratch, nexts, n, meta, pool, pending, control, capacity, slots)
            else:
                row.ready = row.asked
            for k in range(int(emit[0])):
                value = int(emit[2 + 2 * k])
                enqueue(rows, resolve(row, value, control), int(emit[1 + 2 * k]), pending, control, capacity, slots)
            stamp = after

        while slots[0] != slots[1]:
            index = int(pending[slots[0] & (len(pending) - 1)])
            slots[0] += 1
            row = rows[index]
            row.pending = 0
            if row.kind == KIND_PYTHON:
                queue = array_at(row.queue, capacity, np.uint32)
                head = fetch(control, PUNT_HEAD)
                while row.head < row.count:
                    b = int(queue[row.head])
                    row.head += 1
                    tail = control[PUNT_TAIL]
                    if tail - head >= RING:
                        control[PUNT_LOST] += 1
                        release(meta, pool, b)
                        continue
                    punt_ring[2 * (tail & (RING - 1))] = uint32(b)
                    punt_ring[2 * (tail & (RING - 1)) + 1] = uint32(index)
                    publish(control, PUNT_TAIL, tail + 1)
                    row.vectors += uint64(1)
                row.calls += uint64(1)
                row.head = 0
                row.count = 0
                if control[MAIN_EVENT_FD] >= 0:
                    write(int(control[MAIN_EVENT_FD]), context.ctypes.data + 8 * CONTEXT_ONE, 8)
                continue
            while row.head < row.count:
                n = min(int(row.count - row.head), FRAME_SIZE)
                queue = array_at(row.queue + 4 * row.head, n, np.uint32)
                for k in range(n):
                    scratch[k] = queue[k]
                row.head += n
                if row.head == row.count:
                    row.head = 0
                    row.count = 0
                if control[TRACE_ON]:
                    mark(row, scratch, n, meta, control)
                    for k in range(n):
                        before[k] = meta[scratch[k]].cur
                if control[CAPTURE_KINDS]:
                    capture(int(row.capture), scratch, n, meta, heap, control, now)
                emit[0] = uint32(0)
                if row.entry == 0:
                    for k in range(n):
                        release(meta, pool, int(scratch[k]))
                    continue
                control[AT_NODE] = index
                call_entry(row.entry, context.ctypes.data, row.runtime, scratch.ctypes.data, n, nexts.ctypes.data)
                after = cycles()
                row.calls += uint64(1)
                row.vectors += uint64(n)
                spent = uint64(after - stamp)
                row.clocks += spent
                if spent > row.max_clocks:
                    row.max_clocks = spent
                if control[TRACE_ON]:
                    leave_trace(index, row, scratch, nexts, n, before, meta, heap, trace, control, now)
                if row.stages:
                    rings = array_at(control[HANDOFF_ADDRESS], control[HANDOFF_WORDS], np.int64)
                    publish_staged(rings, context[CONTEXT_WORKER])
                move(rows, row, scratch, nexts, n, meta, pool, pending, control, capacity, slots)
                for k in range(int(emit[0])):
                    value = int(emit[2 + 2 * k])
                    enqueue(rows, resolve(row, value, control), int(emit[1 + 2 * k]), pending, control, capacity, slots)
                stamp = after

        rounds += 1
        if control[MAX_LOOPS] and rounds >= control[MAX_LOOPS]:
            break
        if control[EPOLL_FD] < 0:
            continue
        if fresh:
            if idle_since:
                waited = min(now, awake_until) - idle_since
                credit -= waited if now >= awake_until else max(0, waited - SPIN_WORTH)
                control[SPUN] += waited
                if awake_until > idle_since:
                    learn(rows[awaited], now < awake_until)
            idle_since = 0
        elif idle_since == 0:
            idle_since = now
            credit = min(credit + ((now - credited) >> SPIN_SHARE), SPIN_SAVED)
            credited = now
            awaited = heard
            awake_until = now + control[SPIN_NS] if credit > 0 and is_worth_waiting(rows[heard]) else now
        timeout = 0
        if worked or polled or now < awake_until:
            if now - asked_at < (ASK_BUSY if worked else ASK_AWAKE):
                continue
        else:
            timeout = SLEEP_MS
            rings = array_at(control[HANDOFF_ADDRESS], control[HANDOFF_WORDS], np.int64)
            if control[HANDOFF_ADDRESS] and not lay_down(rings, context[CONTEXT_WORKER]):
                timeout = 0
            control[SLEEPS] += timeout != 0
        control[EPOLLS] += 1
        asked_at = now
        found = epoll_wait(control[EPOLL_FD], events.ctypes.data, EPOLL_EVENTS, timeout)
        woken_by_fd = 0
        for k in range(found):
            data = (
                int(events[12 * k + 4]) | int(events[12 * k + 5]) << 8 | int(events[12 * k + 6]) << 16
                | int(events[12 * k + 7]) << 24
            )  # fmt: skip
            if data < control[N_NODES]:
                rows[data].ready = 1
                woken_by_fd = 1
            elif timeout:
                control[WAKEUPS] += 1
        if timeout:
            control[FD_WAKEUPS] += woken_by_fd
            if control[HANDOFF_ADDRESS]:
                awake(array_at(control[HANDOFF_ADDRESS], control[HANDOFF_WORDS], np.int64), context[CONTEXT_WORKER])
    control[ENDED_AT] = cycles()
    return rounds
