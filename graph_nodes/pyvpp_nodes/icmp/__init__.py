# SPDX-License-Identifier: Apache-2.0
"""ICMP for IPv4: answers to echo requests, and errors."""
