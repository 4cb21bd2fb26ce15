# SPDX-License-Identifier: Apache-2.0
"""What nodes of plugins need again and again, compiled and tested.

    hash_table      flows by keys of 4, 8, 16 or 40 bytes, with expiry; grows a bucket at a time, a million and more
    token_bucket    how many bytes may pass by now
    prefixes        which of a plugin's own prefixes an address is in: longest prefix match
    transport       where the TCP, UDP or ICMP header of an IP packet is, behind options and extension headers
    noise           random numbers

Elsewhere: headers, to read, patch and write, in `ethernet.header`, `ip4.header` and `ip6.header` (`patched`,
`put_header`), the checksums of TCP and UDP in `gso.checksum`; time is the parameter `now`, in nanoseconds; loads and
stores are in `pyvpp.wire`. `pyvpp plugin api` has them all.
"""
