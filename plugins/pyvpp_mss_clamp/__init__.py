# SPDX-License-Identifier: Apache-2.0
"""mss-clamp: limit the TCP segment size that connections through an interface agree on.

A tunnel's packets are larger than what it carries. Where the ICMP errors that tell a sender so are lost (RFC 2923,
2.1), connections hang; a router that lowers the maximum segment size in SYNs keeps them from sending what does not fit.
"""
