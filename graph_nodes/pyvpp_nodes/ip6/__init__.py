# SPDX-License-Identifier: Apache-2.0
"""IPv6 forwarding."""
