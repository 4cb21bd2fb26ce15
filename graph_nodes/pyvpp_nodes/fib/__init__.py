# SPDX-License-Identifier: Apache-2.0
"""The IPv4 FIB: routes, load balances, adjacencies and neighbors."""
