# SPDX-License-Identifier: Apache-2.0
"""Ethernet: frames in, frames out, and cross-connects between interfaces."""
