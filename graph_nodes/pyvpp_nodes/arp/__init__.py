# SPDX-License-Identifier: Apache-2.0
"""ARP: answering for our addresses, learning our neighbors'."""
