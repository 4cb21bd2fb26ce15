# SPDX-License-Identifier: Apache-2.0
"""IPv4 in IPv4 tunnels (RFC 2003)."""
