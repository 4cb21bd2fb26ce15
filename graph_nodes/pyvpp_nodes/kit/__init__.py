# SPDX-License-Identifier: Apache-2.0
"""What nodes of plugins need again and again, compiled and tested.

    hash_table      flows by keys of 4, 8, 16 or 40 bytes, with expiry; grows a bucket at a time, a million and more
    token_bucket    how many bytes may pass by now
    transport       where the TCP, UDP or ICMP header of an IP packet is, behind options and extension headers
    noise           random numbers

Elsewhere: headers and checksums in `ip4.header`, `ip6.header` and `gso.checksum` (`patched`, `put_header`), the longest
prefix that matches in `fib.trie`, time as the kernel parameter `now` (nanoseconds), loads and stores in `pyvpp.wire`.
"""
