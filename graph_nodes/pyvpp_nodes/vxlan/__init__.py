# SPDX-License-Identifier: Apache-2.0
"""VXLAN tunnels (RFC 7348)."""
