# SPDX-License-Identifier: Apache-2.0
"""IPv4 forwarding and what an IPv4 host does with its own packets."""
