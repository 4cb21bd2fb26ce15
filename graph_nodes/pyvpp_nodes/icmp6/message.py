# SPDX-License-Identifier: Apache-2.0
"""ICMPv6 types and codes (RFC 4443). A node asks ip6-icmp-error for one of them as an IPv4 node asks ip4-icmp-error:
see `ask_for_error` in pyvpp_nodes.icmp.message."""

UNREACHABLE, PACKET_TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM = 1, 2, 3, 4
NO_ROUTE, ADMIN_PROHIBITED = 0, 1  # of UNREACHABLE
HOP_LIMIT_IN_TRANSIT = 0  # of TIME_EXCEEDED
FIRST_INFORMATIONAL = 128  # types below are errors
REDIRECT = 137
HEADER_BYTES = 8
