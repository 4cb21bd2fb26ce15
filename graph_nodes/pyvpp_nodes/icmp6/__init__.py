# SPDX-License-Identifier: Apache-2.0
"""ICMPv6."""
